//! From a pod's address to the host side of its veth, on any CNI, without entering the pod.

use super::net::{Device, HostNet, Reachability};
use super::routes::HostRoute;
use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

/// Kinds of devices behind which nobody is but a pod.
const OF_PODS: [&str; 3] = ["veth", "netkit", "tun"];

/// The host side device of a pod: what comes out of it comes from that pod. Only [`resolve_pod`] makes one, never of an
/// uplink.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PodDevice(u32);

impl PodDevice {
    /// The device's ifindex.
    #[must_use]
    pub const fn ifindex(self) -> u32 {
        self.0
    }

    /// The device exists, and is still no uplink.
    #[must_use]
    pub fn holds(self, net: &HostNet, uplinks: &BTreeSet<u32>) -> bool {
        net.devices.contains_key(&self.0) && !uplinks.contains(&self.0)
    }
}

/// Why a pod's device is not known, or is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unresolved {
    /// The pod has no address yet.
    NoAddress,
    /// `spec.hostNetwork`, or its address is one of the node's own.
    HostNetwork,
    /// The device that leads to the address is that of a WanLink.
    Uplink,
    /// What comes in by the device that leads to the address may be anybody's: that of a network (macvlan or ipvlan below
    /// it, a tunnel), or of several pods.
    Shared,
    /// No route leads to the address, or only the default route: the pod is not on this node.
    NotLocal,
    /// The route names a device that does not exist (any more).
    DeviceMissing,
    /// Behind a bridge, and the address has no neighbour entry yet.
    NeighbourUnknown,
    /// Behind a bridge, and the bridge has not learned the pod's port yet.
    PortUnknown,
}

impl fmt::Display for Unresolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoAddress => "the pod has no address yet",
            Self::HostNetwork => {
                "the pod uses the node's network (hostNetwork): its packets come through no device of its own and are not steered"
            }
            Self::Uplink => "the address of the pod is behind an uplink: its packets come through no device of its own and are not steered",
            Self::Shared => {
                "the device that leads to the pod is shared with others: whose packets come through it is not known, and \
                 they are not steered"
            }
            Self::NotLocal => "no route of this node leads to the pod",
            Self::DeviceMissing => "the route to the pod names a missing device",
            Self::NeighbourUnknown => "the pod's link-layer address is not known yet",
            Self::PortUnknown => "the bridge has not learned the pod's port yet",
        })
    }
}

/// The host side device: most specific route, and behind a bridge neighbour and port. `uplinks`: the devices of links.
///
/// # Errors
/// What is not known yet, and may be after the next netlink event; or why the pod has no device of its own.
pub fn resolve_pod(net: &HostNet, uplinks: &BTreeSet<u32>, address: IpAddr) -> Result<PodDevice, Unresolved> {
    if net.devices.values().any(|device| device.addresses.iter().any(|own| own.address == address)) {
        return Err(Unresolved::HostNetwork);
    }
    let route = route_to(net, address).ok_or(Unresolved::NotLocal)?;
    if route.prefix == 0 || route.gateway.is_some() {
        return Err(Unresolved::NotLocal);
    }
    let device = net.devices.get(&route.ifindex).ok_or(Unresolved::DeviceMissing)?;
    let own = match device.kind.as_str() {
        "bridge" => port(net, device, address)?,
        _ if uplinks.contains(&device.ifindex) => return Err(Unresolved::Uplink),
        // The route of a network: anybody of it may be behind the device.
        _ if route.prefix < length(address) => return Err(Unresolved::Shared),
        _ => device,
    };
    match own.kind.as_str() {
        _ if uplinks.contains(&own.ifindex) => Err(Unresolved::Uplink),
        kind if OF_PODS.contains(&kind) => Ok(PodDevice(own.ifindex)),
        _ => Err(Unresolved::Shared),
    }
}

const fn length(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// The bridge on which to ask for the pod's link-layer address; none where asking would not help.
#[must_use]
pub fn bridge_to_ask<'a>(net: &'a HostNet, uplinks: &BTreeSet<u32>, address: IpAddr) -> Option<&'a str> {
    match resolve_pod(net, uplinks, address) {
        Err(Unresolved::NeighbourUnknown | Unresolved::PortUnknown) => {
            net.devices.get(&route_to(net, address)?.ifindex).map(|bridge| bridge.name.as_str())
        }
        _ => None,
    }
}

fn port<'a>(net: &'a HostNet, bridge: &Device, address: IpAddr) -> Result<&'a Device, Unresolved> {
    let neighbour = net.neighbours.iter().find(|n| n.ifindex == bridge.ifindex && n.address == address);
    let mac =
        &neighbour.filter(|n| n.reachability == Reachability::Known).ok_or(Unresolved::NeighbourUnknown)?.mac;
    let entry =
        net.fdb.iter().find(|e| e.bridge == bridge.ifindex && &e.mac == mac && e.ifindex != bridge.ifindex);
    net.devices.get(&entry.ok_or(Unresolved::PortUnknown)?.ifindex).ok_or(Unresolved::DeviceMissing)
}

/// The route the kernel would take.
#[must_use]
pub fn route_to(net: &HostNet, address: IpAddr) -> Option<&HostRoute> {
    net.routes.to(address)
}

#[cfg(test)]
mod tests;
