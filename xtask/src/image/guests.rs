//! Images for the test cluster, from programs of this machine: a pause container, and a proxy with nft.

use super::layout::{File, Image};
use super::{Architecture, FOLDER};
use crate::{setup, shell};
use anyhow::{Context, Result};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Builds both below `target/images`, unless they are there.
pub(crate) fn run() -> Result<()> {
    setup::nodes()?;
    std::fs::create_dir_all(FOLDER).context("create target/images")?;
    let busybox = File { path: "bin/busybox".into(), bytes: read("/bin/busybox")?, executable: true };
    write("pause", &["/bin/busybox", "sleep", "2147483647"], vec![busybox])?;
    let envoy = setup::envoy_binary()?;
    let nft = which("nft")?;
    let mut files = vec![
        File { path: "envoy".into(), bytes: read(&envoy)?, executable: true },
        File { path: "nft".into(), bytes: read(&nft)?, executable: true },
    ];
    for library in libraries(&[&envoy, &nft])? {
        let path = library.to_string_lossy().trim_start_matches('/').to_owned();
        files.push(File { path, bytes: read(&library)?, executable: true });
    }
    write("proxy", &["/envoy"], files)
}

fn write(name: &str, entrypoint: &[&str], files: Vec<File>) -> Result<()> {
    let archive = Path::new(FOLDER).join(format!("{name}.tar"));
    if archive.is_file() {
        return Ok(());
    }
    eprintln!("building the test image {name}");
    let reference = format!("localhost/{name}:1");
    let architecture = Architecture::own();
    Image { reference: &reference, revision: "", architecture, entrypoint, files }.write(&archive)
}

fn read(path: impl AsRef<Path>) -> Result<Vec<u8>> {
    std::fs::read(path.as_ref()).with_context(|| format!("read {}", path.as_ref().display()))
}

fn which(program: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|dir| dir.join(program)).find(|place| place.is_file());
    found.with_context(|| format!("no {program} on PATH; run `cargo xtask setup`"))
}

/// The shared libraries that the programs need, the loader included, at the paths where they look for them.
fn libraries(programs: &[&Path]) -> Result<BTreeSet<PathBuf>> {
    let mut all = BTreeSet::new();
    for program in programs {
        let text = shell::output(Command::new("ldd").arg(program))?;
        // `libm.so.6 => /lib/x86_64-linux-gnu/libm.so.6 (0x…)`, or the loader's path alone.
        let words =
            text.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
        all.extend(words.map(PathBuf::from));
    }
    Ok(all)
}
