//! The contents of the kernel maps that the policy and the links ask for.

use crate::link::choose::{choose, permits};
use crate::link::table::{Health, LinkEntry, LinkId, LinkTable};
use clovisor_common::abi::{
    self, ClassKey, DestKey, LINK_L3, LINK_MARK, LINK_NAT, LINK_UP4, LINK_UP6, NO_LINK, Peer, PeerKey, Pod,
    PortRule, SLOT_FOLLOW, SLOT_REFUSE, Slot, TRAFFIC_RULES, Traffic, TrafficKey, slot_index,
};
use clovisor_common::packet::{Address as _, TCP, UDP};
use clovisor_datapath::host::resolve::PodDevice;
use clovisor_datapath::kernel::image::{Image, LocalPrefixes, PortRange, wide};
use clovisor_objects::identity::ObjectKey;
use clovisor_objects::wan_link::{Mode, Nat};
use clovisor_objects::wan_mapping::traffic::TrafficProtocol;
use clovisor_objects::wan_mapping::{Established, Fallback};
use clovisor_policy::class::ClassId;
use clovisor_policy::model::{Class, Policy, PrefixRules};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

/// The maps for `policy` on this node. `devices`: that of each pod that was found.
#[must_use]
pub fn image(
    policy: &Policy,
    links: &LinkTable,
    devices: &BTreeMap<ObjectKey, PodDevice>,
    local: Arc<LocalPrefixes>,
    ports: PortRange,
) -> Image {
    let mut image = Image { local, ..Image::default() };
    for link in links.links.values() {
        add_link(&mut image, link, ports);
    }
    image.own = links.addresses.clone();
    for (name, namespace) in &policy.namespaces {
        for class in namespace.classes.values() {
            add_class(&mut image, name, namespace.zone, class, links);
        }
        for service in &namespace.services {
            add_destinations(
                &mut image,
                namespace.zone,
                namespace.classes_towards(service),
                Some(&service.endpoints[..]),
            );
        }
        for prefix in &namespace.traffic {
            let (key, rules) = traffic(namespace.zone, prefix);
            image.traffic.insert(key, rules);
        }
        for destinations in &namespace.destinations {
            let endpoints = destinations.endpoints.as_deref();
            add_destinations(&mut image, namespace.zone, destinations.classes.clone(), endpoints);
        }
    }
    for (key, pod) in &policy.pods {
        let (Some(device), Some(namespace)) = (devices.get(key), policy.namespaces.get(&key.namespace))
        else {
            continue;
        };
        let zone = namespace.zone;
        if zone == 0 {
            continue;
        }
        let traffic = bits(&namespace.traffic_of(&pod.labels)) as u16;
        let addresses = pod.addresses.iter().map(|address| wide(*address));
        image.add_pod(device.ifindex(), Pod { zone, traffic, proxy_uid: pod.proxy_uid }, addresses);
    }
    image
}

fn add_link(image: &mut Image, link: &LinkEntry, ports: PortRange) {
    let Some(ifindex) = link.ifindex else {
        return;
    };
    let up4 = if link.health.v4 == Health::Up { LINK_UP4 } else { 0 };
    let up6 = if link.health.v6 == Health::Up { LINK_UP6 } else { 0 };
    let nat = if link.nat == Nat::Masquerade { LINK_NAT } else { 0 };
    let l3 = if link.l3 { LINK_L3 } else { 0 };
    let by_mark = link.mode == Mode::Mark;
    let mark = if by_mark { LINK_MARK } else { 0 };
    // Without a next hop the kernel asks its routes for one, and for IPv6 it drops what they do not know, also where
    // the device has no link layer and takes any. So it gets one that is always there.
    let gateway6 = link.gateway6.or(link.source6.filter(|_| link.l3));
    let value = abi::Link {
        ifindex,
        mtu: u16::try_from(link.mtu).unwrap_or(u16::MAX),
        wire_dscp: link.dscp,
        pad: 0,
        flags: up4 | up6 | nat | l3 | mark,
        mark: if by_mark { link.mark.value } else { 0 },
        mark_mask: if by_mark { link.mark.mask } else { 0 },
        port_min: if by_mark { 0 } else { ports.min },
        port_max: if by_mark { 0 } else { ports.max },
        gateway4: link.gateway4.map_or([0; 4], |a| a.octets()),
        source4: link.source4.map_or([0; 4], |a| a.octets()),
        gateway6: gateway6.map_or([0; 16], |a| a.octets()),
        source6: link.source6.map_or([0; 16], |a| a.octets()),
    };
    image.links.insert(link.id.0, value);
    image.link_of.insert(ifindex, u32::from(link.id.0));
    for peer in &link.peers {
        let value = Peer { addr: wide(peer.address), port_be: peer.target_port.to_be(), pad: [0; 2] };
        for proto in [TCP, UDP] {
            let (addr, port_be) = (wide(peer.alias), peer.port.to_be());
            image.peers.insert(PeerKey { addr, port_be, link: link.id.0, proto }, value);
        }
    }
}

