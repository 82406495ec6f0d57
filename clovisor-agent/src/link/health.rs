//! The state of each link from the node's network; pure.

use super::device::{choice, device};
use super::marks::forwarding;
use super::table::{
    Chosen, DownReason, Health, Kept, LinkEntry, LinkId, LinkTable, Mark, MarkMask, PeerAddress,
};
use clovisor_common::abi::MAX_LINKS;
use clovisor_datapath::host::net::{Device, HostNet, Reachability};
use clovisor_datapath::host::resolve::route_to;
use clovisor_objects::wan_link::{LinkState, Mode, Peer, PolicyBypass, WanLinkSpec};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// The table of `specs` now. Numbers, chosen devices and times of change are taken from `before` where the link was
/// known, else from `kept`; a new link gets a free number.
#[must_use]
pub fn observe(
    specs: &BTreeMap<String, Arc<WanLinkSpec>>,
    net: &HostNet,
    before: &LinkTable,
    kept: &Kept,
    marks: MarkMask,
    now: jiff::Timestamp,
) -> LinkTable {
    let number = |name: &String| before.links.get(name).map(|l| l.id).or(kept.numbers.get(name).copied());
    let mut taken: BTreeSet<u8> = specs.keys().filter_map(number).map(|id| id.0).collect();
    let mut table = LinkTable::default();
    for (name, spec) in specs {
        let old = before.links.get(name);
        let free = || (0..MAX_LINKS as u8).find(|id| !taken.contains(id));
        let Some(id) = number(name).map(|id| id.0).or_else(free) else {
            continue;
        };
        taken.insert(id);
        let chosen = old.map_or_else(|| kept.devices.get(name), |old| old.chosen.as_ref());
        let mut link = link(name, spec, net, (LinkId(id), chosen), old);
        link.mark = marks.of(LinkId(id));
        if link.health == Health::Up {
            link.health = forwarded(&link, spec, net);
        }
        let same = old.filter(|o| (o.health == Health::Up) == (link.health == Health::Up));
        link.since = same.map_or(now, |o| o.since);
        table.links.insert(name.clone(), link);
    }
    table
}

fn link(
    name: &str,
    spec: &WanLinkSpec,
    net: &HostNet,
    (id, chosen): (LinkId, Option<&Chosen>),
    old: Option<&LinkEntry>,
) -> LinkEntry {
    let found = device(spec, net, chosen);
    let device = found.ok();
    let selected = || spec.device_selector.as_ref().map(ToString::to_string);
    let wanted = || spec.device.clone().or_else(selected).unwrap_or_default();
    let (health, addresses) = match found {
        Ok(device) => connectivity(spec, net, device, old),
        Err(reason) => (Health::Down(reason), Addresses::default()),
    };
    LinkEntry {
        id,
        name: name.to_owned(),
        device: device.map_or_else(wanted, |d| d.name.clone()),
        chosen: device.map_or_else(|| chosen.cloned(), |device| choice(spec, device)),
        ifindex: device.map(|d| d.ifindex),
        gateway4: addresses.gateway4,
        gateway6: addresses.gateway6,
        source4: addresses.source4,
        source6: addresses.source6,
        mtu: spec
            .mtu
            .and_then(|m| u32::try_from(m).ok())
            .unwrap_or(u32::MAX)
            .min(device.map_or(0, |d| d.mtu)),
        dscp: spec.dscp.and_then(|dscp| u8::try_from(dscp).ok()).unwrap_or(0),
        l3: device.is_some_and(|d| d.l3),
        nat: spec.nat,
        mode: spec.mode,
        mark: Mark::default(),
        wanted: spec.state,
        peers: spec.peers.iter().filter_map(peer).collect(),
        allowed_namespaces: spec.allowed_namespaces.clone(),
        egress_policies: Arc::default(),
        health,
        since: jiff::Timestamp::UNIX_EPOCH,
    }
}

