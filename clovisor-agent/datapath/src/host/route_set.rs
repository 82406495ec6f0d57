//! The routes of the main table as the kernel's notifications tell of them; pure.
//!
//! The rules are those of the kernel's `fib_table_insert` (IPv4) and `fib6_add_rt2node` (IPv6): what a route replaces, joins or
//! follows among those with the same destination and metric.

use super::routes::{HostRoute, Routes};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// What routes differ by for a packet: destination and metric. In the order of [`HostRoute::place`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RouteKey {
    pub(super) v6: bool,
    pub(super) prefix: u8,
    pub(super) network: IpAddr,
    pub(super) metric: u32,
}

/// A next hop, or what stands in its place in a route that is no unicast route: device 0 and the type of the route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct RouteHop {
    pub(super) ifindex: u32,
    pub(super) gateway: Option<IpAddr>,
    pub(super) refusal: u8,
}

/// A change of the table.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum RouteUpdate {
    Put { key: RouteKey, hops: Vec<RouteHop>, source: Option<IpAddr>, replaces: bool, appends: bool },
    Remove { key: RouteKey, hops: Vec<RouteHop>, source: Option<IpAddr> },
}

impl RouteUpdate {
    pub(super) const fn key(&self) -> &RouteKey {
        match self {
            Self::Put { key, .. } | Self::Remove { key, .. } => key,
        }
    }

    pub(super) fn has_gateway(&self) -> bool {
        let (Self::Put { hops, .. } | Self::Remove { hops, .. }) = self;
        hops.iter().any(|hop| hop.gateway.is_some())
    }
}

/// A hop of a route. The routes of one key lie one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct PlacedHop {
    hop: RouteHop,
    source: Option<IpAddr>,
    /// The first hop of its route. Each hop of an IPv6 route is a route.
    first: bool,
}

/// The whole table.
#[derive(Clone, Debug, Default)]
pub(super) struct RouteSet(BTreeMap<RouteKey, Vec<PlacedHop>>);

impl RouteSet {
    /// Returns whether anything changed.
    pub(super) fn apply(&mut self, update: &RouteUpdate) -> bool {
        match update {
            RouteUpdate::Put { key, hops, source, replaces, appends } => {
                let placed = self.0.entry(*key).or_default();
                let new = placed_hops(key.v6, hops, *source);
                let before = placed.clone();
                if key.v6 {
                    put6(placed, &new, *replaces)
                } else {
                    put4(placed, &new, *replaces, *appends)
                }
                *placed != before
            }
            RouteUpdate::Remove { key, hops, source } => {
                let Some(placed) = self.0.get_mut(key) else { return false };
                let length = placed.len();
                if key.v6 {
                    remove6(placed, hops)
                } else {
                    remove4(placed, hops, *source)
                }
                let changed = placed.len() != length;
                if placed.is_empty() {
                    self.0.remove(key);
                }
                changed
            }
        }
    }

    /// Removes the routes by a device that have no living hop any more, as the kernel does without a word when the device goes
    /// down or is removed. `v4_only`: as it does when the device loses its last address of IPv4. Returns whether there were any.
    pub(super) fn drop_dead(
        &mut self,
        ifindex: u32,
        v4_only: bool,
        is_dead: impl Fn(&RouteHop) -> bool,
    ) -> bool {
        let mut changed = false;
        self.0.retain(|key, placed| {
            if !(v4_only && key.v6) && placed.iter().any(|placed| placed.hop.ifindex == ifindex) {
                let length = placed.len();
                retain_living(key.v6, placed, &is_dead);
                changed |= placed.len() != length;
            }
            !placed.is_empty()
        });
        changed
    }

    /// The node lost the address: IPv4 routes with this source end, IPv6 routes lose it. Returns whether there were any.
    pub(super) fn drop_source(&mut self, address: IpAddr) -> bool {
        let mut changed = false;
        self.0.retain(|key, placed| {
            if key.v6 == address.is_ipv6() && placed.iter().any(|hop| hop.source == Some(address)) {
                changed = true;
                if key.v6 {
                    placed
                        .iter_mut()
                        .filter(|hop| hop.source == Some(address))
                        .for_each(|hop| hop.source = None);
                } else {
                    placed.retain(|hop| hop.source != Some(address));
                }
            }
            !placed.is_empty()
        });
        changed
    }

    /// Adds a route of a dump behind the others.
    pub(super) fn list(&mut self, update: &RouteUpdate) {
        if let RouteUpdate::Put { key, hops, source, .. } = update {
            let placed = self.0.entry(*key).or_default();
            let new = placed_hops(key.v6, hops, *source);
            if key.v6 { put6(placed, &new, false) } else { put4(placed, &new, false, true) }
        }
    }

