//! The documents of the API from what the other stages publish.

use crate::desired::pods::Pods;
use crate::link::table::{Health, LinkEntry, LinkTable};
use clovisor_common::packet::{TCP, UDP};
use clovisor_datapath::host::net::HostNet;
use clovisor_datapath::kernel::expiry::ended;
use clovisor_datapath::kernel::flows::FlowEntry;
use clovisor_datapath::kernel::plan::AttachMode;
use clovisor_datapath::kernel::plan::AttachOrigin;
use clovisor_datapath::kernel::state::{Dump, KernelState};
use clovisor_objects::family::IpFamily;
use clovisor_objects::identity::{ObjectKey, ObjectKind};
use clovisor_objects::problem::{Problem, Subject};
use clovisor_objects::reason::ProblemReason;
use clovisor_objects::wan_link::LinkState;
use clovisor_policy::compiled::Compiled;
use clovisor_policy::model::Policy;
use clovisor_render::api;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Names of devices by ifindex.
#[must_use]
pub fn device_names(host: &HostNet) -> BTreeMap<u32, String> {
    host.devices.iter().map(|(ifindex, device)| (*ifindex, device.name.clone())).collect()
}

/// Attached programs, with the names of their devices.
#[must_use]
pub fn attachments(state: &KernelState, devices: &BTreeMap<u32, String>) -> Vec<api::Attachment> {
    let one = |(place, attached): (
        &clovisor_datapath::kernel::plan::AttachPoint,
        &clovisor_datapath::kernel::plan::Attached,
    )| {
        let unnamed = || format!("ifindex {}", place.ifindex);
        api::Attachment {
            program: place.hook.program().into(),
            device: devices.get(&place.ifindex).cloned().unwrap_or_else(unnamed),
            hook: if attached.mode == AttachMode::Clsact { "Clsact" } else { "Tcx" }.into(),
            origin: match attached.origin {
                AttachOrigin::Fresh => "Fresh",
                AttachOrigin::Replaced => "Replaced",
            }
            .into(),
        }
    };
    state.attached.iter().map(one).collect()
}

/// The known pods that can be steered, and where they were found.
#[must_use]
pub fn pods(policy: &Policy, found: &Pods, devices: &BTreeMap<u32, String>) -> Vec<api::PodStatus> {
    let steered = policy
        .pods
        .iter()
        .filter(|(key, _)| policy.namespaces.get(&key.namespace).is_some_and(|ns| ns.zone != 0));
    let one = |(key, pod): (&ObjectKey, &clovisor_policy::model::PodIdentity)| {
        let (device, reason) = match found.get(key) {
            Some(Ok(device)) => (devices.get(&device.ifindex()).cloned(), None),
            Some(Err(reason)) => (None, Some(reason.to_string())),
            None => (None, Some("not looked up yet".to_owned())),
        };
        api::PodStatus {
            namespace: key.namespace.clone(),
            name: key.name.clone(),
            addresses: pod.addresses.iter().map(ToString::to_string).collect(),
            device,
            reason,
        }
    };
    steered.map(one).collect()
}

