//! The command line tool.

use clap::Parser as _;
use clovisor_ctl::cli::CtlCli;
use clovisor_ctl::fleet;
use clovisor_ctl::fleet::cli::FleetCli;
use clovisor_ctl::outcome::{Code, CtlError};
use clovisor_ctl::run::run;
use std::io::Write as _;
use std::process::ExitCode;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    // kubectl finds its plugins by their name.
    let is_plugin = std::env::args_os().next().is_some_and(|name| {
        std::path::Path::new(&name).file_name().is_some_and(|file| file == "kubectl-clovisor")
    });
    let result = if is_plugin {
        match FleetCli::try_parse() {
            Ok(cli) => fleet::run::run(&cli).await,
            Err(error) => return answered(&error),
        }
    } else {
        match CtlCli::try_parse() {
            Ok(cli) => run(&cli).await,
            Err(error) => return answered(&error),
        }
    };
    finish(result)
}

/// Help and version are no errors; a failure to print them is ignored.
fn answered(error: &clap::Error) -> ExitCode {
    let _printed = error.print();
    if error.use_stderr() { ExitCode::from(Code::Usage as u8) } else { ExitCode::SUCCESS }
}

fn finish(result: Result<String, CtlError>) -> ExitCode {
    match result {
        Ok(text) => match std::io::stdout().write_all(text.as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::from(Code::Failed as u8),
        },
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(error.code as u8)
        }
    }
}
