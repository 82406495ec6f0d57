//! The state of this node for an explanation.

use super::view::open_flows;
use crate::desired::local::LocalRoutes;
use crate::desired::pods::{Pods, uplinks};
use crate::link::choose::rejection;
use crate::link::table::LinkTable;
use clovisor_common::abi::FLOW_NAT;
use clovisor_common::abi::{ClassKey, NO_LINK, dscp_of_class};
use clovisor_datapath::host::net::HostNet;
use clovisor_datapath::kernel::flows::FlowEntry;
use clovisor_datapath::kernel::image::Image;
use clovisor_datapath::kernel::state::Dump;
use clovisor_objects::family::{IpFamily, PerFamily};
use clovisor_objects::identity::ObjectKey;
use clovisor_objects::wan_mapping::Established;
use clovisor_policy::local::LocalNets;
use clovisor_policy::model::Class;
use clovisor_render::api::OpenConnections;
use clovisor_render::explain::{LinkView, NodeView};
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Links and map contents of this node.
#[derive(Clone, Copy, Debug)]
pub struct LiveNode<'a> {
    pub links: &'a LinkTable,
    pub image: &'a Image,
    pub pods: &'a Pods,
    pub host: &'a HostNet,
    pub local: &'a LocalRoutes,
    /// Names of devices by ifindex.
    pub devices: &'a BTreeMap<u32, String>,
    pub dump: &'a Dump,
}

impl NodeView for LiveNode<'_> {
    fn link(&self, name: &str, namespace: &str) -> LinkView {
        match self.links.links.get(name) {
            None => LinkView {
                state: "Missing",
                rejection: PerFamily::each(|_| Some("there is no such WanLink".into())),
                unused: PerFamily::each(|_| true),
            },
            Some(link) => LinkView {
                state: link.overall().name(),
                rejection: PerFamily::each(|family| rejection(link, namespace, family)),
                unused: PerFamily::each(|family| !link.expected.of(family)),
            },
        }
    }

    fn connections(
        &self,
        addresses: &BTreeSet<IpAddr>,
        zone: u16,
        class: &Class,
        chosen: PerFamily<Option<&str>>,
    ) -> Vec<OpenConnections> {
        let is_meant = |flow: &&FlowEntry| {
            let state = &flow.forward;
            (state.zone, state.class) == (zone, class.id.0) && addresses.contains(&flow.source.ip())
        };
        // Families that choose one link are one group.
        let mut by_link = BTreeMap::<(u8, Option<&str>), Vec<&FlowEntry>>::new();
        for flow in open_flows(self.dump).filter(is_meant) {
            let chosen = *chosen.of(IpFamily::of(flow.source.ip()));
            by_link.entry((flow.forward.link, chosen)).or_default().push(flow);
        }
        let group = |((link, chosen), flows): (_, Vec<&FlowEntry>)| self.on_link(link, &flows, class, chosen);
        by_link.into_iter().map(group).collect()
    }

    fn local(&self, address: IpAddr, objects: &LocalNets) -> Option<String> {
        self.local.reason(address, objects, self.host, &uplinks(self.links))
    }

    fn obstacle(&self, pod: &ObjectKey) -> Option<String> {
        self.pods.get(pod)?.as_ref().err().map(ToString::to_string)
    }

    fn entries(&self, zone: u16, class: &Class) -> Vec<String> {
        let id = class.id.0;
        let key = ClassKey { zone, class: id, pad: 0 };
        let Some(index) = self.image.classes.get(&key) else {
            return vec![format!("CLASSES {{zone {zone}, class {id}}}: not written yet")];
        };
        let mut entries =
            vec![format!("CLASSES {{zone {zone}, class {id} = DSCP {}}} -> slot {index}", dscp_of_class(id))];
        let Some(slot) = self.image.slots.get(index) else {
            return entries;
        };
        let number = |link: u8| if link == NO_LINK { "none".to_owned() } else { link.to_string() };
        entries.push(format!(
            "SLOTS [{index}] -> IPv4 link {}, IPv6 link {}, flags {:#x}, wire DSCP {}",
            number(slot.link4),
            number(slot.link6),
            slot.flags,
            slot.wire_dscp
        ));
        for (number, link) in
            BTreeSet::from([slot.link4, slot.link6]).iter().filter_map(|n| self.image.links.get_key_value(n))
        {
            let device = self.devices.get(&link.ifindex).map_or("?", String::as_str);
            entries.push(format!(
                "LINKS [{number}] -> {device} (ifindex {}), MTU {}, flags {:#x}",
                link.ifindex, link.mtu, link.flags
            ));
        }
        entries
    }
}

impl LiveNode<'_> {
    /// The open connections of a class on one link.
    fn on_link(
        &self,
        link: u8,
        flows: &[&FlowEntry],
        class: &Class,
        chosen: Option<&str>,
    ) -> OpenConnections {
        let now = Timestamp::now();
        let opened = |flow: &&FlowEntry| {
            let age = self.dump.now_ns.saturating_sub(flow.forward.created_ns);
            let age = SignedDuration::from_nanos(i64::try_from(age).unwrap_or(i64::MAX));
            // To the second: the two clocks are not read at once.
            now.checked_sub(age).unwrap_or(now).round(jiff::Unit::Second).unwrap_or(now)
        };
        let first = flows.iter().map(opened).min().unwrap_or(now);
        let last = flows.iter().map(opened).max().unwrap_or(now);
        let entry = self.links.links.values().find(|entry| entry.id.0 == link);
        let name = entry.map_or_else(|| format!("link {link}"), |entry| entry.name.clone());
        let has_nat = flows.iter().any(|flow| flow.forward.flags & FLOW_NAT != 0);
        let other = chosen.filter(|chosen| *chosen != name);
        OpenConnections {
            link: name,
            count: flows.len() as u64,
            opened_first: first.to_string(),
            opened_last: last.to_string(),
            reason: other.map(|other| self.why_there(other, last, class, has_nat)),
        }
    }

    /// Why connections of which the last was opened at this time are not on the link of new ones.
    fn why_there(&self, chosen: &str, last: Timestamp, class: &Class, has_nat: bool) -> String {
        let since = self.links.links.get(chosen).map(|link| link.since).filter(|since| last <= *since);
        let when = match since {
            Some(since) => {
                let since = since.round(jiff::Unit::Second).unwrap_or(since);
                format!("opened before {chosen} came up at {since}")
            }
            None => format!("opened while {chosen} took no connections of this class"),
        };
        let then = match class.established {
            Established::Stay => "`established: Stay` keeps them there until they end",
            Established::Follow if has_nat => {
                "under NAT they stay until they end, also with `established: Follow`"
            }
            Established::Follow => "they are about to move, as `established: Follow` says",
        };
        format!("{when}; {then}")
    }
}
