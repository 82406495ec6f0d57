//! The contents of the kernel maps as plain data, and comparisons of two of them.

use clovisor_common::abi::{
    self, Addr, AddrKey, ClassKey, DestKey, LINK_MARK, Peer, PeerKey, Pod, Slot, Traffic, TrafficKey,
};
use clovisor_common::packet::Address;
use clovisor_common::rule::carries;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// Contents of `LOCAL`, by bits of the prefix and address. Shared: there may be as many as the node has routes.
pub type LocalPrefixes = BTreeMap<(u32, AddrKey), u32>;

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
    pub local: Arc<LocalPrefixes>,
    pub addrs: BTreeMap<AddrKey, Addr>,
    pub pods: BTreeMap<u32, Pod>,
    /// In no map: the addresses that flows under NAT may have, those of the node and those that links still use; empty while they are
    /// not known.
    pub own: Arc<BTreeSet<IpAddr>>,
}

impl Image {
    /// Adds a pod and its addresses, unless its device is that of a link: what comes in there is not the pod's.
    pub fn add_pod(&mut self, veth: u32, pod: Pod, addresses: impl IntoIterator<Item = AddrKey>) {
        if self.link_of.contains_key(&veth) {
            return;
        }
        self.pods.insert(veth, pod);
        self.addrs
            .extend(addresses.into_iter().map(|address| (address, Addr { veth, zone: pod.zone, pad: 0 })));
    }
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

/// `new` with the source ports of links whose mode has become Mark since `old`: flows that the programs translate may be left there.
#[must_use]
pub fn with_ports_of(old: &Image, new: &Image) -> Image {
    let mut kept = new.clone();
    for (id, link) in &mut kept.links {
        if link.flags & LINK_MARK != 0
            && let Some(before) = old.links.get(id).filter(|before| before.ifindex == link.ifindex)
        {
            (link.port_min, link.port_max) = (before.port_min, before.port_max);
        }
    }
    kept
}

/// Links that carried the family and do not any more, with their old values.
pub fn died<'a, A: Address>(old: &'a Image, new: &'a Image) -> impl Iterator<Item = &'a abi::Link> {
    old.links
        .iter()
        .filter(move |(id, link)| carries::<A>(link) && !new.links.get(id).is_some_and(carries::<A>))
        .map(|(_, link)| link)
}

/// A link does not carry a family any more that it carried before.
#[must_use]
pub fn lost(old: &Image, new: &Image) -> bool {
    died::<[u8; 4]>(old, new).next().is_some() || died::<[u8; 16]>(old, new).next().is_some()
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

#[cfg(test)]
mod tests {
    use super::*;
    use clovisor_common::abi::LINK_UP;

    #[test]
    fn a_link_that_turns_to_mark_keeps_its_ports_for_the_flows_that_it_translates() {
        let image = |ifindex, flags, port_max| {
            let link = abi::Link { ifindex, flags, port_max, ..abi::Link::NONE };
            Image { links: BTreeMap::from([(3, link)]), ..Image::default() }
        };
        let kept = |old: &Image, new: &Image| with_ports_of(old, new).links[&3].port_max;
        let (nat, mark) = (image(5, LINK_UP, 99), image(5, LINK_UP | LINK_MARK, 0));
        assert_eq!(kept(&nat, &mark), 99);
        assert_eq!(kept(&with_ports_of(&nat, &mark), &mark), 99, "for one look only");
        assert_eq!(kept(&Image::default(), &mark), 0);
        assert_eq!(kept(&image(6, LINK_UP, 99), &mark), 0, "another device");
        assert_eq!(kept(&mark, &nat), 99);
    }

    #[test]
    fn the_device_of_a_link_is_no_pods() {
        let mut image = Image { link_of: BTreeMap::from([(9, 0)]), ..Image::default() };
        let pod = Pod { zone: 1, traffic: 0, proxy_uid: 1337 };
        image.add_pod(9, pod, [[1; 16]]);
        assert!(image.pods.is_empty() && image.addrs.is_empty());
        image.add_pod(3, pod, [[1; 16]]);
        assert_eq!((image.pods.len(), image.addrs.get(&[1; 16]).map(|addr| addr.veth)), (1, Some(3)));
    }
}
