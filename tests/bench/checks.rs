//! What must not happen while a datapath is measured: its packets would not take the path that its name states, or wait for something.

use anyhow::{Context as _, Result, ensure};
use clovisor_common::abi::Reason;
use harness::datapath_site::{DatapathSite, Steered};
use harness::netns::Netns;
use std::collections::BTreeMap;

/// Reasons of packets that were not steered, or not as the others.
const OFF_THE_PATH: [Reason; 13] = [
    Reason::ForgedSource,
    Reason::UntrustedSocket,
    Reason::UnknownClass,
    Reason::ForeignDestination,
    Reason::MidStream,
    Reason::NoLinkDefault,
    Reason::NoLinkRefused,
    Reason::PortsExhausted,
    Reason::OpensLimited,
    Reason::PodQuota,
    Reason::FlowTableFull,
    Reason::LeakStopped,
    Reason::HelperFailed,
];

/// Counters of TCP (`TcpExt` in `/proc/net/netstat`) that stay where they are as long as every SYN is accepted at once: by name, those of
/// the pod and of the far end. (`PAWSTimewait` is there since 6.15.)
const SYNS: [&str; 3] = ["TCPSynRetrans", "PAWSTimewait", "PAWSEstab"];

/// Counts at one moment, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts(BTreeMap<&'static str, u64>);

impl Counts {
    /// Of the programs, if there are some, and of the kernels at both ends.
    pub(crate) fn read(site: &DatapathSite, steered: Option<&Steered>) -> Result<Self> {
        let mut counts = BTreeMap::new();
        if let Some(steered) = steered {
            let counters = steered.tables.counters()?;
            let of = |reason: Reason| counters.get(&reason).map_or(0, |counter| counter.packets);
            counts.extend(OFF_THE_PATH.map(|reason| (reason.name(), of(reason))));
        }
        for netns in [&site.pod, &site.far] {
            for (name, count) in syns(netns)? {
                *counts.entry(name).or_default() += count;
            }
        }
        Ok(Self(counts))
    }

    /// Fails when a count is another than `before`.
    pub(crate) fn unchanged_since(&self, before: &Self) -> Result<()> {
        let more = self.0.iter().filter_map(|(name, count)| {
            let before = before.0.get(name).copied().unwrap_or(0);
            (*count > before).then(|| format!("{name} {}", count - before))
        });
        let more: Vec<_> = more.collect();
        ensure!(more.is_empty(), "not all packets took the path that is measured: {}", more.join(", "));
        Ok(())
    }

    /// How much a count has grown.
    pub(crate) fn grown_since(&self, before: &Self, name: &str) -> u64 {
        let of = |counts: &Self| counts.0.get(name).copied().unwrap_or(0);
        of(self) - of(before)
    }
}

fn syns(netns: &Netns) -> Result<Vec<(&'static str, u64)>> {
    let text = netns.within(|| std::fs::read_to_string("/proc/thread-self/net/netstat"))??;
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("TcpExt: "));
    let (names, values) = lines.next().zip(lines.next()).context("no TcpExt in /proc/net/netstat")?;
    let all: BTreeMap<&str, &str> = names.split_whitespace().zip(values.split_whitespace()).collect();
    SYNS.into_iter().map(|name| Ok((name, all.get(name).map_or(Ok(0), |value| value.parse())?))).collect()
}
