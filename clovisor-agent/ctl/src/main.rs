//! The command line tool.

use clap::{CommandFactory, FromArgMatches};
use clovisor_ctl::cli::CtlCli;
use clovisor_ctl::fleet;
use clovisor_ctl::fleet::cli::FleetCli;
use clovisor_ctl::outcome::{Code, CtlError};
use clovisor_ctl::run::run;
use std::io::Write as _;
use std::process::ExitCode;
use std::sync::LazyLock;

/// Release, and the commit that `cargo xtask` builds from. In this file alone: another commit compiles nothing else anew.
static VERSION: LazyLock<String> = LazyLock::new(|| {
    let commit = option_env!("CLOVISOR_COMMIT").unwrap_or("unknown");
    format!("{} (commit {commit})", env!("CARGO_PKG_VERSION"))
});

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    // kubectl finds its plugins by their name.
    let is_plugin = std::env::args_os().next().is_some_and(|name| {
        std::path::Path::new(&name).file_name().is_some_and(|file| file == "kubectl-clovisor")
    });
    let result = if is_plugin {
        match parsed::<FleetCli>() {
            Ok(cli) => fleet::run::run(&cli).await,
            Err(error) => return answered(&error),
        }
    } else {
        match parsed::<CtlCli>() {
            Ok(cli) => run(&cli).await,
            Err(error) => return answered(&error),
        }
    };
    finish(result)
}

fn parsed<C: CommandFactory + FromArgMatches>() -> Result<C, clap::Error> {
    C::from_arg_matches(&C::command().version(VERSION.as_str()).try_get_matches()?)
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
