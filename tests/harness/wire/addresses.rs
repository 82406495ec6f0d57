//! Addresses of both families, by the number of a network and of a host in it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub(super) const fn both(net: u8, host: u8) -> [IpAddr; 2] {
    let v6 = Ipv6Addr::new(0xfd09, net as u16, 0, 0, 0, 0, 0, host as u16);
    [IpAddr::V4(Ipv4Addr::new(10, 9, net, host)), IpAddr::V6(v6)]
}

/// `ip` lines: devices up, each with both addresses of the network.
pub(super) fn addressed(devices: &[(&str, u8, u8)]) -> String {
    let lines = devices.iter().map(|(device, net, host)| {
        let [v4, v6] = both(*net, *host);
        format!("addr add {v4}/24 dev {device}\naddr add {v6}/64 dev {device} nodad\nlink set {device} up\n")
    });
    lines.collect()
}
