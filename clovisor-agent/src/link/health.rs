//! The state of each link from the node's network; pure.

use super::device::{choice, device};
use super::marks::forwarding;
use super::table::{
    Chosen, DownReason, Health, Kept, LinkEntry, LinkId, LinkTable, Mark, MarkMask, PeerAddress,
};
use clovisor_common::abi::MAX_LINKS;
use clovisor_datapath::host::net::{Device, HostNet, Reachability};
use clovisor_datapath::host::resolve::route_to;
use clovisor_objects::family::{IpFamily, PerFamily};
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
        link.health = PerFamily::each(|family| match link.health.of(family) {
            Health::Up => forwarded(&link, spec, net, family),
            down => *down,
        });
        let same = old.filter(|old| old.overall() == link.overall());
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
    let ways = PerFamily::each(|family| way(spec, net, found?, old, family));
    let addresses = Addresses::of(&ways);
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
        health: PerFamily::each(|family| ways.of(family).map_or_else(Health::Down, |_| Health::Up)),
        expected: PerFamily::each(|family| is_expected(spec, ways.of(family), old, family)),
        since: jiff::Timestamp::UNIX_EPOCH,
    }
}

/// Source address of packets on a link and their next hop, of one family. No next hop: destinations are on the link.
type Way = (IpAddr, Option<IpAddr>);

/// The same of both families, of those that have a way.
#[derive(Clone, Copy, Debug, Default)]
struct Addresses {
    source4: Option<Ipv4Addr>,
    source6: Option<Ipv6Addr>,
    gateway4: Option<Ipv4Addr>,
    gateway6: Option<Ipv6Addr>,
}

impl Addresses {
    fn of(ways: &PerFamily<Result<Way, DownReason>>) -> Self {
        let mut addresses = Self::default();
        for (source, gateway) in ways.iter().filter_map(|(_, way)| way.ok()) {
            match source {
                IpAddr::V4(source) => addresses.source4 = Some(source),
                IpAddr::V6(source) => addresses.source6 = Some(source),
            }
            match gateway {
                Some(IpAddr::V4(gateway)) => addresses.gateway4 = Some(gateway),
                Some(IpAddr::V6(gateway)) => addresses.gateway6 = Some(gateway),
                None => {}
            }
        }
        addresses
    }
}

/// The link has the family, or should have it: its gateway is given or found, or it had a way before.
fn is_expected(
    spec: &WanLinkSpec,
    way: &Result<Way, DownReason>,
    old: Option<&LinkEntry>,
    family: IpFamily,
) -> bool {
    let gateway = given(spec, family).is_some() || matches!(way, Ok(_) | Err(DownReason::GatewayUnresolved));
    gateway || old.is_some_and(|old| *old.expected.of(family))
}

/// The gateway of `spec`.
fn given(spec: &WanLinkSpec, family: IpFamily) -> Option<IpAddr> {
    match family {
        IpFamily::V4 => spec.gateway.ipv4.map(IpAddr::V4),
        IpFamily::V6 => spec.gateway.ipv6.map(IpAddr::V6),
    }
}

fn peer(peer: &Peer) -> Option<PeerAddress> {
    let port = u16::try_from(peer.port).ok()?;
    let target_port = peer.target_port.map_or(Some(port), |p| u16::try_from(p).ok())?;
    Some(PeerAddress { alias: peer.alias, port, address: peer.address, target_port })
}

