//! What a message of rtnetlink says about the node's network; pure. A dump consists of the same messages as events do.

use super::fwmark;
use super::net::{Device, DeviceAddress, FwmarkEntry, Reachability};
use super::route_set::{RouteHop, RouteKey, RouteUpdate};
use rtnetlink::packet_core::{NLM_F_APPEND, NLM_F_REPLACE, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage};
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteNextHop, RouteType, RouteVia,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A change of the node's network.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum NetEvent {
    /// Without what netlink does not tell of a device, and without its addresses.
    Device(Box<Device>),
    DeviceGone(u32),
    Address(u32, DeviceAddress),
    AddressGone(u32, DeviceAddress),
    Route(RouteUpdate),
    Fwmark(FwmarkEntry, bool),
    /// None: the entry is gone.
    Neighbour(u32, IpAddr, Option<(Vec<u8>, Reachability)>),
    /// A bridge's entry for a MAC address and a VLAN, and the port; none: the entry is gone.
    Fdb(FdbKey, Option<u32>),
}

/// Bridge, MAC address and VLAN.
pub(super) type FdbKey = (u32, Vec<u8>, u16);

/// What the message says; none if it concerns nothing that is kept. An overrun is not said here.
pub(super) fn event(message: &NetlinkMessage<RouteNetlinkMessage>) -> Option<NetEvent> {
    let NetlinkPayload::InnerMessage(inner) = &message.payload else {
        return None;
    };
    match inner {
        RouteNetlinkMessage::NewLink(link) => device(link),
        RouteNetlinkMessage::DelLink(link) => {
            is_plain(link).then_some(NetEvent::DeviceGone(link.header.index))
        }
        RouteNetlinkMessage::NewAddress(new) => Some(NetEvent::Address(new.header.index, address(new)?)),
        RouteNetlinkMessage::DelAddress(old) => Some(NetEvent::AddressGone(old.header.index, address(old)?)),
        RouteNetlinkMessage::NewRoute(new) => {
            let flags = message.header.flags;
            route(new, |key, hops, source| RouteUpdate::Put {
                key,
                hops,
                source,
                replaces: flags & NLM_F_REPLACE != 0,
                appends: flags & NLM_F_APPEND != 0,
            })
        }
        RouteNetlinkMessage::DelRoute(old) => {
            route(old, |key, hops, source| RouteUpdate::Remove { key, hops, source }).map(|event| match event
            {
                NetEvent::Fwmark(entry, _) => NetEvent::Fwmark(entry, false),
                event => event,
            })
        }
        RouteNetlinkMessage::NewRule(new) => Some(NetEvent::Fwmark(fwmark::rule_of(new)?, true)),
        RouteNetlinkMessage::DelRule(old) => Some(NetEvent::Fwmark(fwmark::rule_of(old)?, false)),
        RouteNetlinkMessage::NewNeighbour(new) => neighbour(new, true),
        RouteNetlinkMessage::DelNeighbour(old) => neighbour(old, false),
        _ => None,
    }
}

/// The device itself: not what a bridge says of a port.
fn is_plain(message: &LinkMessage) -> bool {
    message.header.interface_family != AddressFamily::Bridge
}

fn device(message: &LinkMessage) -> Option<NetEvent> {
    let flags = message.header.flags;
    let up = flags.contains(LinkFlags::Up);
    let mut device = Device {
        ifindex: message.header.index,
        l3: message.header.link_layer_type != LinkLayerType::Ether,
        no_arp: flags.contains(LinkFlags::Noarp),
        up,
        carrier: up && flags.contains(LinkFlags::LowerUp),
        ..Device::default()
    };
    // An event of a wireless device has a name and nothing else.
    let mut whole = false;
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => device.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => (device.mtu, whole) = (*mtu, true),
            LinkAttribute::Address(mac) => device.mac.clone_from(mac),
            LinkAttribute::Controller(master) => device.master = Some(*master),
            LinkAttribute::LinkInfo(infos) => {
                let kind = infos.iter().find_map(|i| if let LinkInfo::Kind(k) = i { Some(k) } else { None });
                device.kind = kind.map(ToString::to_string).unwrap_or_default();
            }
            _ => {}
        }
    }
    (whole && is_plain(message)).then(|| NetEvent::Device(Box::new(device)))
}

