//! Destinations that no mapping of traffic takes: the map `LOCAL`; pure.
//!
//! An address is local by what objects or flags say of it, as one of the node's own, or by the most specific route of the
//! node to it, if that leaves by another device than an uplink. Default routes say nothing.

use clovisor_common::abi::{LOCAL, MAX_LOCAL, NOT_LOCAL};
use clovisor_datapath::host::net::{Device, HostNet};
use clovisor_datapath::host::routes::HostRoute;
use clovisor_datapath::kernel::image::{LocalPrefixes, wide};
use clovisor_policy::local::LocalNets;
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

/// Networks that are local by `--local-cidrs`.
#[derive(Clone, Debug, Default)]
pub struct LocalRoutes(LocalNets);

/// What is known of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Scope {
    /// The route to it leaves by an uplink.
    Uplink,
    /// The route to it leaves by another device.
    Local,
    /// Local whatever routes say.
    Always,
}

impl LocalRoutes {
    /// Of `--local-cidrs`.
    #[must_use]
    pub fn new(given: &[IpNet]) -> Self {
        let mut nets = LocalNets::default();
        given.iter().for_each(|net| nets.add(*net, "--local-cidrs".to_owned()));
        Self(nets)
    }

    /// Why an address is local; none: it is not.
    #[must_use]
    pub fn reason(
        &self,
        address: IpAddr,
        objects: &LocalNets,
        host: &HostNet,
        uplinks: &BTreeSet<u32>,
    ) -> Option<String> {
        if let Some(reason) = objects.reason(address).or_else(|| self.0.reason(address)) {
            return Some(reason.to_owned());
        }
        let own = host.devices.values().find(|device| own(device).any(|net| net.contains(&address)));
        if let Some(device) = own {
            return Some(format!("an address of {}, or its broadcast address", device.name));
        }
        let covering = host.routes.iter().filter(|r| net(r).is_some_and(|net| net.contains(&address)));
        let longest = covering.clone().map(|route| route.prefix).max()?;
        let (route, scope) = scope(covering.filter(|route| route.prefix == longest), uplinks)?;
        let name = |ifindex| host.devices.get(ifindex).map_or("a device that is gone", |d| d.name.as_str());
        (scope == Scope::Local).then(|| {
            format!("the node's route {}/{} by {}", route.destination, route.prefix, name(&route.ifindex))
        })
    }

    /// The entries of `LOCAL`, as few as say the same, and how many networks had no room.
    #[must_use]
    pub fn prefixes(
        &self,
        objects: &LocalNets,
        host: &HostNet,
        uplinks: &BTreeSet<u32>,
    ) -> (LocalPrefixes, usize) {
        let given = objects.nets().chain(self.0.nets()).chain(host.devices.values().flat_map(own));
        let mut nets: BTreeMap<IpNet, Scope> = given.map(|net| (net, Scope::Always)).collect();
        add_routes(&mut nets, host, uplinks);
        let left_out = limit(&mut nets);
        (entries(&nets), left_out)
    }
}

/// The network of a route; none for a default route.
fn net(route: &HostRoute) -> Option<IpNet> {
    let net = IpNet::new(route.destination, route.prefix).ok()?.trunc();
    (route.prefix > 0).then_some(net)
}

/// The route of these that the kernel takes, all to one network. With several next hops: by an uplink if one of them is.
fn scope<'a>(
    routes: impl Iterator<Item = &'a HostRoute> + Clone,
    uplinks: &BTreeSet<u32>,
) -> Option<(&'a HostRoute, Scope)> {
    let metric = routes.clone().map(|route| route.metric).min()?;
    let best = routes.filter(|route| route.metric == metric);
    let scope =
        |route: &HostRoute| if uplinks.contains(&route.ifindex) { Scope::Uplink } else { Scope::Local };
    best.map(|route| (route, scope(route))).min_by_key(|(_, scope)| *scope)
}

/// The addresses of a device, and the first and last of an IPv4 network, which are broadcast addresses.
fn own(device: &Device) -> impl Iterator<Item = IpNet> {
    device.addresses.iter().flat_map(|own| {
        let of =
            |net: IpNet| (net.addr().is_ipv4() && own.prefix < 31).then(|| [net.network(), net.broadcast()]);
        let broadcast = IpNet::new(own.address, own.prefix).ok().and_then(of);
        std::iter::once(own.address).chain(broadcast.into_iter().flatten()).map(IpNet::from)
    })
}

/// Routes by other devices than uplinks; and those by uplinks within such networks, or within others that are local.
fn add_routes(nets: &mut BTreeMap<IpNet, Scope>, host: &HostNet, uplinks: &BTreeSet<u32>) {
    let others = || host.routes.iter().filter(|route| !uplinks.contains(&route.ifindex)).filter_map(net);
    let all = nets.keys().copied().chain(others()).collect::<BTreeSet<_>>();
    let mut widest: Vec<IpNet> = Vec::new();
    for net in all {
        if !widest.last().is_some_and(|last| last.contains(&net)) {
            widest.push(net);
        }
    }
    // A node may have a whole internet of routes by uplinks, few of which lie within what is local.
    let within = |net: &IpNet| {
        let before = widest.partition_point(|wide| wide <= net);
        before.checked_sub(1).and_then(|at| widest.get(at)).is_some_and(|wide| wide.contains(net))
    };
    let mut routes = BTreeMap::<IpNet, Vec<&HostRoute>>::new();
    for route in &host.routes {
        if let Some(net) = net(route).filter(within) {
            routes.entry(net).or_default().push(route);
        }
    }
    for (net, routes) in routes {
        if let Some((_, scope)) = scope(routes.into_iter(), uplinks) {
            nets.entry(net).or_insert(scope);
        }
    }
}

/// Leaves out the longest prefixes of routes that the map has no room for; how many.
fn limit(nets: &mut BTreeMap<IpNet, Scope>) -> usize {
    let excess = nets.len().saturating_sub(MAX_LOCAL as usize);
    if excess > 0 {
        let mut order: Vec<_> =
            nets.iter().map(|(net, scope)| (*scope == Scope::Always, net.prefix_len(), *net)).collect();
        order.sort_by_key(|(always, length, net)| (*always, std::cmp::Reverse(*length), *net));
        for (.., net) in order.iter().take(excess) {
            nets.remove(net);
        }
    }
    excess
}

/// One entry for each network whose scope differs from that of the network around it.
fn entries(nets: &BTreeMap<IpNet, Scope>) -> LocalPrefixes {
    // In the map IPv4 addresses are within IPv6's, where a route as wide as ::/1 is not for them.
    let mut entries = LocalPrefixes::from([((96, wide(Ipv4Addr::UNSPECIFIED.into())), NOT_LOCAL)]);
    // The networks around the one that is looked at: in order, one that contains others comes before them.
    let mut around: Vec<(IpNet, Scope)> = Vec::new();
    for (net, scope) in nets {
        while around.last().is_some_and(|(wide, _)| !wide.contains(net)) {
            around.pop();
        }
        let outer = around.last().map_or(Scope::Uplink, |(_, scope)| *scope);
        let scope = if outer == Scope::Always { Scope::Always } else { *scope };
        if (scope == Scope::Uplink) != (outer == Scope::Uplink) {
            let mapped = if net.addr().is_ipv4() { 96 } else { 0 };
            let value = if scope == Scope::Uplink { NOT_LOCAL } else { LOCAL };
            entries.insert((mapped + u32::from(net.prefix_len()), wide(net.addr())), value);
        }
        around.push((*net, scope));
    }
    entries
}

#[cfg(test)]
mod tests;
