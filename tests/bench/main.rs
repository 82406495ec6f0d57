//! `cargo xtask bench`: the cost of steering, compared with other datapaths. `README.md` beside this file explains the
//! figures.

mod checks;
mod datapaths;
mod lasting;
mod loads;
mod memory;
mod packets;
mod report;

use anyhow::Result;
use clap::Parser;
use datapaths::{Datapath, Datapaths};
use loads::Load;
use report::Report;
use std::process::ExitCode;

/// Measures the datapath end to end and packet by packet, as ratios within one run.
#[derive(Parser, Debug)]
#[command(name = "cargo xtask bench --", after_help = "tests/bench/README.md explains the figures.")]
struct Args {
    /// Number of end to end rounds; in each round every datapath carries every load once
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Skip the end to end part
    #[arg(long)]
    packets_only: bool,
    /// Also open connections at an ordinary rate for more than a minute, as long as a far end remembers them
    #[arg(long)]
    lasting: bool,
    /// Print one JSON object instead of tables
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
    if args.lasting {
        lasting::measure(&mut report)?;
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

/// Interleaves the datapaths, so that a disturbance of the machine affects all of them.
fn end_to_end(args: &Args, report: &mut Report) -> Result<()> {
    let mut datapaths = Datapaths::build()?;
    for round in 0..args.rounds {
        eprintln!("round {} of {}", round + 1, args.rounds);
        for load in Load::ALL {
            for turn in 0..Datapath::ALL.len() {
                let datapath = Datapath::ALL[(turn + round as usize) % Datapath::ALL.len()];
                report.burst(load, datapath, datapaths.run(datapath, load)?);
            }
        }
    }
    Ok(())
}
