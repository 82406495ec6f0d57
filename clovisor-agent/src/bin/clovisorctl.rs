//! The command line tool.

use clap::Parser as _;
use clovisor_agent::ctl::cli::Cli;
use clovisor_agent::ctl::outcome::Code;
use clovisor_agent::ctl::run::run;
use std::io::Write as _;
use std::process::ExitCode;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are answers, not errors; where they cannot be printed nobody reads them.
            let _printed = error.print();
            return if error.use_stderr() { ExitCode::from(Code::Usage as u8) } else { ExitCode::SUCCESS };
        }
    };
    match run(&cli).await {
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
