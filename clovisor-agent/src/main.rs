//! The node daemon.

use anyhow::{Context, Result};
use clap::{CommandFactory as _, FromArgMatches as _};
use clovisor_agent::config::{AgentCli, AgentCommand, ControllerArgs, LogFormat, RunArgs};
use clovisor_agent::{app, uninstall};
use std::process::ExitCode;
use std::sync::LazyLock;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Release, and the commit that `cargo xtask` builds from. In this file alone: another commit compiles nothing else anew.
static VERSION: LazyLock<String> = LazyLock::new(|| {
    let commit = option_env!("CLOVISOR_COMMIT").unwrap_or("unknown");
    format!("{} (commit {commit})", env!("CARGO_PKG_VERSION"))
});

fn main() -> ExitCode {
    let matches = AgentCli::command().version(VERSION.as_str()).get_matches();
    let cli = AgentCli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let result = match cli.command {
        AgentCommand::Run(args) => run(&args),
        AgentCommand::Controller(args) => control(&args),
        AgentCommand::Cleanup(args) => uninstall::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main(worker_threads = 2)]
async fn run(args: &RunArgs) -> Result<()> {
    log(args.log_format);
    let shutdown = shutdown()?;
    let bound = app::bind(args).await?;
    bound.run(shutdown).await
}

#[tokio::main(flavor = "current_thread")]
async fn control(args: &ControllerArgs) -> Result<()> {
    log(args.log_format);
    app::control(args, shutdown()?).await
}

/// SIGTERM or SIGINT, from now on.
fn shutdown() -> Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot catch SIGTERM")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
    })
}

fn log(format: LogFormat) {
    // Callers log failures of the Kubernetes client themselves, once.
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,kube_client=off"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Json => log.json().init(),
        LogFormat::Text => log.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).init(),
    }
}
