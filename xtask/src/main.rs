//! The project's own commands; see `cargo xtask --help`.

mod bench;
mod charts;
mod ci;
mod cluster;
mod corpus;
mod count;
mod demo;
mod ebpf;
mod gen_files;
mod image;
mod kernels;
mod lint;
mod modules;
mod setup;
mod shell;
mod test;
mod workspace;

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Build, test and show Clovisor. Each command first installs what it needs and says so.
#[derive(Parser, Debug)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    after_help = "\
Examples:
  cargo xtask demo              see it work: two links, a mesh client, a far end that tells the truth
  cargo xtask test              every test
  cargo xtask test site exact   site tests whose name contains `exact`
  cargo xtask setup --check     what is missing on this machine, without installing it"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Install what is missing on this machine: packages, the eBPF toolchain, Envoy.
    Setup {
        /// Only report; exit code 1 if something is missing.
        #[arg(long)]
        check: bool,
    },
    /// Compile the kernel half to target/ebpf/clovisor and print how many instructions each program has.
    Ebpf,
    /// Show Clovisor at work in network namespaces; everything after `--` goes to the demo (try --help).
    Demo {
        #[arg(last = true)]
        arguments: Vec<String>,
    },
    /// Measure what steering costs, as ratios; everything after `--` goes to the bench (try --help).
    Bench {
        #[arg(last = true)]
        arguments: Vec<String>,
    },
    /// Build static binaries and put them into an OCI image: target/images/clovisor.tar, with an SBOM.
    Image {
        /// For machines of this kind; the archive of another kind than this machine's is clovisor-ARCH.tar.
        #[arg(long, value_enum, default_value_t = image::Architecture::own())]
        arch: image::Architecture,
    },
    /// A real Kubernetes of two nodes in namespaces of this machine, with Clovisor as a DaemonSet.
    Cluster {
        #[command(subcommand)]
        action: cluster::Action,
    },
    /// Run the tests, all or one kind, optionally only those whose name contains FILTER.
    Test {
        #[arg(value_enum)]
        kind: Option<test::Kind>,
        filter: Option<String>,
    },
    /// Judge every YAML or JSON file below a folder: check, explain, render, and the real Envoy's validation; prints a
    /// table of refusals by reason.
    CheckCorpus {
        folder: std::path::PathBuf,
        /// Add no mappings, clients and endpoints to what the files have.
        #[arg(long)]
        as_is: bool,
    },
    /// Check format, clippy, circles of files, order of modules, sizes, names, the kernel interface and unsafe code.
    Lint {
        /// Record the present kernel interface (after raising ABI_VERSION, or for a change of comments only).
        #[arg(long)]
        bless_abi: bool,
    },
    /// Write the generated files: deploy/crd, the templates of deploy/helm, the tables of README.md and of
    /// clovisor-agent/README.md.
    Gen {
        /// Only compare; exit code 1 if they differ.
        #[arg(long)]
        check: bool,
    },
    /// What a change must pass: lint, gen --check, test, and the demo by its JSON.
    Ci,
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    let here = std::env::current_dir()?;
    std::env::set_current_dir(shell::root()?)?;
    match command {
        Command::Setup { check } => setup::run(check),
        Command::Ebpf => {
            setup::run(false)?;
            let object = ebpf::run()?;
            eprint!("{}", ebpf::sizes(&object)?);
            println!("{}", object.display());
            Ok(())
        }
        Command::Demo { arguments } => demo::run(&arguments),
        Command::Bench { arguments } => bench::run(&arguments),
        Command::Cluster { action } => cluster::run(&action),
        Command::Image { arch } => {
            println!("{}", image::build(arch)?.display());
            Ok(())
        }
        Command::Test { kind, filter } => test::run(kind, filter.as_deref()).and_then(count::Count::verdict),
        Command::CheckCorpus { folder, as_is } => corpus::run(&here.join(folder), as_is),
        Command::Lint { bless_abi } => lint::run(bless_abi),
        Command::Gen { check } => gen_files::run(check),
        Command::Ci => ci::run(),
    }
}
