//! What a site is made of.

use crate::netns::Netns;
use crate::process::Process;
use anyhow::{Context, Result};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The service's addresses in the cloud, reachable over both links.
pub const SERVICE4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);
/// The same for IPv6.
pub const SERVICE6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xcafe, 0, 0, 0, 0, 0x10);
/// Kinds of uplinks that this kernel has without a modem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Uplink {
    Veth,
    /// A device of its own on the one below, as a container's or a VLAN is.
    Macvlan,
    /// A tunnel with an Ethernet header; its packets are 50 bytes smaller.
    Vxlan,
    /// A device without link layer, as WireGuard's and PPP's are.
    Tun,
}

/// A pod: a namespace behind a veth, with a proxy if one was started.
#[derive(Debug)]
pub struct Pod {
    /// Name in the objects.
    pub name: String,
    pub netns: Netns,
    pub ipv4: Ipv4Addr,
    pub ipv6: Ipv6Addr,
    /// Device on the edge.
    pub veth: String,
    pub(super) proxy: Option<Process>,
}

impl Pod {
    pub(super) fn new(index: usize, netns: Netns) -> Result<Self> {
        let last = u8::try_from(10 + index).context("too many pods")?;
        let hex = u16::from_str_radix(&last.to_string(), 16).context("digits are hexadecimal too")?;
        Ok(Self {
            name: format!("client-{index}"),
            netns,
            ipv4: Ipv4Addr::new(10, 244, 0, last),
            ipv6: Ipv6Addr::new(0xfd00, 0x244, 0, 0, 0, 0, 0, hex),
            veth: format!("veth{index}"),
            proxy: None,
        })
    }

    /// The addresses.
    #[must_use]
    pub fn addresses(&self) -> [IpAddr; 2] {
        [self.ipv4.into(), self.ipv6.into()]
    }
}
