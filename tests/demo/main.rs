//! The demo: one request, the right link, through every layer.
//!
//! **In**: the objects of `deploy/example`. **Out**: a report for people, or one JSON object.
//! **Owns**: one site, removed at the end and on Ctrl-C. **Never**: touches the host's own network.

/// What is printed and how.
mod paper;

/// The site of the demo and who sends requests.
mod stage;

/// The acts.
mod story;

/// What the acts came to.
mod verdict;

use clap::Parser;
use paper::Paper;
use std::process::ExitCode;

/// Shows Clovisor at work: two WAN links, a service mesh client, and a far end that tells the truth.
#[derive(Parser, Debug)]
#[command(name = "clovisor-demo", version, after_help = EXAMPLES)]
struct Arguments {
    /// Print one JSON object on stdout instead of the report.
    #[arg(long)]
    json: bool,
    /// Leave the site up afterwards, with commands to try, until Ctrl-C.
    #[arg(long)]
    keep: bool,
    /// Requests of the first act; the later ones send a fifth each.
    #[arg(long, value_name = "N", default_value_t = 3000, value_parser = clap::value_parser!(u32).range(100..=100_000))]
    requests: u32,
    /// No colours (also: NO_COLOR, or output that is no terminal).
    #[arg(long)]
    no_color: bool,
}

const EXAMPLES: &str = "\
Examples:
  cargo xtask demo                    the whole story, about half a minute
  cargo xtask demo -- --keep          leaves the site up to play with
  cargo xtask demo -- --json          for scripts: requests, wrong, errors, failover_ms, per_user

Exit codes: 0 everything by the right link; 1 something was wrong; 2 usage; 130 interrupted.
It needs root (network namespaces, BPF) and an Envoy (cargo xtask setup).";

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let paper = Paper::new(arguments.json, arguments.no_color);
    stage::clean_up_on_signal();
    match story::tell(&arguments, &paper) {
        Ok(verdict) => {
            paper.verdict(&verdict);
            if verdict.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            paper.failure(&error);
            ExitCode::FAILURE
        }
    }
}
