//! The node's network as events tell of it: a state and an event give the next state; pure.
//!
//! The kernel does not tell of everything: routes of a device that goes down vanish without an event. What follows from an
//! event is part of it here.

use super::event::{FdbKey, NetEvent};
use super::net::{Device, DeviceAddress, FdbEntry, FwmarkEntry, HostNet, Neighbour, Reachability};
use super::route_set::RouteSet;
use super::routes::Routes;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// How soon a change is to be known, in ascending order of urgency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Urgency {
    /// A route to somewhere by a gateway.
    Calm,
    /// A neighbour, a port, a route to what is on the node or on its links.
    Brisk,
    /// A device, an address, a default route, a rule.
    Urgent,
}

/// What an event did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Impact {
    /// None: nothing is different.
    pub(super) changed: Option<Urgency>,
    pub(super) doubt: Option<Doubt>,
}

/// What may have changed in ways that no event tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doubt {
    /// Addresses and routes of a device.
    Device(u32),
    Everything,
}

impl Impact {
    fn of(changed: bool, urgency: Urgency) -> Self {
        Self { changed: changed.then_some(urgency), doubt: None }
    }
}

/// Everything that events and dumps tell.
#[derive(Clone, Debug, Default)]
pub(super) struct NetState {
    devices: BTreeMap<u32, Device>,
    /// Deletions of devices, by ifindex.
    epochs: BTreeMap<u32, u32>,
    set: RouteSet,
    /// Those of `set` at the last view; none: they changed.
    routes: Option<Routes>,
    neighbours: BTreeMap<(u32, IpAddr), (Vec<u8>, Reachability)>,
    fdb: BTreeMap<FdbKey, u32>,
    fwmark: BTreeSet<FwmarkEntry>,
}

impl NetState {
    /// Applies an event.
    pub(super) fn apply(&mut self, event: &NetEvent) -> Impact {
        match event {
            NetEvent::Device(device) => self.put_device(device),
            NetEvent::DeviceGone(ifindex) => self.remove_device(*ifindex),
            NetEvent::Address(ifindex, address) => {
                let device = self.devices.get_mut(ifindex);
                Impact::of(device.is_some_and(|d| put_address(&mut d.addresses, *address)), Urgency::Urgent)
            }
            NetEvent::AddressGone(ifindex, address) => self.remove_address(*ifindex, address),
            NetEvent::Route(update) => {
                let changed = self.set.apply(update);
                let urgency = match update.key().prefix {
                    0 => Urgency::Urgent,
                    _ if update.has_gateway() => Urgency::Calm,
                    _ => Urgency::Brisk,
                };
                self.routes.take_if(|_| changed);
                Impact::of(changed, urgency)
            }
            NetEvent::Fwmark(entry, true) => Impact::of(self.fwmark.insert(*entry), Urgency::Urgent),
            NetEvent::Fwmark(entry, false) => Impact::of(self.fwmark.remove(entry), Urgency::Urgent),
            NetEvent::Neighbour(ifindex, address, entry) => {
                self.put_neighbour((*ifindex, *address), entry.as_ref())
            }
            NetEvent::Fdb(key, port) => {
                let before = match port {
                    Some(port) => self.fdb.insert(key.clone(), *port),
                    None => self.fdb.remove(key),
                };
                Impact::of(before != *port, Urgency::Brisk)
            }
        }
    }

    fn put_device(&mut self, device: &Device) -> Impact {
        let ifindex = device.ifindex;
        let old = self.devices.get(&ifindex);
        let mut new = device.clone();
        new.epoch = self.epochs.get(&ifindex).copied().unwrap_or(0);
        new.addresses = old.map(|old| old.addresses.clone()).unwrap_or_default();
        let (changed, was_up, is_up) = (old != Some(&new), old.is_some_and(|old| old.up), new.up);
        self.devices.insert(ifindex, new);
        let mut impact = Impact::of(changed, Urgency::Urgent);
        if was_up && !is_up {
            self.drop_routes(ifindex, false);
        }
        if was_up != is_up {
            self.routes = None;
            impact.doubt = Some(Doubt::Device(ifindex));
        }
        impact
    }

    fn remove_device(&mut self, ifindex: u32) -> Impact {
        *self.epochs.entry(ifindex).or_default() += 1;
        let known = self.devices.remove(&ifindex).is_some();
        if known {
            self.drop_routes(ifindex, false);
            self.set.drop_device(ifindex);
            self.routes = None;
            self.neighbours.retain(|(device, _), _| *device != ifindex);
            self.fdb.retain(|(bridge, _, _), port| *bridge != ifindex && *port != ifindex);
        }
        Impact { doubt: known.then_some(Doubt::Device(ifindex)), ..Impact::of(known, Urgency::Urgent) }
    }

