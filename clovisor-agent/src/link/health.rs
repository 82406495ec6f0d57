//! The state of each link from the node's network; pure.

use super::device::{Claims, choice, device};
use super::marks::forwarding;
use super::table::{
    Chosen, DownReason, Health, Kept, LinkEntry, LinkId, LinkTable, Mark, MarkMask, PeerAddress,
};
use super::way::{Before, Way, given, next_hop, own_source, reachability, way};
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
    let chosen = |name: &String| {
        let old = before.links.get(name);
        old.map_or_else(|| kept.devices.get(name), |old| old.chosen.as_ref())
    };
    let found = specs.iter().map(|(name, spec)| (name.as_str(), device(spec, net, chosen(name))));
    let claims = Claims::of(specs, found, before, number);
    let mut taken: BTreeSet<u8> = specs.keys().filter_map(number).map(|id| id.0).collect();
    let mut table = LinkTable::default();
    for (name, spec) in specs {
        let old = before.links.get(name);
        let free = || (0..MAX_LINKS as u8).find(|id| !taken.contains(id));
        let Some(id) = number(name).map(|id| LinkId(id.0)).or_else(|| free().map(LinkId)) else {
            continue;
        };
        taken.insert(id.0);
        let mut link = link(
            name,
            spec,
            net,
            Place { id, chosen: chosen(name), device: claims.device(name) },
            (old, now),
        );
        link.shares_device_of = claims.owner(name).map(str::to_owned);
        link.mark = marks.of(id);
        if let Some(had) = kept.families.get(name).filter(|_| old.is_none()) {
            link.expected = PerFamily::each(|family| *link.expected.of(family) || *had.of(family));
        }
        for family in IpFamily::BOTH {
            consider_forwarding(&mut link, spec, net, family, (old, now));
        }
        let same = old.filter(|old| old.overall() == link.overall());
        link.since = same.map_or(now, |o| o.since);
        table.links.insert(name.clone(), link);
    }
    table.addresses = addresses(net, &table, before);
    table
}

/// See [`LinkTable::addresses`].
fn addresses(net: &HostNet, table: &LinkTable, before: &LinkTable) -> Arc<BTreeSet<IpAddr>> {
    let own = net.devices.values().flat_map(|device| &device.addresses).filter(|own| own.scope == 0);
    let used = |link: &LinkEntry| [link.source4.map(IpAddr::V4), link.source6.map(IpAddr::V6)];
    let all = own.map(|own| own.address).chain(table.links.values().flat_map(used).flatten());
    let all: BTreeSet<_> = all.collect();
    if all == *before.addresses { before.addresses.clone() } else { Arc::new(all) }
}

/// Number and device of a link.
struct Place<'a> {
    id: LinkId,
    chosen: Option<&'a Chosen>,
    device: Result<&'a Device, DownReason>,
}

/// The link before, and the time.
type Earlier<'a> = (Option<&'a LinkEntry>, jiff::Timestamp);

fn link(
    name: &str,
    spec: &WanLinkSpec,
    net: &HostNet,
    Place { id, chosen, device: found }: Place<'_>,
    (old, now): Earlier<'_>,
) -> LinkEntry {
    let device = found.ok();
    let selected = || spec.device_selector.as_ref().map(ToString::to_string);
    let wanted = || spec.device.clone().or_else(selected).unwrap_or_default();
    let ways = PerFamily::each(|family| {
        let device = found?;
        way(spec, net, device, Before::of(old, device, family, now), family)
    });
    let addresses = Addresses::of(&ways);
    let lacking = |family| {
        let since = old.and_then(|old| *old.lacking.of(family)).unwrap_or(now);
        ways.of(family).as_ref().ok().filter(|way| way.lacks).map(|_| since)
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
        lacking: PerFamily::each(lacking),
        awaited: PerFamily::each(|family| ways.of(family).as_ref().ok().and_then(|way| way.awaited)),
        shares_device_of: None,
        health: PerFamily::each(|family| ways.of(family).map_or_else(Health::Down, |_| Health::Up)),
        expected: PerFamily::each(|family| is_expected(spec, ways.of(family), old, family)),
        since: jiff::Timestamp::UNIX_EPOCH,
    }
}

/// The health of a family once its way is known: whether the link's mode works on this node. A rule that goes when the route
/// of the node goes may come back with it.
fn consider_forwarding(
    link: &mut LinkEntry,
    spec: &WanLinkSpec,
    net: &HostNet,
    family: IpFamily,
    (old, now): Earlier<'_>,
) {
    if *link.health.of(family) != Health::Up {
        return;
    }
    let mut health = forwarded(link, spec, net, family);
    let device = link.ifindex.and_then(|ifindex| net.devices.get(&ifindex));
    let before = device.and_then(|device| Before::of(old, device, family, now));
    if health == Health::Down(DownReason::MarkUnrouted) && before.is_some_and(|before| before.waits) {
        health = Health::Up;
        let since = old.and_then(|old| *old.lacking.of(family)).unwrap_or(now);
        *link.lacking.of_mut(family) = Some(since);
    }
    *link.health.of_mut(family) = health;
}

/// Sources and gateways of the families that have a way.
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
        for Way { source, gateway, .. } in ways.iter().filter_map(|(_, way)| way.as_ref().ok()) {
            match *source {
                IpAddr::V4(source) => addresses.source4 = Some(source),
                IpAddr::V6(source) => addresses.source6 = Some(source),
            }
            match gateway {
                Some(IpAddr::V4(gateway)) => addresses.gateway4 = Some(*gateway),
                Some(IpAddr::V6(gateway)) => addresses.gateway6 = Some(*gateway),
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

fn peer(peer: &Peer) -> Option<PeerAddress> {
    let port = u16::try_from(peer.port).ok()?;
    let target_port = peer.target_port.map_or(Some(port), |p| u16::try_from(p).ok())?;
    Some(PeerAddress { alias: peer.alias, port, address: peer.address, target_port })
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
            let has_source = own_source(spec, net, device, family).is_some();
            let hop = next_hop(spec, net, device, family).filter(|_| has_source);
            let lacking = hop.filter(|hop| reachability(net, device, *hop) != Some(Reachability::Known));
            wanted.extend(lacking.map(|ip| (ip, device.name.clone())));
        }
    }
    wanted
}

#[cfg(test)]
mod tests;