fn address(message: &AddressMessage) -> Option<DeviceAddress> {
    let header = &message.header;
    let mut flags = AddressFlags::from_bits_retain(header.flags.bits().into());
    let (mut local, mut plain) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(ip) => local = Some(*ip),
            AddressAttribute::Address(ip) => plain = Some(*ip),
            AddressAttribute::Flags(all) => flags = *all,
            _ => {}
        }
    }
    // An optimistic address is tentative and may be used, for what no other address can do.
    let optimistic = flags.contains(AddressFlags::Optimistic);
    let tentative = flags.contains(AddressFlags::Tentative) && !optimistic;
    Some(DeviceAddress {
        address: local.or(plain)?,
        prefix: header.prefix_len,
        scope: header.scope.into(),
        tentative: tentative || flags.contains(AddressFlags::Dadfailed),
        deprecated: optimistic || flags.contains(AddressFlags::Deprecated),
        secondary: header.flags.contains(AddressHeaderFlags::Secondary),
    })
}

/// A route of the main table, or one for marked packets. `update` makes a change of key, hops and source.
fn route(
    message: &RouteMessage,
    update: impl FnOnce(RouteKey, Vec<RouteHop>, Option<IpAddr>) -> RouteUpdate,
) -> Option<NetEvent> {
    if let Some(entry) = fwmark::route_of(message) {
        return Some(NetEvent::Fwmark(entry, true));
    }
    let header = &message.header;
    // Routes for some sources or types of service only are none that packets of pods take in general.
    if header.table != RouteHeader::RT_TABLE_MAIN || header.source_prefix_length != 0 || header.tos != 0 {
        return None;
    }
    let any = match header.address_family {
        AddressFamily::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        AddressFamily::Inet6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => return None,
    };
    let (mut network, mut metric, mut source) = (any, 0, None);
    let mut hop = RouteHop::default();
    let mut hops: Vec<RouteHop> = Vec::new();
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => network = ip(address).unwrap_or(any),
            RouteAttribute::Priority(priority) => metric = *priority,
            RouteAttribute::PrefSource(address) => source = ip(address),
            RouteAttribute::Oif(index) => hop.ifindex = *index,
            RouteAttribute::MultiPath(all) => hops = all.iter().map(multipath_hop).collect(),
            other => hop.gateway = gateway(other).or(hop.gateway),
        }
    }
    if hops.is_empty() {
        hops.push(hop);
    }
    if header.kind != RouteType::Unicast {
        hops = vec![RouteHop { refusal: header.kind.into(), ..RouteHop::default() }];
    }
    let key = RouteKey { v6: any.is_ipv6(), prefix: header.destination_prefix_length, network, metric };
    Some(NetEvent::Route(update(key, hops, source)))
}

fn multipath_hop(hop: &RouteNextHop) -> RouteHop {
    RouteHop {
        ifindex: hop.interface_index,
        gateway: hop.attributes.iter().find_map(gateway),
        ..RouteHop::default()
    }
}

/// Also one of the other family, which a route of IPv4 may have (RFC 5549).
fn gateway(attribute: &RouteAttribute) -> Option<IpAddr> {
    match attribute {
        RouteAttribute::Gateway(address) => ip(address),
        RouteAttribute::Via(RouteVia::Inet(v4)) => Some(IpAddr::V4(*v4)),
        RouteAttribute::Via(RouteVia::Inet6(v6)) => Some(IpAddr::V6(*v6)),
        _ => None,
    }
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some(IpAddr::V4(*v4)),
        RouteAddress::Inet6(v6) => Some(IpAddr::V6(*v6)),
        _ => None,
    }
}

fn neighbour(message: &NeighbourMessage, new: bool) -> Option<NetEvent> {
    let header = &message.header;
    let (mut address, mut mac, mut bridge, mut vlan) = (None, Vec::new(), None, 0);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => address = Some(IpAddr::V4(*v4)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => address = Some(IpAddr::V6(*v6)),
            NeighbourAttribute::LinkLayerAddress(bytes) => mac.clone_from(bytes),
            NeighbourAttribute::Controller(index) => bridge = Some(*index),
            NeighbourAttribute::Vlan(number) => vlan = *number,
            _ => {}
        }
    }
    if header.family == AddressFamily::Bridge {
        return Some(NetEvent::Fdb((bridge?, mac, vlan), new.then_some(header.ifindex)));
    }
    if header.flags.contains(NeighbourFlags::Proxy) {
        return None;
    }
    let reachability = match header.state {
        NeighbourState::Failed => Some(Reachability::Failed),
        NeighbourState::Incomplete => Some(Reachability::Asked),
        // The kernel makes these for broadcast and multicast addresses, and no event tells of them.
        NeighbourState::Noarp if mac.first().is_none_or(|byte| byte & 1 == 1) => None,
        NeighbourState::None => None,
        _ if mac.is_empty() => Some(Reachability::Asked),
        _ => Some(Reachability::Known),
    };
    let entry = reachability.filter(|_| new).map(|reachability| (mac, reachability));
    Some(NetEvent::Neighbour(header.ifindex, address?, entry))
}

#[cfg(test)]
mod tests;
