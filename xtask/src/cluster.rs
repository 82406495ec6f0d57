//! `cargo xtask cluster`: a real Kubernetes of two nodes to play with.

use crate::{demo, image, setup, shell};
use anyhow::{Context, Result, bail};
use clap::Subcommand;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

const STATE: &str = "target/cluster.txt";
const PID: &str = "target/cluster.pid";
const LOG: &str = "target/cluster.log";
const PROGRAM: &str = "target/debug/clovisor-cluster";

/// What to do with it.
#[derive(Subcommand, Debug)]
pub(crate) enum Action {
    /// Start it with Clovisor and three clients, and print things to try.
    Up,
    /// Take it away.
    Down,
    /// Start one, send mixed requests from its clients, take it away; everything after `--` goes to the demo.
    Demo {
        #[arg(last = true)]
        arguments: Vec<String>,
    },
}

/// Sets up, builds, runs.
pub(crate) fn run(action: &Action) -> Result<()> {
    match action {
        Action::Up => up(),
        Action::Down => down(),
        Action::Demo { arguments } => {
            build()?;
            shell::announce_root("the cluster (namespaces, containers and BPF)");
            shell::run(shell::as_root(PROGRAM).arg("demo").args(arguments))
        }
    }
}

fn build() -> Result<()> {
    demo::build()?;
    setup::control_plane()?;
    image::run()?;
    image::guests()
}

fn up() -> Result<()> {
    if Path::new(STATE).exists() {
        bail!("a cluster is up; see {STATE}, or `cargo xtask cluster down`");
    }
    build()?;
    shell::announce_root("the cluster (namespaces, containers and BPF)");
    let log = std::fs::File::create(LOG).with_context(|| format!("create {LOG}"))?;
    let mut command = shell::as_root(PROGRAM);
    command.args(["hold", STATE]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    // Not of this terminal: Ctrl-C later must not take it down.
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let mut child = command.spawn().context("the cluster did not start")?;
    std::fs::write(PID, child.id().to_string()).with_context(|| format!("write {PID}"))?;
    let start = Instant::now();
    while !Path::new(STATE).exists() {
        if child.try_wait().context("the cluster was lost")?.is_some() {
            std::fs::remove_file(PID).ok();
            bail!("the cluster did not come up:\n{}", std::fs::read_to_string(LOG).unwrap_or_default());
        }
        if start.elapsed() > Duration::from_secs(180) {
            bail!("not up after three minutes; see {LOG}, and `cargo xtask cluster down`");
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    print!("{}", std::fs::read_to_string(STATE).with_context(|| format!("read {STATE}"))?);
    Ok(())
}

fn down() -> Result<()> {
    let Ok(pid) = std::fs::read_to_string(PID) else {
        bail!("no cluster is up");
    };
    let pid = pid.trim();
    shell::run(shell::as_root("kill").args(["-TERM", pid]))?;
    let start = Instant::now();
    while is_running(pid) {
        if start.elapsed() > Duration::from_secs(60) {
            bail!("process {pid} does not end; see {LOG}");
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    std::fs::remove_file(PID).with_context(|| format!("remove {PID}"))?;
    std::fs::remove_file(STATE).ok();
    println!("the cluster is gone");
    Ok(())
}

/// A process that has ended and waits to be reaped does not run.
fn is_running(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}