/// Source addresses and next hops of a link, of the families that have both.
#[derive(Clone, Copy, Debug, Default)]
struct Addresses {
    source4: Option<Ipv4Addr>,
    source6: Option<Ipv6Addr>,
    /// None with a source address: destinations are on the link.
    gateway4: Option<Ipv4Addr>,
    gateway6: Option<Ipv6Addr>,
}

fn peer(peer: &Peer) -> Option<PeerAddress> {
    let port = u16::try_from(peer.port).ok()?;
    let target_port = peer.target_port.map_or(Some(port), |p| u16::try_from(p).ok())?;
    Some(PeerAddress { alias: peer.alias, port, address: peer.address, target_port })
}

/// One family's next hop on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hop {
    /// Destinations are on the link itself.
    OnLink,
    Via(IpAddr),
    Unresolved,
    Unknown,
}

/// Whether packets can leave by the device, and how. `old`: the link before, whose gateways hold until they fail to answer.
fn connectivity(
    spec: &WanLinkSpec,
    net: &HostNet,
    device: &Device,
    old: Option<&LinkEntry>,
) -> (Health, Addresses) {
    let mut addresses = Addresses::default();
    let source = |v4: bool| global(device, v4);
    let (source4, source6) = (source(true), source(false));
    let down = match (spec.state, device.carrier, source4.or(source6)) {
        (LinkState::Disabled, ..) => Some(DownReason::Disabled),
        (_, false, _) => Some(DownReason::NoCarrier),
        (_, _, None) => Some(DownReason::NoAddress),
        _ => None,
    };
    if let Some(reason) = down {
        return (Health::Down(reason), addresses);
    }
    let known = old.filter(|old| old.ifindex == Some(device.ifindex));
    let known4 = known.and_then(|old| old.gateway4).map(IpAddr::V4);
    let known6 = known.and_then(|old| old.gateway6).map(IpAddr::V6);
    let hop4 = source4.map(|_| hop(net, device, spec.gateway.ipv4.map(IpAddr::V4), true, known4));
    let hop6 = source6.map(|_| hop(net, device, spec.gateway.ipv6.map(IpAddr::V6), false, known6));
    // A family without a next hop takes no traffic; the other one still may.
    if let (Some(Hop::Via(_) | Hop::OnLink), Some(IpAddr::V4(source))) = (hop4, source4) {
        addresses.source4 = Some(source);
        addresses.gateway4 = if let Some(Hop::Via(IpAddr::V4(hop))) = hop4 { Some(hop) } else { None };
    }
    if let (Some(Hop::Via(_) | Hop::OnLink), Some(IpAddr::V6(source))) = (hop6, source6) {
        addresses.source6 = Some(source);
        addresses.gateway6 = if let Some(Hop::Via(IpAddr::V6(hop))) = hop6 { Some(hop) } else { None };
    }
    let health = if addresses.source4.is_some() || addresses.source6.is_some() {
        Health::Up
    } else if [hop4, hop6].contains(&Some(Hop::Unresolved)) {
        Health::Down(DownReason::GatewayUnresolved)
    } else {
        Health::Down(DownReason::GatewayUnknown)
    };
    (health, addresses)
}

/// Closes links that would bypass a NetworkPolicy to its namespace. `egress_policies`: namespace -> name of a NetworkPolicy that
/// selects its pods.
pub(super) fn close(
    table: &mut LinkTable,
    specs: &BTreeMap<String, Arc<WanLinkSpec>>,
    egress_policies: &Arc<BTreeMap<String, String>>,
) {
    for (name, link) in &mut table.links {
        if specs.get(name).is_some_and(|spec| must_not_bypass(spec)) {
            link.egress_policies.clone_from(egress_policies);
        }
    }
}

/// The link bypasses the policies for forwarded packets, and the bypass is not accepted.
fn must_not_bypass(spec: &WanLinkSpec) -> bool {
    (spec.mode, spec.policy_bypass) == (Mode::Redirect, PolicyBypass::Refused)
}

