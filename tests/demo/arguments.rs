//! The command line.

use clap::Parser;

/// Shows Clovisor at work: two WAN links, a service mesh client, and a far end that reports the link of each connection.
#[derive(Parser, Debug)]
#[command(name = "clovisor-demo", version, after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Print one JSON object on stdout instead of the report
    #[arg(long)]
    pub(crate) json: bool,
    /// Keep the site until Ctrl-C, and print commands to try
    #[arg(long)]
    pub(crate) keep: bool,
    /// Number of requests of the first phase; later phases send a fifth of it each
    #[arg(long, value_name = "N", default_value_t = 3000, value_parser = clap::value_parser!(u32).range(100..=100_000))]
    pub(crate) requests: u32,
    /// Disable colours; NO_COLOR and output to a file or pipe do the same
    #[arg(long)]
    pub(crate) no_color: bool,
}

const EXAMPLES: &str = "\
Examples:
  cargo xtask demo                    all phases, about half a minute
  cargo xtask demo -- --keep          keeps the site to try commands on
  cargo xtask demo -- --json          one object: requests, wrong, errors, failover_ms, per_user, …

Exit codes: 0 every request took the right link; 1 a request did not, or the demo failed; 2 usage error;
130 interrupted.
The demo needs root (network namespaces, BPF) and Envoy (cargo xtask setup).";
