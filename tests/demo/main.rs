//! The demo: one request, the right link, through every layer.
//!
//! **In**: the objects of `deploy/example`. **Out**: a report for people, or one JSON object.
//! **Owns**: one site, removed at the end and on Ctrl-C. **Never**: touches the host's own network.

/// The command line.
mod arguments;

/// What is printed and how.
mod paper;

/// The site of the demo and who sends requests.
mod stage;

/// The acts.
mod story;

/// What the acts came to.
mod verdict;

use arguments::Arguments;
use clap::Parser as _;
use paper::Paper;
use std::process::ExitCode;

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
