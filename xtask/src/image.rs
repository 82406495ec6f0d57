//! `cargo xtask image`: static binaries in an OCI image layout, with a list of what is in them.
//!
//! **In**: the workspace. **Out**: `target/images/clovisor.tar`, with the architecture behind the name if it is not that
//! of this machine (an OCI layout that `ctr images import`, `skopeo` and
//! `podman load` take) and `target/images/clovisor.cdx.json` (CycloneDX). **Never**: pushes anything.

mod architecture;
mod layout;
mod sbom;

/// Images of the test cluster.
mod guests;

pub(crate) use architecture::Architecture;
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

/// Builds the image of this machine's architecture; the path of its archive.
pub(crate) fn run() -> Result<PathBuf> {
    build(Architecture::own())
}

/// Builds the image for an architecture; the path of its archive.
pub(crate) fn build(architecture: Architecture) -> Result<PathBuf> {
    setup::run(false)?;
    ebpf::run()?;
    let mut cargo = shell::cargo();
    architecture.toolchain(&mut cargo)?;
    eprintln!("building static binaries (six minutes on two cores the first time)");
    cargo.args([
        "build",
        "--locked",
        "--profile",
        "image",
        "--package",
        "clovisor-agent",
        "--package",
        "clovisor-ctl",
        "--bins",
    ]);
    shell::run(cargo.args(["--target", &architecture.target()]))?;
    let built = Path::new("target").join(architecture.target()).join("image");
    for name in BINARIES {
        let version = architecture.output(&built.join(name), &["--version"])?;
        ensure!(version.contains(env!("CARGO_PKG_VERSION")), "{name} --version says {version:?}");
    }
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
        architecture,
        entrypoint: &["/clovisor-agent"],
        files,
    };
    let other =
        if architecture == Architecture::own() { String::new() } else { format!("-{}", architecture.oci()) };
    let archive = Path::new(FOLDER).join(format!("clovisor{other}.tar"));
    image.write(&archive)?;
    let size = std::fs::metadata(&archive).context("no archive")?.len();
    ensure!(size <= LIMIT, "the image has {size} bytes, more than {LIMIT}; see what made it grow");
    eprintln!("{}: {REFERENCE}, {:.1} MB", archive.display(), size as f64 / 1e6);
    Ok(archive)
}
