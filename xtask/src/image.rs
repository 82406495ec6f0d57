//! `cargo xtask image`: static binaries in an OCI image layout, with a list of what is in them.
//!
//! **In**: the workspace. **Out**: `target/images/clovisor.tar` (an OCI layout that `ctr images import`, `skopeo` and
//! `podman load` take) and `target/images/clovisor.cdx.json` (CycloneDX). **Never**: pushes anything.

mod layout;
mod sbom;

/// Images of the test cluster.
mod guests;

pub(crate) use guests::run as guests;

use crate::{ebpf, setup, shell};
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Name of the image where no registry is named.
pub(crate) const REFERENCE: &str = concat!("localhost/clovisor:", env!("CARGO_PKG_VERSION"));
const FOLDER: &str = "target/images";
/// What an edge link should have to carry, compressed.
const LIMIT: u64 = 20 << 20;
const BINARIES: [&str; 2] = ["clovisor-agent", "clovisorctl"];

/// Builds the image; the path of its archive.
pub(crate) fn run() -> Result<PathBuf> {
    setup::run(false)?;
    setup::musl(&target())?;
    ebpf::run()?;
    eprintln!("building static binaries (six minutes on two cores the first time)");
    let mut cargo = shell::cargo();
    cargo.args(["build", "--locked", "--profile", "image", "--package", "clovisor-agent", "--bins"]);
    shell::run(cargo.args(["--target", &target()]))?;
    let built = Path::new("target").join(target()).join("image");
    let mut files: Vec<layout::File> = Vec::new();
    for name in BINARIES {
        let bytes = std::fs::read(built.join(name)).with_context(|| format!("no {name} was built"))?;
        files.push(layout::File { path: name.into(), bytes, executable: true });
    }
    for (path, source) in [("licenses/LICENSE", "LICENSE"), ("licenses/LICENSE-MIT", "LICENSE-MIT")] {
        let bytes = std::fs::read(source).with_context(|| format!("read {source}"))?;
        files.push(layout::File { path: path.into(), bytes, executable: false });
    }
    std::fs::create_dir_all(FOLDER).context("create target/images")?;
    let inventory = sbom::cyclonedx()?;
    std::fs::write(Path::new(FOLDER).join("clovisor.cdx.json"), inventory).context("write the inventory")?;
    let revision = shell::output(Command::new("git").args(["rev-parse", "HEAD"])).unwrap_or_default();
    let image = layout::Image {
        reference: REFERENCE,
        revision: revision.trim(),
        entrypoint: &["/clovisor-agent"],
        files,
    };
    let archive = Path::new(FOLDER).join("clovisor.tar");
    image.write(&archive)?;
    let size = std::fs::metadata(&archive).context("no archive")?.len();
    ensure!(size <= LIMIT, "the image has {size} bytes, more than {LIMIT}; see what made it grow");
    println!("{}: {REFERENCE}, {:.1} MB", archive.display(), size as f64 / 1e6);
    Ok(archive)
}

/// The static target of this machine.
fn target() -> String {
    format!("{}-unknown-linux-musl", std::env::consts::ARCH)
}
