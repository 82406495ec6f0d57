//! Addresses of the site, IPv4 and IPv6, and numbers of the class and its links.

use clovisor_common::abi::dscp_of_class;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The pod.
pub const POD: [IpAddr; 2] = both(1, 2);

/// The edge on the steered link: the source of packets that are translated.
pub const SOURCE: [IpAddr; 2] = both(11, 1);

/// Next hop of the steered link.
pub const GATEWAY: [IpAddr; 2] = both(11, 2);

/// The edge on the default link.
pub const DEFAULT_SOURCE: [IpAddr; 2] = both(10, 1);

/// Next hop of the default link.
pub(super) const DEFAULT_GATEWAY: [IpAddr; 2] = both(10, 2);

/// The far end.
pub const FAR: [IpAddr; 2] = both(99, 1);

/// A host behind the far end, over a path with an MTU of [`NARROW`].
pub const BEYOND: [IpAddr; 2] = both(98, 2);

/// MTU of the path to [`BEYOND`].
pub const NARROW: u32 = 1300;

/// Zone of the pod.
pub(super) const ZONE: u16 = 1;

/// Class of the packets that are steered.
pub(super) const CLASS: u8 = 1;

/// Numbers of the default link and of the steered link.
pub const LINKS: [u8; 2] = [0, 1];

/// TOS or traffic class byte that carries the class.
pub const TOS: u32 = (dscp_of_class(CLASS) as u32) << 2;

/// Mark of packets that the network stack forwards.
pub(super) const MARK: u32 = 0x0200_0000;

/// Both addresses of a host.
pub(super) const fn both(net: u8, host: u8) -> [IpAddr; 2] {
    let v6 = Ipv6Addr::new(0xfd09, net as u16, 0, 0, 0, 0, 0, host as u16);
    [IpAddr::V4(Ipv4Addr::new(10, 9, net, host)), IpAddr::V6(v6)]
}

/// Lines of an `ip` batch: each device gets both addresses of its network and is set up.
pub(super) fn addressed(devices: &[(&str, u8, u8)]) -> String {
    let lines = devices.iter().map(|(device, net, host)| {
        let [v4, v6] = both(*net, *host);
        format!("addr add {v4}/24 dev {device}\naddr add {v6}/64 dev {device} nodad\nlink set {device} up\n")
    });
    lines.collect()
}
