//! The map contents that the agent would write for this site.

use super::addresses::{CLASS, DEFAULT_GATEWAY, GATEWAY, LINKS, MARK, POD, SOURCE, ZONE};
use super::uplink::Uplink;
use clovisor_common::abi::{
    Addr, ClassKey, DestKey, LINK_L3, LINK_MARK, LINK_NAT, LINK_UP, Link, Pod, SLOT_FOLLOW, Slot, slot_index,
};
use clovisor_datapath::kernel::image::{Image, wide};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// How the class's link treats addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Translation {
    /// Through the link's own address.
    Nat,
    /// The pod's address leaves.
    None,
    /// By mark: the edge's network stack forwards and translates.
    Mark,
}

pub(super) fn flags(translation: Translation) -> u32 {
    match translation {
        Translation::Nat => LINK_UP | LINK_NAT,
        Translation::None => LINK_UP,
        Translation::Mark => LINK_UP | LINK_NAT | LINK_MARK,
    }
}

/// The image of a pod behind `veth` and of links on the devices `default` and `steered`.
pub(super) fn image(
    veth: u32,
    default: u32,
    steered: u32,
    uplink: Uplink,
    translation: Translation,
) -> Image {
    let (slot, [first, second]) = (slot_index(ZONE, CLASS), LINKS);
    let [IpAddr::V4(source4), IpAddr::V6(source6)] = SOURCE else { return Image::default() };
    let [IpAddr::V4(gateway4), IpAddr::V6(gateway6)] = GATEWAY else { return Image::default() };
    let [IpAddr::V4(default4), IpAddr::V6(default6)] = DEFAULT_GATEWAY else { return Image::default() };
    let default_link = Link {
        ifindex: default,
        mtu: Uplink::Veth.mtu(),
        wire_dscp: 0,
        pad: 0,
        mark: MARK,
        mark_mask: MARK,
        flags: flags(translation),
        port_min: if translation == Translation::Mark { 0 } else { 1024 },
        port_max: if translation == Translation::Mark { 0 } else { 29_999 },
        gateway4: default4.octets(),
        source4: source4.octets(),
        gateway6: default6.octets(),
        source6: source6.octets(),
    };
    // An L3 device has no next hop; the agent names one for IPv6 all the same.
    let (l3, gateway4, gateway6) = match uplink.l3() {
        true => (LINK_L3, [0; 4], source6.octets()),
        false => (0, gateway4.octets(), gateway6.octets()),
    };
    let flags = default_link.flags | l3;
    let link = Link { ifindex: steered, mtu: uplink.mtu(), flags, gateway4, gateway6, ..default_link };
    let addr = Addr { veth, zone: ZONE, pad: 0 };
    Image {
        links: BTreeMap::from([(first, default_link), (second, link)]),
        link_of: BTreeMap::from([(default, u32::from(first)), (steered, u32::from(second))]),
        slots: BTreeMap::from([(slot, Slot { flags: SLOT_FOLLOW, ..Slot::of(second) })]),
        classes: BTreeMap::from([(ClassKey { zone: ZONE, class: CLASS, pad: 0 }, slot)]),
        dests: BTreeMap::from([(DestKey::anywhere(ZONE), 1)]),
        addrs: POD.into_iter().map(|address| (wide(address), addr)).collect(),
        pods: BTreeMap::from([(veth, Pod { zone: ZONE, traffic: 0, proxy_uid: 0 })]),
        ..Image::default()
    }
}
