//! What the log has told of the links.

use super::table::{DownReason, Health, LinkEntry, LinkTable, Overall};
use clovisor_datapath::host::net::HostNet;
use clovisor_objects::family::IpFamily;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

/// How long gateways have to answer at first before their silence is told.
const SETTLE: Duration = Duration::from_secs(1);
/// Devices of the node that a line names.
const NAMED: usize = 12;

/// The links as the log told them last.
#[derive(Debug)]
pub(super) struct Told {
    links: BTreeMap<String, LinkEntry>,
    /// When links are told that were asked for at the start and have not answered.
    pub(super) settled: Option<Instant>,
    /// No link has a device here.
    is_nowhere: bool,
}

impl Told {
    pub(super) fn new(now: Instant) -> Self {
        Self { links: BTreeMap::new(), settled: Some(now + SETTLE), is_nowhere: false }
    }

    /// A line for each link that is another than before, or new.
    pub(super) fn tell(&mut self, table: &LinkTable, net: &HostNet, now: Instant) {
        self.settled = self.settled.filter(|settled| *settled > now);
        self.links.retain(|name, _| table.links.contains_key(name));
        for (name, link) in &table.links {
            let before = self.links.get(name);
            if before.is_none() && self.settled.is_some() && is_pending(link) {
                continue;
            }
            state(before, link);
            absent(before, link);
            if before.is_none_or(|before| before.egress_policies != link.egress_policies)
                && let Some(closed) = link.closed()
            {
                tracing::warn!(link = name, "{closed}");
            }
            self.links.insert(name.clone(), link.clone());
        }
        let nowhere = nowhere(table, net);
        if let Some(nowhere) = nowhere.as_ref().filter(|_| !self.is_nowhere) {
            tracing::warn!("{nowhere}");
        }
        self.is_nowhere = nowhere.is_some();
    }
}

fn state(before: Option<&LinkEntry>, link: &LinkEntry) {
    let (state, reason) = (link.overall(), link.trouble());
    if before.is_some_and(|before| (before.overall(), before.trouble()) == (state, reason.clone())) {
        return;
    }
    let (name, device, reason) = (&link.name, &link.device, reason.unwrap_or_default());
    match state {
        Overall::Up => tracing::info!(link = name, device, "link up"),
        Overall::Partial => {
            tracing::warn!(link = name, device, reason, "link up for one address family only")
        }
        Overall::Down => tracing::warn!(link = name, device, reason, "link down"),
    }
}

/// Says what a link goes on with although the node's network shows it no more, or another one.
fn absent(before: Option<&LinkEntry>, link: &LinkEntry) {
    let name = &link.name;
    for family in IpFamily::BOTH {
        let was = |part: fn(&LinkEntry, IpFamily) -> bool| before.is_some_and(|before| part(before, family));
        if link.lacking.of(family).is_some() && !was(|link, family| link.lacking.of(family).is_some()) {
            tracing::info!(link = name, %family, "address, route or rule is gone; waiting whether it comes back");
        }
        let awaited = link.awaited.of(family);
        if let Some(gateway) =
            awaited.filter(|_| before.is_none_or(|before| before.awaited.of(family) != awaited))
        {
            tracing::info!(link = name, %gateway, "the new gateway does not answer yet; the old one stays in use");
        }
    }
}

/// It waits for what the agent itself has asked for.
pub(super) fn is_pending(link: &LinkEntry) -> bool {
    let waits = |health: &Health| {
        matches!(health, Health::Down(DownReason::GatewayUnresolved | DownReason::MarkUnrouted))
    };
    link.overall() != Overall::Up && link.health.iter().any(|(_, health)| waits(health))
}

/// Says that the node has the device of no link, with the devices that it has.
fn nowhere(table: &LinkTable, net: &HostNet) -> Option<String> {
    if table.links.is_empty() || table.links.values().any(|link| link.ifindex.is_some()) {
        return None;
    }
    let links: Vec<_> = table.links.values().map(|link| format!("{} ({})", link.name, link.device)).collect();
    let mut devices: Vec<_> = net.devices.values().map(|device| device.name.as_str()).collect();
    devices.sort_unstable();
    let more = if devices.len() > NAMED { ", …" } else { "" };
    devices.truncate(NAMED);
    Some(format!(
        "nothing is steered on this node: it has the device of no WanLink: {}; its devices are {}{more}; set spec.device or \
         spec.deviceSelector, or keep the links off this node by spec.nodeSelector",
        links.join(", "),
        devices.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::super::health::observe;
    use super::super::table::{Kept, MarkMask};
    use super::*;
    use clovisor_objects::wan_link::WanLinkSpec;
    use std::sync::Arc;

    #[test]
    fn a_node_without_the_device_of_any_link_is_told_with_names() {
        let spec = |device: &str| -> Arc<WanLinkSpec> {
            let spec = serde_json::from_value(serde_json::json!({ "device": device }));
            Arc::new(spec.unwrap_or_else(|e| panic!("{e}")))
        };
        let specs = BTreeMap::from([("lte".to_owned(), spec("wwan0")), ("sat".to_owned(), spec("eth7"))]);
        let net = HostNet::default();
        let marks = MarkMask(0x7f00_0000);
        let time = jiff::Timestamp::UNIX_EPOCH;
        let table = observe(&specs, &net, &LinkTable::default(), &Kept::default(), marks, time);
        let text = nowhere(&table, &net).unwrap_or_default();
        assert!(text.contains("lte (wwan0), sat (eth7)") && text.contains("spec.nodeSelector"), "{text}");
        assert_eq!(nowhere(&LinkTable::default(), &net), None);
    }
}