    fn remove_address(&mut self, ifindex: u32, address: &DeviceAddress) -> Impact {
        let Some(device) = self.devices.get_mut(&ifindex) else { return Impact::default() };
        let length = device.addresses.len();
        device.addresses.retain(|old| !same_address(old, address));
        let changed = device.addresses.len() != length;
        let mut impact = Impact::of(changed, Urgency::Urgent);
        let v4 = address.address.is_ipv4();
        if v4 && changed && !device.addresses.iter().any(|left| left.address.is_ipv4()) {
            self.drop_routes(ifindex, true);
            impact.doubt = Some(Doubt::Device(ifindex));
        }
        let left = self.devices.values().flat_map(|device| &device.addresses);
        let elsewhere = left.into_iter().any(|left| left.address == address.address);
        if changed && !elsewhere && self.set.drop_source(address.address) {
            self.routes = None;
            impact.doubt = Some(Doubt::Device(ifindex));
        }
        impact
    }

    /// The device does not forward any more: at all, or IPv4 only.
    fn drop_routes(&mut self, ifindex: u32, v4_only: bool) {
        let is_up = |ifindex: u32| self.devices.get(&ifindex).is_some_and(|device| device.up);
        let dead = |hop: &super::route_set::RouteHop| {
            hop.ifindex != 0 && (v4_only && hop.ifindex == ifindex || !is_up(hop.ifindex))
        };
        if self.set.drop_dead(ifindex, v4_only, dead) {
            self.routes = None;
        }
        if !v4_only || !is_up(ifindex) {
            self.fwmark.retain(
                |entry| !matches!(entry, FwmarkEntry::Route { hop: Some((by, _)), .. } if *by == ifindex),
            );
        } else {
            self.fwmark.retain(
                |entry| !matches!(entry, FwmarkEntry::Route { v4: true, hop: Some((by, _)), .. } if *by == ifindex),
            );
        }
    }

    fn put_neighbour(&mut self, key: (u32, IpAddr), entry: Option<&(Vec<u8>, Reachability)>) -> Impact {
        let Some((mac, reachability)) = entry else {
            return Impact::of(self.neighbours.remove(&key).is_some(), Urgency::Brisk);
        };
        let before = self.neighbours.get(&key);
        let next = (mac.clone(), reachability.after(before.map(|(_, before)| *before)));
        let changed = before != Some(&next);
        self.neighbours.insert(key, next);
        Impact::of(changed, Urgency::Brisk)
    }

    /// Applies an event of a dump, which lists addresses and routes in the order in which they stand.
    pub(super) fn list(&mut self, event: &NetEvent) {
        match event {
            NetEvent::Address(ifindex, address) => {
                if let Some(device) = self.devices.get_mut(ifindex) {
                    device.addresses.push(*address);
                }
            }
            NetEvent::Route(update) => self.set.list(update),
            event => _ = self.apply(event),
        }
    }

    /// The addresses and routes of a device are the `found` ones, as later events changed them.
    pub(super) fn replace(&mut self, ifindex: u32, found: &[NetEvent], later: &[NetEvent]) -> Impact {
        let before = (self.view().routes, self.devices.get(&ifindex).cloned());
        let updates = found
            .iter()
            .filter_map(|event| if let NetEvent::Route(update) = event { Some(update) } else { None });
        self.set.retain(ifindex, updates);
        if let Some(device) = self.devices.get_mut(&ifindex) {
            device.addresses.clear();
        }
        for event in found {
            self.list(event);
        }
        for event in later {
            match event {
                NetEvent::Route(_) => _ = self.apply(event),
                NetEvent::Address(of, _) | NetEvent::AddressGone(of, _) if *of == ifindex => {
                    _ = self.apply(event)
                }
                _ => {}
            }
        }
        self.routes = None;
        let now = (self.view().routes, self.devices.get(&ifindex).cloned());
        let mut impact = Impact::of(now != before, Urgency::Urgent);
        if impact.changed.is_some() && found.iter().any(|event| self.is_shared(event)) {
            impact.doubt = Some(Doubt::Everything);
        }
        impact
    }

