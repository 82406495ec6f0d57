//! The state of each link, from what netlink says: pure.

use super::device::{choice, device};
use super::marks::{Mark, MarkMask, forwarding};
use super::table::{Chosen, DownReason, Health, Kept, Link, LinkId, LinkTable, PeerAddress};
use crate::cluster::wan_link::{LinkState, Mode, Peer, WanLinkSpec};
use crate::host::net::{Device, HostNet, Reach};
use crate::host::resolve::route_to;
use clovisor_common::abi::MAX_LINKS;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

impl fmt::Display for DownReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DeviceMissing => "the device does not exist on this node",
            Self::DeviceAmbiguous => {
                "spec.deviceSelector means several devices of this node; give more of it"
            }
            Self::NoCarrier => "the device is down or has no carrier",
            Self::NoAddress => "the device has no global address",
            Self::GatewayUnknown => "no route through the device names a gateway; set spec.gateway",
            Self::GatewayUnresolved => "the gateway does not answer (ARP or neighbour discovery)",
            Self::MarkUnrouted => "the rule and route for its mark are not set yet (ip rule, fwmark)",
            Self::StrictReversePath => {
                "the stack would drop what returns, since the default route is another one; set rp_filter of the device to 2"
            }
            Self::Disabled => "spec.state is Disabled",
        })
    }
}

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
        if link.health == Health::Up && link.mode == Mode::Mark {
            link.health = by_mark(&link, net);
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
    old: Option<&Link>,
) -> Link {
    let found = device(spec, net, chosen);
    let device = found.ok();
    let selected = || spec.device_selector.as_ref().map(ToString::to_string);
    let wanted = || spec.device.clone().or_else(selected).unwrap_or_default();
    let mut link = Link {
        id,
        name: name.to_owned(),
        device: device.map_or_else(wanted, |d| d.name.clone()),
        chosen: device.map_or_else(|| chosen.cloned(), |device| choice(spec, device)),
        ifindex: device.map(|d| d.ifindex),
        gateway4: None,
        gateway6: None,
        source4: None,
        source6: None,
        mtu: spec
            .mtu
            .and_then(|m| u32::try_from(m).ok())
            .unwrap_or(u32::MAX)
            .min(device.map_or(0, |d| d.mtu)),
        bare: device.is_some_and(|d| d.bare),
        nat: spec.nat,
        mode: spec.mode,
        mark: Mark::default(),
        wanted: spec.state,
        peers: spec.peers.iter().filter_map(peer).collect(),
        allowed_namespaces: spec.allowed_namespaces.clone(),
        health: Health::Down(found.err().unwrap_or(DownReason::DeviceMissing)),
        since: jiff::Timestamp::UNIX_EPOCH,
    };
    if let Some(device) = device {
        link.health = judge(&mut link, spec, net, device, old);
    }
    link
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

fn judge(link: &mut Link, spec: &WanLinkSpec, net: &HostNet, device: &Device, old: Option<&Link>) -> Health {
    if spec.state == LinkState::Disabled {
        return Health::Down(DownReason::Disabled);
    }
    if !device.carrier {
        return Health::Down(DownReason::NoCarrier);
    }
    let source = |v4: bool| device.addresses.iter().map(|(ip, _)| *ip).find(|ip| ip.is_ipv4() == v4);
    let (source4, source6) = (source(true), source(false));
    if source4.is_none() && source6.is_none() {
        return Health::Down(DownReason::NoAddress);
    }
    let known = old.filter(|old| old.ifindex == Some(device.ifindex));
    let known4 = known.and_then(|old| old.gateway4).map(IpAddr::V4);
    let known6 = known.and_then(|old| old.gateway6).map(IpAddr::V6);
    let hop4 = source4.map(|_| hop(net, device, spec.gateway.ipv4.map(IpAddr::V4), true, known4));
    let hop6 = source6.map(|_| hop(net, device, spec.gateway.ipv6.map(IpAddr::V6), false, known6));
    // A family without a next hop takes no traffic; the other one still may.
    if let (Some(Hop::Via(_) | Hop::OnLink), Some(IpAddr::V4(source))) = (hop4, source4) {
        link.source4 = Some(source);
        link.gateway4 = if let Some(Hop::Via(IpAddr::V4(hop))) = hop4 { Some(hop) } else { None };
    }
    if let (Some(Hop::Via(_) | Hop::OnLink), Some(IpAddr::V6(source))) = (hop6, source6) {
        link.source6 = Some(source);
        link.gateway6 = if let Some(Hop::Via(IpAddr::V6(hop))) = hop6 { Some(hop) } else { None };
    }
    if link.source4.is_some() || link.source6.is_some() {
        Health::Up
    } else if [hop4, hop6].contains(&Some(Hop::Unresolved)) {
        Health::Down(DownReason::GatewayUnresolved)
    } else {
        Health::Down(DownReason::GatewayUnknown)
    }
}

/// Can the stack forward what is marked for the link, and will it take what returns?
fn by_mark(link: &Link, net: &HostNet) -> Health {
    let device = link.ifindex.and_then(|ifindex| net.devices.get(&ifindex));
    let default = route_to(net, Ipv4Addr::UNSPECIFIED.into()).map(|route| route.ifindex);
    if link.source4.is_some() && default != link.ifindex && device.is_some_and(|device| device.strict) {
        Health::Down(DownReason::StrictReversePath)
    } else if forwarding(link).is_subset(&net.marked) {
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
        return if device.bare { Hop::OnLink } else { Hop::Unknown };
    };
    match reach(net, device, gateway) {
        _ if device.bare => Hop::Via(gateway),
        Some(Reach::Known) => Hop::Via(gateway),
        Some(Reach::Asked) | None if known == Some(gateway) => Hop::Via(gateway),
        Some(_) | None => Hop::Unresolved,
    }
}

fn reach(net: &HostNet, device: &Device, gateway: IpAddr) -> Option<Reach> {
    let entry = net.neighbours.iter().find(|n| n.ifindex == device.ifindex && n.address == gateway);
    entry.map(|n| n.reach)
}

/// The gateway that the node's own routes use on the device: of the default route, else of any route.
fn gateway(net: &HostNet, device: &Device, v4: bool) -> Option<IpAddr> {
    let through = net.routes.iter().filter(|r| r.ifindex == device.ifindex && r.destination.is_ipv4() == v4);
    through.filter(|r| r.gateway.is_some()).min_by_key(|r| (r.prefix, r.metric))?.gateway
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
        let Some(device) = device.filter(|d| d.carrier && !d.bare) else {
            continue;
        };
        for (given, v4) in
            [(spec.gateway.ipv4.map(IpAddr::V4), true), (spec.gateway.ipv6.map(IpAddr::V6), false)]
        {
            let has_source = device.addresses.iter().any(|(ip, _)| ip.is_ipv4() == v4);
            let hop = given.or_else(|| gateway(net, device, v4)).filter(|_| has_source);
            let lacking = hop.filter(|hop| reach(net, device, *hop) != Some(Reach::Known));
            wanted.extend(lacking.map(|ip| (ip, device.name.clone())));
        }
    }
    wanted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::wan_link::{Gateway, Nat};
    use crate::host::net::{Neighbour, Route};
    use std::net::Ipv4Addr;

    const HOP: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 9, 0, 1));

    fn spec(device: &str) -> WanLinkSpec {
        WanLinkSpec {
            node_selector: BTreeMap::new(),
            device: Some(device.into()),
            device_selector: None,
            gateway: Gateway::default(),
            nat: Nat::Masquerade,
            mode: Mode::Redirect,
            mtu: None,
            state: LinkState::Active,
            peers: Vec::new(),
            allowed_namespaces: Vec::new(),
        }
    }

    fn net() -> HostNet {
        let s9 = Device {
            ifindex: 9,
            name: "s9".into(),
            mtu: 1500,
            carrier: true,
            mac: vec![2, 0, 0, 0, 0, 9],
            addresses: vec![(IpAddr::V4(Ipv4Addr::new(10, 9, 0, 2)), 24)],
            ..Device::default()
        };
        let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        HostNet {
            devices: [(9, s9)].into(),
            routes: vec![Route { destination: any, prefix: 0, gateway: Some(HOP), ifindex: 9, metric: 0 }],
            neighbours: vec![Neighbour { address: HOP, ifindex: 9, mac: vec![1], reach: Reach::Known }],
            ..HostNet::default()
        }
    }

    const MARKS: MarkMask = MarkMask(0x7f00_0000);

    const FRESH: (LinkId, Option<&Chosen>) = (LinkId(0), None);

    fn health(spec: &WanLinkSpec, net: &HostNet) -> Health {
        link("s9", spec, net, FRESH, None).health
    }

    fn asked(specs: &BTreeMap<String, Arc<WanLinkSpec>>, net: &HostNet) -> Vec<(IpAddr, String)> {
        let table =
            observe(specs, net, &LinkTable::default(), &Kept::default(), MARKS, jiff::Timestamp::UNIX_EPOCH);
        unresolved(specs, &table, net)
    }

    #[test]
    fn a_link_is_up_when_everything_on_the_way_is() {
        let up = link("s9", &spec("s9"), &net(), FRESH, None);
        assert_eq!(up.health, Health::Up);
        assert_eq!(
            (up.gateway4, up.source4),
            (Some(Ipv4Addr::new(10, 9, 0, 1)), Some(Ipv4Addr::new(10, 9, 0, 2)))
        );
        assert_eq!(up.mtu, 1500);
        type Break = fn(&mut HostNet);
        let rows: [(Break, DownReason); 5] = [
            (|n| n.devices.clear(), DownReason::DeviceMissing),
            (|n| n.devices.values_mut().for_each(|d| d.carrier = false), DownReason::NoCarrier),
            (|n| n.devices.values_mut().for_each(|d| d.addresses.clear()), DownReason::NoAddress),
            (|n| n.routes.clear(), DownReason::GatewayUnknown),
            (|n| n.neighbours.clear(), DownReason::GatewayUnresolved),
        ];
        for (break_it, reason) in rows {
            let mut net = net();
            break_it(&mut net);
            assert_eq!(health(&spec("s9"), &net), Health::Down(reason));
        }
    }

    #[test]
    fn a_forgotten_gateway_holds_until_it_fails_to_answer() {
        let up = link("s9", &spec("s9"), &net(), FRESH, None);
        let rows = [(None, Health::Up), (Some(Reach::Asked), Health::Up), (Some(Reach::Known), Health::Up)];
        let failed = (Some(Reach::Failed), Health::Down(DownReason::GatewayUnresolved));
        for (reach, health) in rows.into_iter().chain([failed]) {
            let mut net = net();
            net.neighbours.clear();
            net.neighbours.extend(reach.map(|reach| Neighbour {
                address: HOP,
                ifindex: 9,
                mac: vec![1],
                reach,
            }));
            assert_eq!(link("s9", &spec("s9"), &net, FRESH, Some(&up)).health, health, "{reach:?}");
        }
    }

    #[test]
    fn the_gateway_may_be_given_and_is_solicited() {
        let mut net = net();
        net.routes.clear();
        net.neighbours.clear();
        let mut spec = spec("s9");
        spec.gateway.ipv4 = Some(Ipv4Addr::new(10, 9, 0, 1));
        assert_eq!(health(&spec, &net), Health::Down(DownReason::GatewayUnresolved));
        let specs = BTreeMap::from([("s9".to_owned(), Arc::new(spec.clone()))]);
        assert_eq!(asked(&specs, &net), [(HOP, "s9".to_owned())]);
        net.neighbours.push(Neighbour { address: HOP, ifindex: 9, mac: vec![1], reach: Reach::Known });
        assert_eq!(health(&spec, &net), Health::Up);
        assert_eq!(asked(&specs, &net), []);
    }

    #[test]
    fn a_device_without_link_layer_needs_no_gateway() {
        let mut net = net();
        net.routes.clear();
        net.devices.values_mut().for_each(|d| d.bare = true);
        assert_eq!(health(&spec("s9"), &net), Health::Up);
    }

    #[test]
    fn a_link_by_mark_waits_for_its_rule_and_minds_the_reverse_path() {
        let specs =
            BTreeMap::from([("s9".to_owned(), Arc::new(WanLinkSpec { mode: Mode::Mark, ..spec("s9") }))]);
        let at = jiff::Timestamp::UNIX_EPOCH;
        let observed = |net: &HostNet| {
            observe(&specs, net, &LinkTable::default(), &Kept::default(), MARKS, at).links["s9"].clone()
        };
        let mut net = net();
        assert_eq!(observed(&net).health, Health::Down(DownReason::MarkUnrouted));
        net.marked = forwarding(&observed(&net));
        assert_eq!(net.marked.len(), 5, "{:?}", net.marked);
        assert_eq!(observed(&net).health, Health::Up);
        net.devices.values_mut().for_each(|d| d.strict = true);
        assert_eq!(observed(&net).health, Health::Up, "the default route is its own");
        net.routes[0].ifindex = 8;
        assert_eq!(observed(&net).health, Health::Down(DownReason::GatewayUnknown));
        net.routes.push(Route { metric: 100, ifindex: 9, ..net.routes[0].clone() });
        assert_eq!(observed(&net).health, Health::Down(DownReason::StrictReversePath));
    }

    #[test]
    fn numbers_stay_and_times_move_with_the_state() {
        let specs = |names: &[&str]| -> BTreeMap<String, Arc<WanLinkSpec>> {
            names.iter().map(|n| ((*n).to_owned(), Arc::new(spec(n)))).collect()
        };
        let at = |s| jiff::Timestamp::from_second(s).unwrap_or_default();
        let one = observe(&specs(&["s9"]), &net(), &LinkTable::default(), &Kept::default(), MARKS, at(1));
        let two = observe(&specs(&["a", "s9"]), &net(), &one, &Kept::default(), MARKS, at(2));
        assert_eq!((two.links["s9"].id, two.links["a"].id), (LinkId(0), LinkId(1)));
        assert_eq!(two.links["s9"].since, at(1));
        let three = observe(&specs(&["s9"]), &HostNet::default(), &two, &Kept::default(), MARKS, at(3));
        assert_eq!(three.links["s9"].since, at(3));
    }
}
