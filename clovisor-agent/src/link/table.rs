//! The state of every link at one moment.

use crate::cluster::wan_link::{LinkState, Nat};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Number of a link on this node, 0..64: index of the kernel map. Kept while the WanLink exists.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkId(pub u8);

/// All links of the node, by WanLink name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LinkTable {
    pub links: BTreeMap<String, Link>,
    /// Next hops that were asked for and have not answered yet.
    pub asked: usize,
}

impl LinkTable {
    /// The numbers in use.
    #[must_use]
    pub fn numbers(&self) -> BTreeMap<String, LinkId> {
        self.links.iter().map(|(name, link)| (name.clone(), link.id)).collect()
    }
}

/// One link as it is now.
#[derive(Clone, Debug, PartialEq)]
pub struct Link {
    pub id: LinkId,
    pub name: String,
    pub device: String,
    /// None while the device does not exist.
    pub ifindex: Option<u32>,
    pub gateway4: Option<Ipv4Addr>,
    pub gateway6: Option<Ipv6Addr>,
    pub source4: Option<Ipv4Addr>,
    pub source6: Option<Ipv6Addr>,
    pub mtu: u32,
    pub nat: Nat,
    /// What the operator wants.
    pub wanted: LinkState,
    pub peers: Vec<PeerAddress>,
    pub allowed_namespaces: Vec<String>,
    pub health: Health,
    /// When `health` last changed between up and down.
    pub since: jiff::Timestamp,
}

/// A destination with another address on the link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerAddress {
    pub alias: IpAddr,
    pub port: u16,
    pub address: IpAddr,
    pub target_port: u16,
}

/// Can the link carry traffic?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    Up,
    Down(DownReason),
}

/// Why a link is down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DownReason {
    DeviceMissing,
    NoCarrier,
    NoAddress,
    GatewayUnknown,
    GatewayUnresolved,
    Disabled,
}
