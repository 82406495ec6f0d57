//! Packages of the distribution.

use crate::shell;
use anyhow::{Context, Result, bail};

/// Installs Debian packages.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    if !shell::has("apt-get") {
        bail!("no apt-get here; install what these Debian packages hold by hand: {}", packages.join(" "));
    }
    shell::require_root("installing packages")?;
    eprintln!("installing with apt-get: {}", packages.join(" "));
    let apt = |words: &[&str]| {
        let mut command = shell::as_root("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").args(words).arg("--quiet");
        shell::run(&mut command)
    };
    apt(&["update"])?;
    apt(&[&["install", "--yes", "--no-install-recommends"], packages].concat()).context(
        "this distribution does not have a package; for the eBPF toolchain use \
         `rustup toolchain install nightly --component rust-src` and a bpf-linker on PATH",
    )
}
