//! A pod of a site.

use crate::netns::Netns;
use crate::process::Process;
use anyhow::{Context, Result};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

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
