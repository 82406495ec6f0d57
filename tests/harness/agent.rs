//! The agent as a child process, and its local API.

use crate::eventually::eventually;
use crate::netns::{Netns, run};
use crate::process::{Identity, Process, setpriv};
use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// How an agent is started.
#[derive(Clone, Debug)]
pub struct AgentOptions {
    /// The agent is killed when the thread that started it ends.
    pub dies_with_thread: bool,
    /// `auto`, `tcx` or `clsact`.
    pub attach: &'static str,
    /// The API server to read objects from; none: the site's folder.
    pub kubeconfig: Option<PathBuf>,
    /// For proxies that Istio's control plane configures, with the class numbers of the mappings' status.
    pub sidecars: bool,
    /// `/proc/sys` is read-only, as in an unprivileged container.
    pub read_only_sysctls: bool,
    /// `--local-cidrs`.
    pub local_cidrs: Option<&'static str>,
    /// `--listen`: health and metrics.
    pub listen: Option<&'static str>,
    /// The binary of the image instead of the debug build, for figures of size and speed.
    pub image_binary: bool,
}

impl Default for AgentOptions {
    fn default() -> Self {
        Self {
            dies_with_thread: true,
            attach: "auto",
            kubeconfig: None,
            sidecars: false,
            read_only_sysctls: false,
            local_cidrs: None,
            listen: None,
            image_binary: false,
        }
    }
}

/// The command line before a program that finds `/proc/sys` read-only.
const READ_ONLY_SYSCTLS: [&str; 5] = [
    "unshare",
    "--mount",
    "sh",
    "-c",
    "mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys && exec \"$0\" \"$@\"",
];

/// Name of the edge in Kubernetes.
pub const NODE: &str = "edge-1";

/// A running agent; killed by drop, with its programs left in place.
#[derive(Debug)]
pub struct Agent {
    process: Process,
    socket: PathBuf,
}

impl Agent {
    /// Starts it inside the namespace.
    pub fn start(netns: &Netns, site: &Path, options: &AgentOptions) -> Result<Self> {
        let wrapper: &[&str] = if options.read_only_sysctls { &READ_ONLY_SYSCTLS } else { &[] };
        let mut words: Vec<_> = wrapper.iter().map(|word| (*word).to_owned()).collect();
        words.extend(setpriv(Identity::Root, options.dies_with_thread));
        let mut command = netns.command(&words[0]);
        command
            .args(&words[1..])
            .arg(if options.image_binary { image_binary()? } else { binary("clovisor-agent")? })
            .arg("run");
        match &options.kubeconfig {
            None => command.arg("--config").arg(site.join("config")),
            Some(path) => command.args(["--kubernetes", "--node-name", NODE]).env("KUBECONFIG", path),
        };
        if options.sidecars {
            command.args(["--sidecars", "--controller"]);
        } else {
            command.arg("--envoy-dir").arg(site.join("envoy"));
        }
        for (flag, folder) in
            [("--envoy-certs", "certs"), ("--run-dir", "run"), ("--state-dir", "state"), ("--bpffs", "bpffs")]
        {
            command.arg(flag).arg(site.join(folder));
        }
        if let Some(cidrs) = options.local_cidrs {
            command.args(["--local-cidrs", cidrs]);
        }
        if let Some(address) = options.listen {
            command.args(["--listen", address]);
        }
        command.args(["--log-format", "text", "--attach", options.attach]);
        // The agent is a debug build that shares two cores with the load: a late answer is not what tests are about.
        command.args(["--callout-timeout-ms", "200", "--status-pace-ms", "100"]);
        let process = Process::start("agent", &mut command, site)?;
        Ok(Self { process, socket: site.join("run/agent.sock") })
    }

    /// Waits until `/readyz` says so.
    pub fn wait_ready(&mut self) -> Result<()> {
        eventually("readiness of the agent", Duration::from_secs(30), || {
            let (status, body) = self.get("/readyz")?;
            ensure!(status == 200, "{status} {body}");
            Ok(())
        })
        .or_else(|error| self.process.check().and(Err(error)))
    }

    /// Fails with the end of the log if it has ended.
    pub fn check(&mut self) -> Result<()> {
        self.process.check()
    }