/// How packets of a family can leave by the device. `old`: the link before, whose gateways hold until they fail to answer.
fn way(
    spec: &WanLinkSpec,
    net: &HostNet,
    device: &Device,
    old: Option<&LinkEntry>,
    family: IpFamily,
) -> Result<Way, DownReason> {
    if spec.state == LinkState::Disabled {
        return Err(DownReason::Disabled);
    }
    if !device.carrier {
        return Err(DownReason::NoCarrier);
    }
    let source = global(device, family).ok_or(DownReason::NoAddress)?;
    let known = old.filter(|old| old.ifindex == Some(device.ifindex));
    let known = match family {
        IpFamily::V4 => known.and_then(|old| old.gateway4).map(IpAddr::V4),
        IpFamily::V6 => known.and_then(|old| old.gateway6).map(IpAddr::V6),
    };
    let Some(gateway) = given(spec, family).or_else(|| gateway(net, device, family)) else {
        // Without a link layer there is no next hop to know.
        return if device.l3 { Ok((source, None)) } else { Err(DownReason::GatewayUnknown) };
    };
    if device.l3 || device.no_arp || answers(net, device, gateway, known) {
        Ok((source, Some(gateway)))
    } else {
        Err(DownReason::GatewayUnresolved)
    }
}

/// `known`: the gateway that was found before. It holds until it fails to answer: the kernel forgets entries
/// that are not used, and asking again takes a moment.
fn answers(net: &HostNet, device: &Device, gateway: IpAddr, known: Option<IpAddr>) -> bool {
    match reachability(net, device, gateway) {
        Some(Reachability::Known) => true,
        Some(Reachability::Asked) | None => known == Some(gateway),
        Some(Reachability::Failed) => false,
    }
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

/// The reason why the link's mode cannot work on this node, for a family.
fn forwarded(link: &LinkEntry, spec: &WanLinkSpec, net: &HostNet, family: IpFamily) -> Health {
    let unread = net.legacy_tables.of(family == IpFamily::V4);
    match spec.mode {
        Mode::Mark => by_mark(link, net, family),
        Mode::Redirect if !must_not_bypass(spec) => Health::Up,
        Mode::Redirect if net.forward_policy.is_some() => Health::Down(DownReason::PolicyBypassed),
        Mode::Redirect if !unread.is_empty() => Health::Down(DownReason::PolicyUnread(unread)),
        Mode::Redirect => Health::Up,
    }
}

/// The reason why the node cannot forward packets marked for the link, or would drop the answers.
fn by_mark(link: &LinkEntry, net: &HostNet, family: IpFamily) -> Health {
    let v4 = family == IpFamily::V4;
    let device = link.ifindex.and_then(|ifindex| net.devices.get(&ifindex));
    let default = route_to(net, Ipv4Addr::UNSPECIFIED.into()).map(|route| route.ifindex);
    if v4 && default != link.ifindex && device.is_some_and(|device| device.strict) {
        Health::Down(DownReason::StrictReversePath)
    } else if forwarding(link)
        .iter()
        .filter(|entry| entry.is_v4() == v4)
        .all(|entry| net.fwmark.contains(entry))
    {
        Health::Up
    } else {
        Health::Down(DownReason::MarkUnrouted)
    }
}

fn reachability(net: &HostNet, device: &Device, gateway: IpAddr) -> Option<Reachability> {
    let entry = net.neighbours.iter().find(|n| n.ifindex == device.ifindex && n.address == gateway);
    entry.map(|n| n.reachability)
}

/// The gateway that the node's own routes use on the device: of the default route, else of any route.
fn gateway(net: &HostNet, device: &Device, family: IpFamily) -> Option<IpAddr> {
    let route = net.routes.gateway(device.ifindex, family == IpFamily::V4)?;
    route.gateway.filter(|gateway| IpFamily::of(*gateway) == family)
}

fn global(device: &Device, family: IpFamily) -> Option<IpAddr> {
    let addresses = device.addresses.iter().filter(|address| address.scope == 0);
    addresses.map(|address| address.address).find(|ip| IpFamily::of(*ip) == family)
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
        for family in IpFamily::BOTH {
            let has_source = global(device, family).is_some();
            let hop = given(spec, family).or_else(|| gateway(net, device, family)).filter(|_| has_source);
            let lacking = hop.filter(|hop| reachability(net, device, *hop) != Some(Reachability::Known));
            wanted.extend(lacking.map(|ip| (ip, device.name.clone())));
        }
    }
    wanted
}

#[cfg(test)]
mod tests;