    /// Another device has a route of IPv4 with the same destination and metric: of these the first one is taken, and what is known
    /// of one device does not say which that is.
    fn is_shared(&self, event: &NetEvent) -> bool {
        matches!(event, NetEvent::Route(update) if !update.key().v6 && self.set.is_shared(update.key()))
    }

    /// What [`after`](Self::after) needs of it.
    pub(super) fn without_routes(&self) -> Self {
        Self {
            devices: self.devices.clone(),
            epochs: self.epochs.clone(),
            neighbours: self.neighbours.clone(),
            ..Self::default()
        }
    }

    /// This state, freshly dumped, as the successor of `old`: what a dump cannot tell is carried over.
    pub(super) fn after(mut self, old: &Self) -> Self {
        self.epochs.clone_from(&old.epochs);
        for (ifindex, device) in &mut self.devices {
            let known = old.devices.get(ifindex);
            if known.is_some_and(|known| (&known.mac, &known.kind) != (&device.mac, &device.kind)) {
                *self.epochs.entry(*ifindex).or_default() += 1;
            }
            device.epoch = self.epochs.get(ifindex).copied().unwrap_or(0);
        }
        for gone in old.devices.keys().filter(|ifindex| !self.devices.contains_key(ifindex)) {
            *self.epochs.entry(*gone).or_default() += 1;
        }
        for (key, (_, reachability)) in &mut self.neighbours {
            *reachability = reachability.after(old.neighbours.get(key).map(|(_, before)| *before));
        }
        self
    }

    /// What is told to others. Without what only the shell knows.
    pub(super) fn view(&mut self) -> HostNet {
        let Self { devices, set, routes, .. } = self;
        let is_up = |ifindex: u32| devices.get(&ifindex).is_some_and(|device| device.up);
        let routes = routes.get_or_insert_with(|| set.routes(is_up)).clone();
        let neighbour =
            |((ifindex, address), (mac, reachability)): (&(u32, IpAddr), &(Vec<u8>, Reachability))| {
                Neighbour {
                    address: *address,
                    ifindex: *ifindex,
                    mac: mac.clone(),
                    reachability: *reachability,
                }
            };
        let port = |((bridge, mac, _), ifindex): (&FdbKey, &u32)| FdbEntry {
            mac: mac.clone(),
            ifindex: *ifindex,
            bridge: *bridge,
        };
        HostNet {
            devices: self.devices.clone(),
            routes,
            neighbours: self.neighbours.iter().map(neighbour).collect(),
            fdb: self.fdb.iter().map(port).collect(),
            fwmark: self.fwmark.clone(),
            ..HostNet::default()
        }
    }

    /// The devices, for what only the shell can read.
    pub(super) fn devices(&self) -> impl Iterator<Item = &Device> {
        self.devices.values()
    }
}

impl Reachability {
    /// What is known of a neighbour that was `before`. The kernel forgets a failure with the next packet and asks again: the
    /// neighbour has not answered all the same. An entry that was known and is asked for has failed in between.
    fn after(self, before: Option<Self>) -> Self {
        match (before, self) {
            (Some(Self::Failed | Self::Known), Self::Asked) => Self::Failed,
            _ => self,
        }
    }
}

/// IPv4 may have the same address with several prefix lengths.
fn same_address(one: &DeviceAddress, other: &DeviceAddress) -> bool {
    one.address == other.address && (one.address.is_ipv6() || one.prefix == other.prefix)
}

/// Where the kernel puts it: `__inet_insert_ifa`, `ipv6_link_dev_addr`. Returns whether anything changed.
fn put_address(addresses: &mut Vec<DeviceAddress>, new: DeviceAddress) -> bool {
    let old = addresses.iter().position(|old| same_address(old, &new));
    if let Some(old) = old.and_then(|at| addresses.get_mut(at))
        && (new.address.is_ipv6() || old.secondary == new.secondary)
    {
        let changed = *old != new;
        *old = new;
        return changed;
    }
    addresses.retain(|old| !same_address(old, &new));
    let v4 = addresses.iter().filter(|old| old.address.is_ipv4()).count();
    let at = if new.address.is_ipv6() {
        let wider = |old: &DeviceAddress| old.scope < new.scope;
        v4 + addresses.iter().skip(v4).take_while(|old| wider(old)).count()
    } else if new.secondary {
        v4
    } else {
        let before = |old: &DeviceAddress| !old.secondary && new.scope <= old.scope;
        addresses.iter().take(v4).rposition(before).map_or(0, |last| last + 1)
    };
    addresses.insert(at, new);
    true
}

#[cfg(test)]
mod tests;
