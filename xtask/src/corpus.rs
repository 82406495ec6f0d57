//! `cargo xtask check-corpus`: what is said of any folder of objects.

use crate::{ebpf, setup, shell};
use anyhow::Result;
use std::path::Path;

/// Builds and runs the checker.
pub(crate) fn run(folder: &Path, as_is: bool) -> Result<()> {
    setup::run(false)?;
    ebpf::run()?;
    let mut command = shell::cargo();
    command.args([
        "run",
        "--locked",
        "--quiet",
        "--package",
        "clovisor-tests",
        "--bin",
        "clovisor-corpus",
        "--",
    ]);
    shell::run(command.arg(folder).args(as_is.then_some("--as-is")))
}