    /// Removes the hops by this device that no route of `found` has.
    pub(super) fn retain<'a>(&mut self, ifindex: u32, found: impl Iterator<Item = &'a RouteUpdate>) {
        let mut there: BTreeMap<RouteKey, Vec<RouteHop>> = BTreeMap::new();
        for update in found {
            let (RouteUpdate::Put { key, hops, .. } | RouteUpdate::Remove { key, hops, .. }) = update;
            there.entry(*key).or_default().extend(hops);
        }
        self.0.retain(|key, placed| {
            let is_there = |hop: &RouteHop| there.get(key).is_some_and(|hops| hops.contains(hop));
            placed.retain(|placed| placed.hop.ifindex != ifindex || is_there(&placed.hop));
            !placed.is_empty()
        });
    }

    /// There are routes with this key by several devices.
    pub(super) fn is_shared(&self, key: &RouteKey) -> bool {
        let placed = self.0.get(key).map(Vec::as_slice).unwrap_or_default();
        placed.iter().any(|other| placed.first().is_some_and(|first| other.hop.ifindex != first.hop.ifindex))
    }

    /// The device was removed, and every route of IPv4 with a hop by it.
    pub(super) fn drop_device(&mut self, ifindex: u32) {
        self.0.retain(|_, placed| {
            if placed.iter().any(|placed| placed.hop.ifindex == ifindex) {
                retain_routes(placed, |part| part.iter().all(|placed| placed.hop.ifindex != ifindex));
            }
            !placed.is_empty()
        });
    }

    /// The unicast routes by devices that are up.
    pub(super) fn routes(&self, is_up: impl Fn(u32) -> bool) -> Routes {
        let mut all = Vec::with_capacity(self.0.len());
        let mut last = (0, false);
        for (key, placed) in &self.0 {
            for PlacedHop { hop, source, .. } in placed.iter().filter(|placed| placed.hop.ifindex != 0) {
                if last.0 != hop.ifindex {
                    last = (hop.ifindex, is_up(hop.ifindex));
                }
                if last.1 {
                    all.push(HostRoute {
                        destination: key.network,
                        prefix: key.prefix,
                        gateway: hop.gateway,
                        ifindex: hop.ifindex,
                        metric: key.metric,
                        source: *source,
                    });
                }
            }
        }
        Routes::sorted(all)
    }
}

fn placed_hops(v6: bool, hops: &[RouteHop], source: Option<IpAddr>) -> Vec<PlacedHop> {
    hops.iter().enumerate().map(|(n, hop)| PlacedHop { hop: *hop, source, first: v6 || n == 0 }).collect()
}

/// Where the first route of the list ends.
fn end(placed: &[PlacedHop], from: usize) -> usize {
    let next = placed.iter().skip(from + 1).position(|hop| hop.first);
    next.map_or(placed.len(), |next| from + 1 + next)
}

/// The range of the route with exactly these hops and this source.
fn find4(placed: &[PlacedHop], hops: &[RouteHop], source: Option<IpAddr>) -> Option<(usize, usize)> {
    let firsts = placed.iter().enumerate().filter(|(_, hop)| hop.first).map(|(n, _)| n);
    let mut ranges = firsts.map(|from| (from, end(placed, from)));
    ranges.find(|(from, to)| {
        placed.get(*from..*to).is_some_and(|part| {
            part.iter().map(|placed| &placed.hop).eq(hops)
                && part.iter().all(|placed| placed.source == source)
        })
    })
}

fn put4(placed: &mut Vec<PlacedHop>, new: &[PlacedHop], replaces: bool, appends: bool) {
    let hops: Vec<_> = new.iter().map(|placed| placed.hop).collect();
    let source = new.first().and_then(|placed| placed.source);
    if let Some((from, to)) = find4(placed, &hops, source).filter(|_| !replaces) {
        // Told a second time, by a dump and by an event.
        placed.splice(from..to, new.iter().copied());
    } else if replaces && !placed.is_empty() {
        placed.splice(0..end(placed, 0), new.iter().copied());
    } else if appends {
        placed.extend_from_slice(new);
    } else {
        placed.splice(0..0, new.iter().copied());
    }
}

fn remove4(placed: &mut Vec<PlacedHop>, hops: &[RouteHop], source: Option<IpAddr>) {
    if let Some((from, to)) = find4(placed, hops, source) {
        placed.drain(from..to);
    }
}

/// Routes with gateways are the paths of one route; others with the same key stand beside it.
const fn joins(placed: &PlacedHop) -> bool {
    placed.hop.gateway.is_some()
}

fn put6(placed: &mut Vec<PlacedHop>, new: &[PlacedHop], replaces: bool) {
    let mut at = placed.len();
    if replaces && let Some(first) = new.first() {
        let joined = joins(first);
        let same = placed.iter().position(|old| joins(old) == joined);
        if let Some(old) = same.or((!placed.is_empty()).then_some(0)) {
            let all = placed.get(old).is_some_and(joins);
            at = old;
            let mut place = 0;
            placed.retain(|hop| {
                place += 1;
                !(place - 1 == old || all && joins(hop))
            });
        }
    }
    for hop in new {
        match placed.iter_mut().find(|old| old.hop == hop.hop) {
            Some(old) => old.source = hop.source,
            None => {
                placed.insert(at.min(placed.len()), *hop);
                at += 1;
            }
        }
    }
}

fn remove6(placed: &mut Vec<PlacedHop>, hops: &[RouteHop]) {
    placed.retain(|placed| !hops.contains(&placed.hop));
}

fn retain_living(v6: bool, placed: &mut Vec<PlacedHop>, is_dead: &impl Fn(&RouteHop) -> bool) {
    if v6 {
        let lives = |placed: &PlacedHop| !is_dead(&placed.hop);
        let some_path = placed.iter().any(|hop| joins(hop) && lives(hop));
        placed.retain(|hop| lives(hop) || joins(hop) && some_path);
        return;
    }
    retain_routes(placed, |part| !part.iter().all(|placed| is_dead(&placed.hop)));
}

fn retain_routes(placed: &mut Vec<PlacedHop>, stays: impl Fn(&[PlacedHop]) -> bool) {
    let mut from = 0;
    while from < placed.len() {
        let to = end(placed, from);
        if placed.get(from..to).is_some_and(&stays) {
            from = to;
        } else {
            placed.drain(from..to);
        }
    }
}

#[cfg(test)]
mod tests;
