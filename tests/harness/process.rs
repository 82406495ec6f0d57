//! Child processes.

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Who a process runs as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// As the test itself: root.
    Root,
    /// This uid and gid, no supplementary group, no capability.
    Plain(u32),
}

/// A running child whose output goes to a log file; killed by drop.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

/// The command line before a program that runs as `identity` and, with `dies_with_thread`, is killed when this thread
/// ends.
#[must_use]
pub fn setpriv(identity: Identity, dies_with_thread: bool) -> Vec<String> {
    let mut words = vec!["setpriv".to_owned()];
    if dies_with_thread {
        words.extend(["--pdeathsig".to_owned(), "KILL".to_owned()]);
    }
    if let Identity::Plain(id) = identity {
        words.extend([format!("--reuid={id}"), format!("--regid={id}")]);
        words.extend(
            ["--clear-groups", "--inh-caps=-all", "--bounding-set=-all", "--no-new-privs"].map(str::to_owned),
        );
    }
    words.push("--".to_owned());
    words
}

impl Process {
    /// Starts the command with its output appended to `<folder>/<name>.log` and its pid in `<folder>/../pids`.
    pub fn start(name: &str, command: &mut Command, site: &Path) -> Result<Self> {
        let log = site.join("logs").join(format!("{name}.log"));
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| format!("cannot open {}", log.display()))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().context("cannot share the log")?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        note_pid(site, child.id())?;
        Ok(Self { name: name.to_owned(), child, log })
    }

    /// The process id; the same before and after the wrappers hand over.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.child.id()).context("a pid is an i32")?;
        kill(Pid::from_raw(pid), signal).with_context(|| format!("cannot signal {}", self.name))
    }

    /// Kills with SIGKILL and reaps.
    pub fn kill(&mut self) -> Result<ExitStatus> {
        self.child.kill().with_context(|| format!("cannot kill {}", self.name))?;
        self.child.wait().with_context(|| format!("cannot reap {}", self.name))
    }

    /// Asks to end with SIGTERM; after `limit`, kills. True if it ended by itself.
    pub fn stop(&mut self, limit: Duration) -> Result<bool> {
        self.signal(Signal::SIGTERM)?;
        let start = Instant::now();
        while start.elapsed() < limit {
            if self.exited()?.is_some() {
                return Ok(true);
            }
            #[expect(clippy::disallowed_methods, reason = "between two looks at the process")]
            std::thread::sleep(Duration::from_millis(10));
        }
        self.kill()?;
        Ok(false)
    }

    /// The exit status, if it has ended.
    pub fn exited(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().with_context(|| format!("cannot look at {}", self.name))
    }

    /// An error with the end of its log if it has ended; use it in waits so that they fail early.
    pub fn check(&mut self) -> Result<()> {
        match self.exited()? {
            None => Ok(()),
            Some(status) => {
                anyhow::bail!("{} ended with {status}:\n{}", self.name, last_lines(&self.log, 15))
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already; there is no one left to tell.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The last lines of a text file, or why it cannot be read.
#[must_use]
pub fn last_lines(path: &Path, count: usize) -> String {
    match std::fs::read(path) {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes);
            let lines: Vec<&str> = text.lines().collect();
            lines[lines.len().saturating_sub(count)..].join("\n")
        }
        Err(error) => format!("({}: {error})", path.display()),
    }
}

/// Pid and start time: together they never name another process.
fn note_pid(site: &Path, pid: u32) -> Result<()> {
    let mut file: File = OpenOptions::new()
        .create(true)
        .append(true)
        .open(site.join("pids"))
        .context("cannot open the list of pids")?;
    writeln!(file, "{pid} {}", start_time(pid).unwrap_or_default()).context("cannot note a pid")
}

/// Start of a process in clock ticks since boot, if it exists.
#[must_use]
pub fn start_time(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command name may hold spaces and brackets; the fields after the last ')' do not.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}
