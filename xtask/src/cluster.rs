//! `cargo xtask cluster`: a real Kubernetes of two nodes to play with.

mod holder;

use crate::{demo, image, setup, shell};
use anyhow::{Context, Result, bail};
use clap::Subcommand;
use holder::{ClusterState, Holder};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

const STATE: &str = "target/cluster.txt";
const PID: &str = "target/cluster.pid";
const LOG: &str = "target/cluster.log";
const PROGRAM: &str = "target/debug/clovisor-cluster";
const ROOT: &str = "the cluster (namespaces, containers and BPF)";

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
            shell::require_root(ROOT)?;
            build()?;
            shell::present(shell::as_root(PROGRAM).arg("demo").args(arguments))
        }
    }
}

fn build() -> Result<()> {
    demo::build()?;
    setup::control_plane()?;
    image::run()?;
    image::guests()
}

/// The cluster that the notes tell of.
fn found() -> ClusterState {
    let note = std::fs::read_to_string(PID).ok();
    holder::state(note.as_deref(), Path::new(STATE).exists(), Holder::runs)
}

fn up() -> Result<()> {
    match found() {
        ClusterState::Absent => {}
        ClusterState::Stale => {
            eprintln!("the last cluster ended without `cargo xtask cluster down`: removing what it left");
        }
        ClusterState::Starting(Holder { pid, .. }) => {
            bail!("a cluster is being started by process {pid}; see {LOG}, or `cargo xtask cluster down`")
        }
        ClusterState::Up(_) => {
            bail!("a cluster is up; see {STATE} for what to try, or `cargo xtask cluster down`")
        }
    }
    shell::require_root(ROOT)?;
    // A new cluster removes by itself what a dead one left.
    forget()?;
    build()?;
    let log = std::fs::File::create(LOG).with_context(|| format!("create {LOG}"))?;
    let mut command = shell::as_root(PROGRAM);
    command.args(["hold", STATE]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    // Not of this terminal: Ctrl-C later must not take it down.
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let mut child = command.spawn().context("the cluster did not start")?;
    let holder = Holder::of(child.id()).context("the cluster ended at once")?;
    std::fs::write(PID, holder.note()).with_context(|| format!("write {PID}"))?;
    let start = Instant::now();
    eprintln!("starting the cluster (process {}); its log is {LOG}", holder.pid);
    while !Path::new(STATE).exists() {
        if child.try_wait().context("the cluster was lost")?.is_some() {
            forget()?;
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
    match found() {
        ClusterState::Absent => bail!("no cluster is up; `cargo xtask cluster up` starts one"),
        ClusterState::Stale => {
            mend()?;
            println!("the cluster had ended without `down`; what it left is gone");
        }
        ClusterState::Starting(holder) | ClusterState::Up(holder) => {
            end(&holder)?;
            forget()?;
            println!("the cluster is gone");
        }
    }
    Ok(())
}

/// Removes what a cluster left whose holder is gone.
fn mend() -> Result<()> {
    shell::require_root(ROOT)?;
    if Path::new(PROGRAM).exists() {
        shell::run(shell::as_root(PROGRAM).arg("remove-stale"))?;
    } else {
        eprintln!(
            "no {PROGRAM}, which removes namespaces and processes: the next `cargo xtask cluster up` does it"
        );
    }
    forget()
}

/// Ends the holder, which takes the cluster away.
fn end(holder: &Holder) -> Result<()> {
    shell::require_root(ROOT)?;
    let pid = holder.pid;
    shell::run(shell::as_root("kill").args(["-TERM", &pid.to_string()]))?;
    let start = Instant::now();
    while holder.runs() {
        if start.elapsed() > Duration::from_secs(60) {
            bail!(
                "process {pid} does not end; see {LOG}, or end it with `kill -KILL {pid}` and run this again"
            );
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// Removes the notes.
fn forget() -> Result<()> {
    for note in [PID, STATE] {
        match std::fs::remove_file(note) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("remove {note}"));
            }
            _ => {}
        }
    }
    Ok(())
}
