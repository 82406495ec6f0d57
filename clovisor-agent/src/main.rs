//! The node daemon.

use anyhow::{Context, Result};
use clap::{CommandFactory as _, FromArgMatches as _};
use clovisor_agent::config::{AgentCli, AgentCommand, ControllerArgs, LogFormat, RunArgs};
use clovisor_agent::log::{Throttle, plain_fields};
use clovisor_agent::{app, uninstall};
use clovisor_datapath::causes::causes;
use clovisor_objects::printable::printable_lines;
use std::process::ExitCode;
use std::sync::LazyLock;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::{EnvFilter, FilterExt as _};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

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
            eprintln!("error: {}", printable_lines(&causes(error.as_ref())));
            ExitCode::FAILURE
        }
    }
}

#[tokio::main(worker_threads = 2)]
async fn run(args: &RunArgs) -> Result<()> {
    let throttle = log(args.log_format);
    tokio::spawn(throttle.clone().run());
    let shutdown = shutdown()?;
    let result = async { app::bind(args).await?.run(shutdown).await }.await;
    throttle.end();
    result
}

#[tokio::main(flavor = "current_thread")]
async fn control(args: &ControllerArgs) -> Result<()> {
    let throttle = log(args.log_format);
    tokio::spawn(throttle.clone().run());
    let result = app::control(args, shutdown()?).await;
    throttle.end();
    result
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

fn log(format: LogFormat) -> Throttle {
    // Callers log failures of the Kubernetes client themselves, once.
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,kube_client=off"));
    let throttle = Throttle::default();
    let filter = filter.and(throttle.clone());
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let registry = tracing_subscriber::registry();
    match format {
        LogFormat::Json => registry.with(layer.json().with_filter(filter)).init(),
        LogFormat::Text => {
            let layer = layer.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()));
            let layer = layer.fmt_fields(plain_fields());
            registry.with(layer.with_filter(filter)).init();
        }
    }
    throttle
}
