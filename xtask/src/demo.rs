//! `cargo xtask demo`: builds everything and runs the demo as root.

use crate::{ebpf, setup, shell};
use anyhow::{Result, bail};

/// Sets up, builds, runs. What the demo is given comes after `--`.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    shell::require_root("the demo (network namespaces and BPF)")?;
    build()?;
    let status = shell::as_root("target/debug/clovisor-demo").args(arguments).status()?;
    match status.code() {
        Some(0) => Ok(()),
        // The demo has said why; its own code tells scripts more than one of ours would.
        Some(code) => std::process::exit(code),
        None => bail!("the demo was ended by a signal"),
    }
}

/// The kernel half, then everything else, which embeds it.
pub(crate) fn build() -> Result<()> {
    setup::run(false)?;
    ebpf::run()?;
    shell::run(shell::cargo().args(["build", "--locked", "--workspace", "--bins"]))
}
