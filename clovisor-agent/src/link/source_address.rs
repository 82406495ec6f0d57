//! The source address of a link; pure.

use clovisor_datapath::host::net::{Device, DeviceAddress, HostNet};
use clovisor_datapath::host::routes::HostRoute;
use clovisor_objects::family::IpFamily;
use ipnet::IpNet;
use std::net::{IpAddr, Ipv6Addr};

/// The source address of new flows by `device`, as the kernel would choose it for a global destination: `src` of `route`,
/// else by `inet_select_addr` (IPv4), RFC 6724, section 5 (IPv6). Of equal ones the first in the kernel's order. None: no
/// address of the family may be used.
#[must_use]
pub(super) fn source(
    net: &HostNet,
    device: &Device,
    route: Option<&HostRoute>,
    gateway: Option<IpAddr>,
    family: IpFamily,
) -> Option<IpAddr> {
    let by_route = route.and_then(|route| route.source);
    if let Some(source) = by_route.filter(|source| IpFamily::of(*source) == family && has(net, *source)) {
        return Some(source);
    }
    let usable =
        device.addresses.iter().filter(|own| may_be_used(own) && IpFamily::of(own.address) == family);
    usable.min_by_key(|own| shortcomings(own, gateway)).map(|own| own.address)
}

/// The address is one of this node's, on whatever device, and may be used.
#[must_use]
pub(super) fn has(net: &HostNet, address: IpAddr) -> bool {
    let mut all = net.devices.values().flat_map(|device| &device.addresses);
    all.any(|own| own.address == address && !own.tentative)
}

/// The node has the address, and may not use it (yet).
#[must_use]
pub(super) fn is_tentative(net: &HostNet, address: IpAddr) -> bool {
    let mut all = net.devices.values().flat_map(|device| &device.addresses);
    all.any(|own| own.address == address && own.tentative)
}

/// `next` may take the place of `address`: a unique local address does not for a global one.
#[must_use]
pub(super) fn replaces(next: IpAddr, address: IpAddr) -> bool {
    match (next, address) {
        (IpAddr::V4(_), IpAddr::V4(_)) => true,
        (IpAddr::V6(next), IpAddr::V6(address)) => is_global(next) || !is_global(address),
        _ => false,
    }
}

const fn may_be_used(own: &DeviceAddress) -> bool {
    own.scope == 0 && !own.tentative
}

/// What speaks against an address, the gravest first. A better one has less.
fn shortcomings(own: &DeviceAddress, gateway: Option<IpAddr>) -> [bool; 4] {
    match own.address {
        IpAddr::V4(v4) => {
            let subnet = IpNet::new(own.address, own.prefix).ok();
            let off_link =
                gateway.is_some_and(|gateway| subnet.is_some_and(|subnet| !subnet.contains(&gateway)));
            [v4.is_link_local(), off_link, own.deprecated, own.secondary]
        }
        // Rules 3, 6 and 7; rule 8 needs a destination.
        IpAddr::V6(v6) => [own.deprecated, !is_global(v6), own.secondary, false],
    }
}

/// The label of the address is that of destinations in the internet (RFC 6724, section 2.1): no unique local address, no 6to4, no
/// Teredo, nothing of the lists of the past.
const fn is_global(address: Ipv6Addr) -> bool {
    let [first, second, ..] = address.segments();
    !(first & 0xfe00 == 0xfc00
        || first == 0x2002
        || first == 0x2001 && second == 0
        || first & 0xffc0 == 0xfec0)
}

#[cfg(test)]
mod tests;
