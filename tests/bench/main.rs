//! `cargo xtask bench`: what steering costs, against what else one would do. See `README.md` beside this file.

mod loads;
mod memory;
mod packets;
mod report;
mod ways;

use anyhow::Result;
use clap::Parser;
use loads::Load;
use report::Report;
use std::process::ExitCode;
use ways::{Way, Ways};

/// Measures the kernel half end to end and packet by packet, as ratios within one run.
#[derive(Parser, Debug)]
#[command(name = "cargo xtask bench --", after_help = "tests/bench/README.md tells how to read the figures.")]
struct Args {
    /// Rounds of the end to end part; in each every way has its turn at every load.
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Leave out the end to end part.
    #[arg(long)]
    packets_only: bool,
    /// Print one JSON object instead of tables.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    let mut report = Report::default();
    if !args.packets_only {
        end_to_end(args, &mut report)?;
    }
    packets::measure(&mut report)?;
    memory::measure(&mut report)?;
    if args.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print!("{report}");
    }
    Ok(())
}

/// Every way at every load in turns, so that what disturbs the machine disturbs all of them.
fn end_to_end(args: &Args, report: &mut Report) -> Result<()> {
    let mut ways = Ways::build()?;
    for round in 0..args.rounds {
        eprintln!("round {} of {}", round + 1, args.rounds);
        for load in Load::ALL {
            for turn in 0..Way::ALL.len() {
                let way = Way::ALL[(turn + round as usize) % Way::ALL.len()];
                report.burst(load, way, ways.run(way, load)?);
            }
        }
    }
    Ok(())
}
