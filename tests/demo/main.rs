//! The demo: Clovisor steers the requests of a mesh client over two links while links and agent fail.
//!
//! **In**: the objects of `deploy/example`. **Out**: a report for people, or one JSON object.
//! **Owns**: one site, removed at the end and on Ctrl-C. **Never**: touches the host's own network.

/// The command line.
mod arguments;

/// Printing of progress and results.
mod output;

/// The site of the demo and its clients.
mod setup;

/// The phases of the demo.
mod script;

/// The result of the demo.
mod report;

use arguments::Arguments;
use clap::Parser;
use output::Output;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let output = Output::new(arguments.json, arguments.no_color);
    setup::clean_up_on_signal();
    match script::run(&arguments, &output) {
        Ok(report) => {
            output.report(&report);
            if report.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            output.failure(&error);
            ExitCode::FAILURE
        }
    }
}