fn add_class(image: &mut Image, namespace: &str, zone: u16, class: &Class, links: &LinkTable) {
    let index = slot_index(zone, class.id.0);
    let chosen = choose(&class.links, links, namespace);
    let number = |id: Option<LinkId>| id.map_or(NO_LINK, |id| id.0);
    let refuse = if class.on_links_down == Fallback::Refuse { SLOT_REFUSE } else { 0 };
    let follow = if class.established == Established::Follow { SLOT_FOLLOW } else { 0 };
    let others = links.links.values().filter(|link| !permits(&class.links, link, namespace));
    let forbidden = others.fold(0, |forbidden, link| forbidden | 1 << link.id.0);
    let flags = refuse | follow;
    let slot = Slot {
        link4: number(chosen.v4),
        link6: number(chosen.v6),
        flags,
        wire_dscp: class.wire_dscp,
        forbidden,
        ..Slot::NONE
    };
    image.slots.insert(index, slot);
    image.classes.insert(ClassKey { zone, class: class.id.0, pad: 0 }, index);
}

/// Where packets of these classes may go; `endpoints` none: anywhere.
fn add_destinations(
    image: &mut Image,
    zone: u16,
    classes: BTreeSet<ClassId>,
    endpoints: Option<&[SocketAddr]>,
) {
    let bits = bits(&classes);
    if bits == 0 {
        return;
    }
    let Some(endpoints) = endpoints else {
        *image.dests.entry(DestKey::anywhere(zone)).or_default() |= bits;
        return;
    };
    for endpoint in endpoints {
        let key = DestKey {
            addr: wide(endpoint.ip()),
            port_be: endpoint.port().to_be(),
            zone,
            proto: TCP,
            pad: [0; 3],
        };
        *image.dests.entry(key).or_default() |= bits;
    }
}

/// Bit `class - 1` for each of the classes.
fn bits(classes: &BTreeSet<ClassId>) -> u32 {
    classes.iter().fold(0, |bits, class| bits | 1u32 << (class.0 - 1))
}

/// Entry of `TRAFFIC` for a prefix.
fn traffic(zone: u16, prefix: &PrefixRules) -> ((u32, TrafficKey), Traffic) {
    let v4 = prefix.net.addr().is_ipv4();
    let proto = match (prefix.protocol, v4) {
        (TrafficProtocol::Tcp, _) => TCP,
        (TrafficProtocol::Udp, _) => UDP,
        (TrafficProtocol::Icmp, true) => <[u8; 4]>::ICMP,
        (TrafficProtocol::Icmp, false) => <[u8; 16]>::ICMP,
    };
    let key = TrafficKey { zone, proto, pad: 0, addr: wide(prefix.net.network()) };
    let mut value = Traffic { rules: [PortRule::default(); TRAFFIC_RULES] };
    for (place, rule) in value.rules.iter_mut().zip(&prefix.rules) {
        *place = PortRule { min: rule.min, max: rule.max, class: rule.class.0, pad: 0 };
    }
    let mapped = if v4 { 96 } else { 0 };
    ((TrafficKey::HEAD + mapped + u32::from(prefix.net.prefix_len()), key), value)
}

#[cfg(test)]
mod tests;
