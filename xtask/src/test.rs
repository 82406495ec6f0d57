//! `cargo xtask test`: every test, with one line of sum at the end.

use crate::count::{Count, result};
use crate::{demo, image, kernels, setup, shell};
use anyhow::{Context, Result};
use clap::ValueEnum;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

/// The kinds of tests, from the least to the most powerful.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// Pure code; no root.
    Unit,
    /// Packets through the real programs in this kernel.
    Kernel,
    /// The same on other kernels, each booted in QEMU.
    Kernels,
    /// Namespaces, real Envoys, the real agent.
    Site,
    /// The real API server of Kubernetes.
    Cluster,
}

impl Kind {
    /// As on the command line.
    fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    const fn needs_root(self) -> bool {
        matches!(self, Self::Kernel | Self::Site | Self::Cluster)
    }
}

/// Runs the tests of a kind, or all.
pub(crate) fn run(kind: Option<Kind>, filter: Option<&str>) -> Result<Count> {
    let all = Kind::value_variants().iter().copied();
    let wanted: Vec<_> = all.filter(|one| kind.is_none_or(|kind| kind == *one)).collect();
    let as_root: Vec<_> = wanted.iter().filter(|kind| kind.needs_root()).map(|kind| kind.name()).collect();
    if !as_root.is_empty() {
        shell::require_root(&format!("this kind of test ({})", as_root.join(", ")))?;
    }
    demo::build()?;
    let mut sum = Count::default();
    for one in wanted {
        if one == Kind::Cluster {
            setup::control_plane()?;
            image::run()?;
            image::guests()?;
        }
        eprintln!("--- {} tests", one.name());
        let command = if one == Kind::Kernels { kernels::command(filter)? } else { cargo_test(one, filter)? };
        sum.add(counted(command, one)?);
        if one == Kind::Unit {
            sum.add(counted(corpus(filter), one)?);
        }
    }
    println!("\n{} passed, {} failed, {} skipped", sum.passed, sum.failed, sum.skipped);
    Ok(sum)
}

/// The files of `tests/corpus`: as cheap as unit tests, beside the harness that also gives them to Envoy.
fn corpus(filter: Option<&str>) -> Command {
    let mut command = shell::cargo();
    command.args(["test", "--locked", "--package", "clovisor-tests", "--test", "corpus", "--"]).args(filter);
    command
}

fn cargo_test(kind: Kind, filter: Option<&str>) -> Result<Command> {
    let mut command = shell::cargo();
    command.args(["test", "--locked", "--no-fail-fast"]);
    match kind {
        Kind::Unit => command.args(["--workspace", "--exclude", "clovisor-tests", "--tests"]),
        Kind::Kernel | Kind::Kernels => command.args(["--package", "clovisor-tests", "--test", "kernel"]),
        Kind::Site => command.args(["--package", "clovisor-tests", "--test", "site"]),
        Kind::Cluster => command.args(["--package", "clovisor-tests", "--test", "cluster"]),
    };
    if kind.needs_root() && !shell::is_root() {
        command.env(runner_variable()?, "sudo --preserve-env");
    }
    command.arg("--").args(filter);
    Ok(command)
}

/// The variable that makes cargo run tests through another program.
fn runner_variable() -> Result<String> {
    let version = shell::output(Command::new("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc names no host")?;
    Ok(format!("CARGO_TARGET_{}_RUNNER", host.to_uppercase().replace('-', "_")))
}

/// Runs tests, shows every line as it comes but those of tests that passed, and adds up the results. So a test that is skipped
/// says why.
fn counted(mut command: Command, kind: Kind) -> Result<Count> {
    let mut child = command.stdout(Stdio::piped()).spawn().context("cargo test did not start")?;
    let mut count = Count::default();
    for line in BufReader::new(child.stdout.take().context("no output of cargo test")?).lines() {
        let line = line.context("unreadable output of cargo test")?;
        if !line.ends_with(" ... ok") {
            println!("{line}");
        }
        count.add(result(&line).unwrap_or_default());
    }
    let status = child.wait().context("cargo test was lost")?;
    if !status.success() && count.failed == 0 {
        count.broken.push(format!("the {} tests did not run to their end ({status})", kind.name()));
    }
    Ok(count)
}
