//! Names and addresses that every site has.

use std::net::{Ipv4Addr, Ipv6Addr};

/// The service's addresses in the cloud, reachable over both links.
pub const SERVICE4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);
/// The same for IPv6.
pub const SERVICE6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xcafe, 0, 0, 0, 0, 0x10);
/// Port of the far end.
pub const APP_PORT: u16 = 8000;
/// Namespace of the pods in the objects.
pub const NAMESPACE: &str = "shop";
