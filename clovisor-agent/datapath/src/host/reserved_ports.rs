//! NAT ports, reserved against the node's own sockets: a socket with such a port would lose its answers to a pod.

use super::local_ports::{LocalPorts, list, local_ports, ports, reserve};
use super::net::HostNet;
use crate::files;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

/// Between two looks at the settings, at most and at least: they are long lists.
const LOOK: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_secs(1);

/// The new value of `net.ipv4.ip_local_reserved_ports`, and the part that Clovisor may release again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortPlan {
    pub reserved: BTreeSet<u16>,
    pub ours: BTreeSet<u16>,
}

/// The part of `nat` that the node's sockets may take by themselves.
#[must_use]
pub fn shared(nat: (u16, u16), local: &LocalPorts) -> BTreeSet<u16> {
    let (first, last) = local.range.unwrap_or((1, 0));
    (nat.0.max(first)..=nat.1.min(last)).collect()
}

/// Reserves `wanted` and releases the rest of `ours`; the reservations of others stay.
#[must_use]
pub fn plan(reserved: &BTreeSet<u16>, ours: &BTreeSet<u16>, wanted: &BTreeSet<u16>) -> PortPlan {
    // If a part of ours is gone, another program wrote the list: all of it belongs to that program.
    let foreign = if ours.is_subset(reserved) { reserved - ours } else { reserved.clone() };
    let ours = wanted - &foreign;
    PortPlan { reserved: &foreign | &ours, ours }
}

/// The command that reserves them.
#[must_use]
pub fn command(reserved: &BTreeSet<u16>) -> String {
    format!("sysctl -w net.ipv4.ip_local_reserved_ports={}", list(reserved))
}

/// The record of reserved ports, for a later agent and for `cleanup`.
#[derive(Clone, Debug)]
pub struct PortRecord {
    path: PathBuf,
    kernel: String,
}

#[derive(Serialize, Deserialize)]
struct RecordFile {
    /// Boot and network namespace: the setting ends with them, and what is reserved afterwards is not ours.
    kernel: String,
    ports: String,
}

impl PortRecord {
    /// The file in the folder of sockets.
    #[must_use]
    pub fn in_dir(run_dir: &Path) -> Self {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let netns = fs::read_link("/proc/thread-self/ns/net").unwrap_or_default();
        let kernel = format!("{} {}", boot.trim(), netns.display());
        Self { path: run_dir.join("reserved-ports.json"), kernel }
    }

    /// The ports; none if nothing was reserved in this network namespace since its boot.
    #[must_use]
    pub fn load(&self) -> BTreeSet<u16> {
        let content = match fs::read(&self.path) {
            Ok(text) => serde_json::from_slice::<RecordFile>(&text).map_err(io::Error::from),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return BTreeSet::new(),
            Err(error) => Err(error),
        };
        match content {
            Ok(content) if content.kernel == self.kernel => ports(&content.ports),
            Ok(_) => BTreeSet::new(),
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "record of reserved ports unreadable; these ports stay reserved");
                BTreeSet::new()
            }
        }
    }

    fn save(&self, ours: &BTreeSet<u16>) -> io::Result<()> {
        if ours.is_empty() {
            return Ok(files::remove(&self.path)?);
        }
        let content = RecordFile { kernel: self.kernel.clone(), ports: list(ours) };
        Ok(files::replace(&self.path, &serde_json::to_vec(&content)?)?)
    }

    /// Carries a plan out; `before` is the content of the record. Ports are recorded before they are reserved.
    ///
    /// # Errors
    /// The setting or the record cannot be written; the setting is as it was.
    pub fn apply(&self, plan: &PortPlan, now: &LocalPorts, before: &BTreeSet<u16>) -> io::Result<()> {
        self.save(&(&plan.ours | before))?;
        if plan.reserved != now.reserved
            && let Err(error) = reserve(&plan.reserved)
        {
            self.save(before)?;
            return Err(error);
        }
        self.save(&plan.ours)
    }
}

/// Keeps the ports reserved.
#[derive(Debug)]
pub struct PortKeeper {
    nat: (u16, u16),
    may_reserve: bool,
    record: PortRecord,
    ours: BTreeSet<u16>,
    /// The command that the log named last.
    said: String,
}

impl PortKeeper {
    /// `may_reserve`: else the log only says what to do.
    #[must_use]
    pub fn new(nat: (u16, u16), may_reserve: bool, record: PortRecord) -> Self {
        let ours = record.load();
        Self { nat, may_reserve, record, ours, said: String::new() }
    }

    /// Reads the settings and reserves missing ports, or logs the command that does.
    fn keep(&mut self) {
        let now = local_ports();
        let shared = shared(self.nat, &now);
        let wanted = if self.may_reserve { shared.clone() } else { BTreeSet::new() };
        let plan = plan(&now.reserved, &self.ours, &wanted);
        let mut reason = "--reserve-nat-ports is false".to_owned();
        if plan.reserved != now.reserved || plan.ours != self.ours {
            match self.record.apply(&plan, &now, &self.ours) {
                Ok(()) => {
                    tracing::info!(
                        ports = list(&plan.ours),
                        all = list(&plan.reserved),
                        "NAT ports in net.ipv4.ip_local_reserved_ports: kept from the node's own sockets"
                    );
                    self.ours = plan.ours;
                }
                Err(error) => reason = error.to_string(),
            }
        }
        self.warn(&(&shared - &local_ports().reserved), &reason, &(&now.reserved | &shared));
    }

    fn warn(&mut self, open: &BTreeSet<u16>, reason: &str, all: &BTreeSet<u16>) {
        let command = command(all);
        if open.is_empty() || self.said == command {
            return;
        }
        tracing::warn!(
            ports = list(open),
            reason,
            "--nat-ports overlaps net.ipv4.ip_local_port_range, and the ports are not reserved: a socket of this node \
             could take one of a steered connection and get no answer; choose other ports, or reserve them: {command}"
        );
        self.said = command;
    }

    /// Reserves now, then in a task: at each change of the network, and at intervals, since no event tells of changed settings.
    /// Ports stay reserved when the agent ends, as connections stay.
    pub fn watch(mut self, mut host: watch::Receiver<Arc<HostNet>>) {
        self.keep();
        tokio::spawn(async move {
            while !matches!(timeout(LOOK, host.changed()).await, Ok(Err(_))) {
                self.keep();
                sleep(PAUSE).await;
            }
        });
    }
}

#[cfg(test)]
mod tests;