/// Counters of the kernel half and of the callout, those that counted something.
#[must_use]
pub fn counters(dump: &Dump, callouts: &[(&'static str, u64)]) -> Vec<api::Counter> {
    let kernel = dump.counters.iter().map(|(reason, counter)| api::Counter {
        reason: reason.name().into(),
        packets: counter.packets,
        bytes: counter.bytes,
    });
    let callouts = callouts.iter().map(|(name, count)| api::Counter {
        reason: format!("callout_{name}"),
        packets: *count,
        bytes: 0,
    });
    kernel.chain(callouts).filter(|counter| counter.packets > 0).collect()
}

/// How full the maps are.
#[must_use]
pub fn fill(dump: &Dump) -> Vec<api::MapFill> {
    let one = |f: &clovisor_datapath::kernel::tables::Fill| api::MapFill {
        map: f.map.into(),
        entries: f.entries,
        capacity: f.capacity,
    };
    dump.fill.iter().map(one).collect()
}

/// Every link with its traffic.
#[must_use]
pub fn links(table: &LinkTable, dump: &Dump) -> Vec<api::LinkStatus> {
    table.links.values().map(|link| link_status(link, dump)).collect()
}

/// Links that should take traffic and do not, or not of one address family: problems of the node.
#[must_use]
pub fn links_down(table: &LinkTable) -> Vec<Problem> {
    let wanted = table.links.values().filter(|link| link.wanted != LinkState::Disabled);
    let one = |link: &LinkEntry| {
        let key = ObjectKey { namespace: String::new(), name: link.name.clone() };
        let subject = Subject::object(ObjectKind::WanLink, &key);
        Some(Problem::whole(ProblemReason::LinkDown, subject, link.trouble()?))
    };
    wanted.filter_map(one).collect()
}

fn link_status(link: &LinkEntry, dump: &Dump) -> api::LinkStatus {
    let traffic = dump.links.get(&link.id.0).copied().unwrap_or_default();
    let both = |v4: Option<std::net::Ipv4Addr>, v6: Option<std::net::Ipv6Addr>| {
        let all = [v4.map(IpAddr::from), v6.map(IpAddr::from)];
        all.into_iter().flatten().map(|address| address.to_string()).collect()
    };
    api::LinkStatus {
        name: link.name.clone(),
        device: link.device.clone(),
        state: link.overall().name().into(),
        wanted: link.wanted.to_string(),
        reason: link.trouble().or_else(|| link.closed()),
        families: link.health.iter().map(|(family, health)| family_status(link, family, *health)).collect(),
        gateways: both(link.gateway4, link.gateway6),
        sources: both(link.source4, link.source6),
        mtu: link.mtu,
        tx_bytes: traffic.tx.bytes,
        rx_bytes: traffic.rx.bytes,
        sessions: open_flows(dump).filter(|flow| flow.forward.link == link.id.0).count() as u64,
        since: link.since.to_string(),
    }
}

fn family_status(link: &LinkEntry, family: IpFamily, health: Health) -> api::FamilyStatus {
    let (state, reason) = match health {
        Health::Up => ("Up", None),
        Health::Down(reason) if *link.expected.of(family) => ("Down", Some(link.words(reason))),
        Health::Down(reason) => ("Unused", Some(link.words(reason))),
    };
    api::FamilyStatus { family, state: state.into(), reason }
}

/// Flows of connections that neither side has ended.
pub fn open_flows(dump: &Dump) -> impl Iterator<Item = &FlowEntry> {
    dump.flows.iter().filter(|flow| !ended(&flow.forward, flow.reverse.as_ref()))
}

/// Every steered connection with its pod, class and link.
#[must_use]
pub fn sessions(policy: &Compiled, table: &LinkTable, dump: &Dump) -> Vec<api::Session> {
    let policy = &policy.policy;
    let pods: BTreeMap<IpAddr, &ObjectKey> =
        policy.pods.iter().flat_map(|(key, pod)| pod.addresses.iter().map(move |a| (*a, key))).collect();
    let mut sessions: Vec<_> =
        open_flows(dump).map(|flow| session(policy, &pods, table, dump, flow)).collect();
    sessions.sort_by(|a, b| (&a.namespace, &a.pod, &a.source).cmp(&(&b.namespace, &b.pod, &b.source)));
    sessions
}

const fn protocol(number: u8) -> &'static str {
    match number {
        TCP => "TCP",
        UDP => "UDP",
        _ => "ICMP",
    }
}

fn session(
    policy: &Policy,
    pods: &BTreeMap<IpAddr, &ObjectKey>,
    table: &LinkTable,
    dump: &Dump,
    flow: &FlowEntry,
) -> api::Session {
    let state = &flow.forward;
    let pod = pods.get(&flow.source.ip());
    let class = policy
        .namespaces
        .values()
        .find(|ns| ns.zone == state.zone)
        .and_then(|ns| ns.classes.get(&clovisor_policy::class::ClassId(state.class)));
    let link = table.links.values().find(|link| link.id.0 == state.link);
    let back = flow.reverse.as_ref();
    let last = back.map_or(state.last_seen_ns, |b| b.last_seen_ns.max(state.last_seen_ns));
    let seconds = |ns: u64| dump.now_ns.saturating_sub(ns) / 1_000_000_000;
    api::Session {
        namespace: pod.map(|p| p.namespace.clone()).unwrap_or_default(),
        pod: pod.map(|p| p.name.clone()).unwrap_or_default(),
        protocol: protocol(flow.proto).into(),
        source: flow.source.to_string(),
        destination: flow.destination.to_string(),
        translated_source: flow.translated_source.to_string(),
        translated_destination: flow.translated_destination.to_string(),
        class: state.class,
        class_name: class.map(|c| c.key.to_string()).unwrap_or_default(),
        link: link.map(|l| l.name.clone()).unwrap_or_default(),
        age_seconds: seconds(state.created_ns),
        idle_seconds: seconds(last),
        tx_bytes: state.bytes,
        rx_bytes: back.map_or(0, |b| b.bytes),
    }
}
