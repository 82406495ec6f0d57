//! From a pod's address to the host side of its veth, on any CNI, without entering the pod.

use super::net::{Device, HostNet, Reachability};
use super::routes::HostRoute;
use std::fmt;
use std::net::IpAddr;

/// Why a pod's device is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unresolved {
    /// The pod has no address yet.
    NoAddress,
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
            Self::NotLocal => "no route of this node leads to the pod",
            Self::DeviceMissing => "the route to the pod names a missing device",
            Self::NeighbourUnknown => "the pod's link-layer address is not known yet",
            Self::PortUnknown => "the bridge has not learned the pod's port yet",
        })
    }
}

/// The ifindex of the host side device: most specific route, and behind a bridge neighbour and port.
///
/// # Errors
/// What is not known yet; it may be after the next netlink event.
pub fn resolve_pod(net: &HostNet, address: IpAddr) -> Result<u32, Unresolved> {
    let route = route_to(net, address).ok_or(Unresolved::NotLocal)?;
    if route.prefix == 0 || route.gateway.is_some() {
        return Err(Unresolved::NotLocal);
    }
    let device = net.devices.get(&route.ifindex).ok_or(Unresolved::DeviceMissing)?;
    if device.kind == "bridge" { port(net, device, address) } else { Ok(device.ifindex) }
}

/// The bridge on which to ask for the pod's link-layer address; none where asking would not help.
#[must_use]
pub fn bridge_to_ask(net: &HostNet, address: IpAddr) -> Option<&str> {
    match resolve_pod(net, address) {
        Err(Unresolved::NeighbourUnknown | Unresolved::PortUnknown) => {
            net.devices.get(&route_to(net, address)?.ifindex).map(|bridge| bridge.name.as_str())
        }
        _ => None,
    }
}

fn port(net: &HostNet, bridge: &Device, address: IpAddr) -> Result<u32, Unresolved> {
    let neighbour = net.neighbours.iter().find(|n| n.ifindex == bridge.ifindex && n.address == address);
    let mac =
        &neighbour.filter(|n| n.reachability == Reachability::Known).ok_or(Unresolved::NeighbourUnknown)?.mac;
    let entry =
        net.fdb.iter().find(|e| e.bridge == bridge.ifindex && &e.mac == mac && e.ifindex != bridge.ifindex);
    Ok(entry.ok_or(Unresolved::PortUnknown)?.ifindex)
}

/// The route the kernel would take.
#[must_use]
pub fn route_to(net: &HostNet, address: IpAddr) -> Option<&HostRoute> {
    net.routes.to(address)
}

#[cfg(test)]
mod tests;
