//! The command line.

use clap::Parser;

/// Shows Clovisor at work: two WAN links, a service mesh client, and a far end that tells the truth.
#[derive(Parser, Debug)]
#[command(name = "clovisor-demo", version, after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Print one JSON object on stdout instead of the report.
    #[arg(long)]
    pub(crate) json: bool,
    /// Leave the site up afterwards, with commands to try, until Ctrl-C.
    #[arg(long)]
    pub(crate) keep: bool,
    /// Requests of the first act; the later ones send a fifth each.
    #[arg(long, value_name = "N", default_value_t = 3000, value_parser = clap::value_parser!(u32).range(100..=100_000))]
    pub(crate) requests: u32,
    /// No colours (also: NO_COLOR, or output that is no terminal).
    #[arg(long)]
    pub(crate) no_color: bool,
}

const EXAMPLES: &str = "\
Examples:
  cargo xtask demo                    the whole story, about half a minute
  cargo xtask demo -- --keep          leaves the site up to play with
  cargo xtask demo -- --json          for scripts: requests, wrong, errors, failover_ms, per_user

Exit codes: 0 everything by the right link; 1 something was wrong; 2 usage; 130 interrupted.
It needs root (network namespaces, BPF) and an Envoy (cargo xtask setup).";