    /// `GET path` on the local API: status and body.
    pub fn get(&self, path: &str) -> Result<(u16, String)> {
        let mut stream = UnixStream::connect(&self.socket)
            .with_context(|| format!("cannot connect to {}", self.socket.display()))?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).context("cannot set a timeout")?;
        write!(stream, "GET {path} HTTP/1.0\r\nHost: agent\r\n\r\n").context("cannot ask the agent")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).context("cannot read the agent's answer")?;
        let (head, body) = answer.split_once("\r\n\r\n").context("not an HTTP answer")?;
        let status = head.split(' ').nth(1).and_then(|word| word.parse().ok());
        Ok((status.context("not an HTTP status")?, body.to_owned()))
    }

    /// The same as JSON; an error unless the status is 200.
    pub fn json(&self, path: &str) -> Result<Value> {
        let (status, body) = self.get(path)?;
        ensure!(status == 200, "{path}: {status} {body}");
        serde_json::from_str(&body).with_context(|| format!("{path}: not JSON: {body}"))
    }

    /// Packets counted so far under a verdict's name.
    pub fn counted(&self, reason: &str) -> Result<u64> {
        let status = self.json("/v1/status")?;
        let counters = status["counters"].as_array().context("no counters in the status")?;
        let found = counters.iter().find(|counter| counter["reason"] == reason);
        Ok(found.and_then(|counter| counter["packets"].as_u64()).unwrap_or(0))
    }

    /// The steered flows.
    pub fn sessions(&self) -> Result<Vec<Value>> {
        items(self.json("/v1/sessions")?)
    }

    /// The links.
    pub fn links(&self) -> Result<Vec<Value>> {
        items(self.json("/v1/links")?)
    }

    /// The state of a link: `Up`, `Partial` or `Down`.
    pub fn link_state(&self, name: &str) -> Result<String> {
        let links = self.links()?;
        let link = links.iter().find(|link| link["name"] == name).context("no such link")?;
        Ok(link["state"].as_str().unwrap_or_default().to_owned())
    }

    /// Waits until a link is `Up`, `Partial` or `Down`.
    pub fn wait_link(&self, name: &str, state: &str) -> Result<()> {
        eventually(&format!("link {name} {state}"), Duration::from_secs(10), || {
            let now = self.link_state(name)?;
            ensure!(now == state, "it is {now}");
            Ok(())
        })
    }

    /// Waits until this many gateways of a link are known: it is up with the first of its families.
    pub fn wait_gateways(&self, name: &str, count: usize) -> Result<()> {
        eventually(&format!("{count} gateways of link {name}"), Duration::from_secs(10), || {
            let links = self.links()?;
            let link = links.iter().find(|link| link["name"] == name).context("no such link")?;
            let known = link["gateways"].as_array().map_or(0, Vec::len);
            ensure!(known == count && link["state"] == "Up", "{link}");
            Ok(())
        })
    }

    /// Resident memory, bytes.
    pub fn memory(&self) -> Result<u64> {
        let path = format!("/proc/{}/status", self.process.pid());
        let status = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().context("no number")?;
        Ok(kib * 1024)
    }

    /// CPU time that it has used, all threads.
    pub fn cpu(&self) -> Result<Duration> {
        let path = format!("/proc/{}/stat", self.process.pid());
        let stat = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        let (_, fields) = stat.rsplit_once(") ").context("no fields")?;
        // Fields 14 and 15 of proc(5), in hundredths of a second.
        let ticks: u64 =
            fields.split(' ').skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
        Ok(Duration::from_millis(ticks * 10))
    }

    /// SIGSTOP: it holds its sockets and answers nothing.
    pub fn hang(&self) -> Result<()> {
        self.process.signal(Signal::SIGSTOP)
    }

    /// SIGCONT.
    pub fn wake(&self) -> Result<()> {
        self.process.signal(Signal::SIGCONT)
    }

    /// SIGKILL.
    pub fn kill(mut self) -> Result<()> {
        self.process.kill().map(drop)
    }

    /// SIGTERM; true if it ended within five seconds.
    pub fn stop(mut self) -> Result<bool> {
        self.process.stop(Duration::from_secs(5))
    }
}

/// A list, bare or as `items` of a Kubernetes-like list.
fn items(document: Value) -> Result<Vec<Value>> {
    match document {
        Value::Array(items) => Ok(items),
        Value::Object(mut object) => match object.remove("items") {
            Some(Value::Array(items)) => Ok(items),
            _ => bail!("the answer holds no items"),
        },
        _ => bail!("the answer is no list"),
    }
}

/// A running controller; killed by drop.
#[derive(Debug)]
pub struct Controller(Process);

impl Controller {
    /// Starts it inside the namespace, with the rights of a kubeconfig; `words`: further flags.
    pub fn start(netns: &Netns, site: &Path, name: &str, kubeconfig: &Path, words: &[&str]) -> Result<Self> {
        let mut command = netns.command(binary("clovisor-agent")?);
        command.args(["controller", "--log-format", "text", "--identity", name, "--settle-ms", "300"]);
        command.args(words).env("KUBECONFIG", kubeconfig);
        Process::start(name, &mut command, site).map(Self)
    }

    /// SIGKILL.
    pub fn kill(mut self) -> Result<()> {
        self.0.kill().map(drop)
    }

    /// SIGTERM; true if it ended within five seconds.
    pub fn stop(mut self) -> Result<bool> {
        self.0.stop(Duration::from_secs(5))
    }
}

/// Runs `clovisor-agent cleanup` inside the namespace; its output.
pub fn cleanup(netns: &Netns, site: &Path) -> Result<String> {
    clean(netns, site, "--yes")
}

/// What it would remove, in its own words.
pub fn cleanup_plan(netns: &Netns, site: &Path) -> Result<String> {
    clean(netns, site, "--dry-run")
}

fn clean(netns: &Netns, site: &Path, how: &str) -> Result<String> {
    let mut command = netns.command(binary("clovisor-agent")?);
    command.arg("cleanup").arg(how);
    command.arg("--bpffs").arg(site.join("bpffs")).arg("--run-dir").arg(site.join("run"));
    run(&mut command, None)
}

/// Runs `clovisorctl` against the site's agent; its output.
pub fn ctl(site: &Path, words: &[&str]) -> Result<String> {
    let mut command = Command::new(binary("clovisorctl")?);
    // The same marks and no colours wherever the tests run.
    command.env("LC_ALL", "C").env("NO_COLOR", "1");
    command.arg("--socket").arg(site.join("run/agent.sock")).args(words);
    run(&mut command, None)
}

/// The agent as `cargo xtask image` builds it.
fn image_binary() -> Result<PathBuf> {
    let target = format!("target/{}-unknown-linux-musl/image/clovisor-agent", std::env::consts::ARCH);
    let path = crate::repository::path(&target);
    ensure!(path.is_file(), "no {}; run `cargo xtask image`", path.display());
    Ok(path)
}

/// A binary of this workspace: beside the running one, or one folder up for tests.
pub fn binary(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe().context("no path of the running program")?;
    let found = own.ancestors().skip(1).take(2).map(|dir| dir.join(name)).find(|path| path.is_file());
    found.with_context(|| format!("no {name} beside {}; run `cargo build --workspace`", own.display()))
}
