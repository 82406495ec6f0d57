//! Network namespaces.

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, setns};
use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread::JoinHandle;

/// A network namespace: a named one under `/run/netns`, removed by its site and not by drop, or a process's.
#[derive(Clone, Debug)]
pub struct Netns {
    name: String,
    path: PathBuf,
}

impl Netns {
    /// Makes the namespace and brings its loopback up. Its devices may use their addresses at once: duplicate address
    /// detection would hold the first packets of IPv6 back for two seconds.
    pub fn create(name: &str) -> Result<Self> {
        run(Command::new("ip").args(["netns", "add", name]), None)?;
        let netns = Self { name: name.to_owned(), path: PathBuf::from("/run/netns").join(name) };
        netns.sysctl(&[("net/ipv6/conf/all/accept_dad", "0"), ("net/ipv6/conf/default/accept_dad", "0")])?;
        netns.ip("link set lo up")?;
        Ok(netns)
    }

    /// The namespace of a running process, while that runs.
    #[must_use]
    pub fn of_process(pid: u32) -> Self {
        Self { name: format!("process {pid}"), path: PathBuf::from(format!("/proc/{pid}/ns/net")) }
    }

    /// The name under `/run/netns`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that stands for the namespace.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.path.clone()
    }

    /// Runs the lines as one `ip -batch`.
    pub fn ip(&self, script: &str) -> Result<()> {
        // From a thread inside, which costs half of what a program that enters does.
        self.within(|| run(Command::new("ip").args(["-batch", "-"]), Some(script)))??;
        Ok(())
    }

    /// Loads an nft script.
    pub fn nft(&self, script: &str) -> Result<()> {
        self.within(|| run(Command::new("nft").args(["-f", "-"]), Some(script)))??;
        Ok(())
    }

    /// Sets kernel settings of the namespace: (`net/ipv4/ip_forward`, `1`).
    pub fn sysctl(&self, settings: &[(&str, &str)]) -> Result<()> {
        self.within(|| {
            for (key, value) in settings {
                let path = PathBuf::from("/proc/sys").join(key);
                std::fs::write(&path, value).with_context(|| format!("cannot set {key} to {value}"))?;
            }
            Ok(())
        })?
    }

    /// A command that runs inside the namespace. Only the network is entered: `ip netns exec` would
    /// mount its own /sys and hide bpffs.
    #[must_use]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path().display())).arg("--").arg(program);
        command
    }

    /// Runs the closure on a thread of its own inside the namespace and waits for it.
    pub fn within<T: Send>(&self, inside: impl FnOnce() -> T + Send) -> Result<T> {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| self.enter().map(|()| inside()));
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Runs the closure on a thread of its own inside the namespace.
    pub fn spawn<T: Send + 'static>(
        &self,
        name: &str,
        inside: impl FnOnce() -> T + Send + 'static,
    ) -> Result<JoinHandle<Result<T>>> {
        let netns = self.clone();
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || netns.enter().map(|()| inside()))
            .context("cannot start a thread")
    }

    fn enter(&self) -> Result<()> {
        let file = File::open(self.path())
            .with_context(|| format!("no namespace {}; was the site torn down?", self.name))?;
        setns(file, CloneFlags::CLONE_NEWNET)
            .with_context(|| format!("cannot enter {}; run as root", self.name))
    }
}

/// Runs a command to its end, with `input` on stdin; its output, or an error with its own words.
pub fn run(command: &mut Command, input: Option<&str>) -> Result<String> {
    let shown = format!("{command:?}");
    let mut child = command
        .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {shown}; is it installed?"))?;
    if let (Some(text), Some(mut stdin)) = (input, child.stdin.take()) {
        stdin.write_all(text.as_bytes()).with_context(|| format!("{shown} did not read its input"))?;
    }
    let output = child.wait_with_output().with_context(|| format!("cannot wait for {shown}"))?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        bail!("{shown} ended with {}: {}\n{}", output.status, words.trim(), input.unwrap_or_default());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
