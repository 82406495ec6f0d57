//! The contents of the kernel maps as plain data, and comparisons of two of them.

use clovisor_common::abi::{
    self, Addr, AddrKey, ClassKey, DestKey, LINK_UP, Peer, PeerKey, Pod, Slot, Traffic, TrafficKey,
};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// All maps that the agent fills, key to value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    pub links: BTreeMap<u8, abi::Link>,
    pub link_of: BTreeMap<u32, u32>,
    pub slots: BTreeMap<u32, Slot>,
    pub peers: BTreeMap<PeerKey, Peer>,
    pub classes: BTreeMap<ClassKey, u32>,
    pub dests: BTreeMap<DestKey, u32>,
    /// By bits of the prefix and key.
    pub traffic: BTreeMap<(u32, TrafficKey), Traffic>,
    pub addrs: BTreeMap<AddrKey, Addr>,
    pub pods: BTreeMap<u32, Pod>,
}

/// Source ports for NAT, host byte order, inclusive; outside the node's ephemeral ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    pub min: u16,
    pub max: u16,
}

/// The 16-byte form of an address in the maps.
#[must_use]
pub fn wide(address: IpAddr) -> AddrKey {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// Links that were up and are not any more, with their old values.
pub fn died<'a>(old: &'a Image, new: &'a Image) -> impl Iterator<Item = &'a abi::Link> {
    let up = |link: &abi::Link| link.flags & LINK_UP != 0;
    old.links
        .iter()
        .filter(move |(id, link)| up(link) && !new.links.get(id).is_some_and(up))
        .map(|(_, link)| link)
}

/// A slot forbids a link that it allowed before.
#[must_use]
pub fn forbidden(old: &Image, new: &Image) -> bool {
    let before = |index: &u32| old.slots.get(index).map_or(0, |slot| slot.forbidden);
    new.slots.iter().any(|(index, slot)| slot.forbidden & !before(index) != 0)
}

/// Everything of `new`, and entries that only `old` has (make before break): proxies still use the old policy.
#[must_use]
pub fn union(old: &Image, new: &Image) -> Image {
    let mut both = new.clone();
    keep(&mut both.slots, &old.slots);
    keep(&mut both.classes, &old.classes);
    keep(&mut both.peers, &old.peers);
    for (key, bits) in &old.dests {
        *both.dests.entry(*key).or_default() |= bits;
    }
    both
}

fn keep<K: Ord + Clone, V: Clone>(both: &mut BTreeMap<K, V>, old: &BTreeMap<K, V>) {
    for (key, value) in old {
        both.entry(key.clone()).or_insert_with(|| value.clone());
    }
}
