//! Running other programs.

use anyhow::{Context, Result, ensure};
use std::process::{Command, Stdio};

/// The standard output of a program that must succeed; its standard error is shown.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output =
        command.stderr(Stdio::inherit()).output().with_context(|| format!("{name} did not start"))?;
    ensure!(output.status.success(), "{name} failed ({})", output.status);
    String::from_utf8(output.stdout).with_context(|| format!("{name} printed no text"))
}

/// The standard output of a program with these arguments.
pub(crate) fn text(program: &str, arguments: &[&str]) -> Result<String> {
    output(Command::new(program).args(arguments))
}
