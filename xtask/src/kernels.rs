//! `cargo xtask test kernels`: builds what the runner in `tests/kernels` boots, and starts it.

use crate::{ebpf, setup, shell};
use anyhow::{Context, Result};
use serde_json::Value;
use std::path::PathBuf;
use std::process::Command;

/// The runner with its arguments; it prints results as cargo does.
pub(crate) fn command(filter: Option<&str>) -> Result<Command> {
    setup::kernels()?;
    ebpf::run()?;
    let mut command = shell::cargo();
    command.args(["run", "--locked", "--quiet", "--package", "clovisor-kernels", "--"]);
    command.arg(test_binary()?).args(filter);
    Ok(command)
}

/// The kernel tests as a program.
fn test_binary() -> Result<PathBuf> {
    let mut cargo = shell::cargo();
    cargo.args(["test", "--locked", "--no-run", "--package", "clovisor-tests", "--test", "kernel"]);
    let messages = shell::output(cargo.args(["--message-format", "json"]))?;
    let mut path = messages.lines().filter_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        (message["target"]["name"] == "kernel").then_some(())?;
        Some(PathBuf::from(message["executable"].as_str()?))
    });
    path.next_back().context("cargo built no kernel tests")
}
