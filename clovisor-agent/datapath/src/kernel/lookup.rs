//! Lookups in the agent's image of the maps, with the results of the kernel's own.

use super::image::Image;
use clovisor_common::abi::{
    Addr, AddrKey, ClassKey, DestClasses, DestKey, ExchangeKey, Link, NOT_LOCAL, Peer, PeerKey, Slot,
    SlotIndex, Traffic, TrafficKey,
};
use clovisor_common::rule::Tables;

impl Tables for Image {
    fn addr(&self, key: &AddrKey) -> Option<Addr> {
        self.addrs.get(key).copied()
    }

    fn slot_of(&self, key: &ClassKey) -> Option<SlotIndex> {
        self.classes.get(key).copied()
    }

    fn dest(&self, key: &DestKey) -> Option<DestClasses> {
        self.dests.get(key).copied()
    }

    /// The entry of the longest prefix around the key, as the kernel's LPM trie returns it.
    fn traffic(&self, key: &TrafficKey) -> Option<&Traffic> {
        let covers = |(bits, prefix): &(u32, TrafficKey)| {
            let free = TrafficKey::BITS.saturating_sub(*bits);
            let network = |key: &TrafficKey| u128::from_be_bytes(key.addr).checked_shr(free).unwrap_or(0);
            (prefix.zone, prefix.proto) == (key.zone, key.proto) && network(prefix) == network(key)
        };
        let around = self.traffic.iter().filter(|(prefix, _)| covers(prefix));
        around.max_by_key(|((bits, _), _)| *bits).map(|(_, rules)| rules)
    }

    /// As above: the entry of the longest prefix.
    fn local(&self, address: &AddrKey) -> u32 {
        let whole = u128::from_be_bytes(*address);
        let network = |bits: u32| whole & u128::MAX.checked_shl(128 - bits).unwrap_or(0);
        let entry = |bits| self.local.get(&(bits, network(bits).to_be_bytes()));
        (0..=128).rev().find_map(entry).copied().unwrap_or(NOT_LOCAL)
    }

    /// What packets leave behind is not in the image.
    fn began_outside(&self, _: &ExchangeKey) -> bool {
        false
    }

    /// `SLOTS` is an array: an index that no class has reads as a slot without a usable link.
    fn slot(&self, index: SlotIndex) -> Option<Slot> {
        Some(self.slots.get(&index).copied().unwrap_or(Slot::NONE))
    }

    fn link(&self, index: u8) -> Option<&Link> {
        self.links.get(&index)
    }

    fn peer(&self, key: &PeerKey) -> Option<Peer> {
        self.peers.get(key).copied()
    }
}