/// The reason why the link's mode cannot work on this node.
fn forwarded(link: &LinkEntry, spec: &WanLinkSpec, net: &HostNet) -> Health {
    match spec.mode {
        Mode::Mark => by_mark(link, net),
        Mode::Redirect if !must_not_bypass(spec) => Health::Up,
        Mode::Redirect if net.forward_policy.is_some() => Health::Down(DownReason::PolicyBypassed),
        Mode::Redirect if !net.legacy_tables.is_empty() => {
            Health::Down(DownReason::PolicyUnread(net.legacy_tables))
        }
        Mode::Redirect => Health::Up,
    }
}

/// The reason why the node cannot forward packets marked for the link, or would drop the answers.
fn by_mark(link: &LinkEntry, net: &HostNet) -> Health {
    let device = link.ifindex.and_then(|ifindex| net.devices.get(&ifindex));
    let default = route_to(net, Ipv4Addr::UNSPECIFIED.into()).map(|route| route.ifindex);
    if link.source4.is_some() && default != link.ifindex && device.is_some_and(|device| device.strict) {
        Health::Down(DownReason::StrictReversePath)
    } else if forwarding(link).is_subset(&net.fwmark) {
        Health::Up
    } else {
        Health::Down(DownReason::MarkUnrouted)
    }
}

/// `known`: the gateway that was found before. It holds until it fails to answer: the kernel forgets entries
/// that are not used, and asking again takes a moment.
fn hop(net: &HostNet, device: &Device, wanted: Option<IpAddr>, v4: bool, known: Option<IpAddr>) -> Hop {
    let Some(gateway) = wanted.or_else(|| gateway(net, device, v4)) else {
        // Without a link layer there is no next hop to know.
        return if device.l3 { Hop::OnLink } else { Hop::Unknown };
    };
    match reachability(net, device, gateway) {
        _ if device.l3 || device.no_arp => Hop::Via(gateway),
        Some(Reachability::Known) => Hop::Via(gateway),
        Some(Reachability::Asked) | None if known == Some(gateway) => Hop::Via(gateway),
        Some(_) | None => Hop::Unresolved,
    }
}

fn reachability(net: &HostNet, device: &Device, gateway: IpAddr) -> Option<Reachability> {
    let entry = net.neighbours.iter().find(|n| n.ifindex == device.ifindex && n.address == gateway);
    entry.map(|n| n.reachability)
}

/// The gateway that the node's own routes use on the device: of the default route, else of any route.
fn gateway(net: &HostNet, device: &Device, v4: bool) -> Option<IpAddr> {
    net.routes.gateway(device.ifindex, v4)?.gateway.filter(|gateway| gateway.is_ipv4() == v4)
}

fn global(device: &Device, v4: bool) -> Option<IpAddr> {
    let addresses = device.addresses.iter().filter(|address| address.scope == 0);
    addresses.map(|address| address.address).find(|ip| ip.is_ipv4() == v4)
}

/// Next hops whose link-layer address is wanted and not known: what to solicit, with the device's name. `table`: what
/// was observed of the same specs.
#[must_use]
pub fn unresolved(
    specs: &BTreeMap<String, Arc<WanLinkSpec>>,
    table: &LinkTable,
    net: &HostNet,
) -> Vec<(IpAddr, String)> {
    let mut wanted = Vec::new();
    for (name, spec) in specs.iter().filter(|(_, s)| s.state != LinkState::Disabled) {
        let ifindex = table.links.get(name).and_then(|link| link.ifindex);
        let device = ifindex.and_then(|ifindex| net.devices.get(&ifindex));
        let Some(device) = device.filter(|d| d.carrier && !d.l3 && !d.no_arp) else {
            continue;
        };
        for (given, v4) in
            [(spec.gateway.ipv4.map(IpAddr::V4), true), (spec.gateway.ipv6.map(IpAddr::V6), false)]
        {
            let has_source = global(device, v4).is_some();
            let hop = given.or_else(|| gateway(net, device, v4)).filter(|_| has_source);
            let lacking = hop.filter(|hop| reachability(net, device, *hop) != Some(Reachability::Known));
            wanted.extend(lacking.map(|ip| (ip, device.name.clone())));
        }
    }
    wanted
}

#[cfg(test)]
mod tests;
