//! A snapshot of the node's network.

use super::legacy::LegacyTables;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

/// Devices, addresses, routes, neighbours and bridge ports of the agent's network namespace.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HostNet {
    /// By ifindex.
    pub devices: BTreeMap<u32, Device>,
    pub routes: Vec<HostRoute>,
    pub neighbours: Vec<Neighbour>,
    /// Bridge forwarding entries: MAC to port.
    pub fdb: Vec<FdbEntry>,
    /// Clovisor's rules and routes for marked packets.
    pub fwmark: BTreeSet<FwmarkEntry>,
    /// The chain with a policy for forwarded packets, for people. A redirect would bypass it.
    pub forward_policy: Option<String>,
    /// Tables of iptables-legacy, whose rules cannot be read and may be such a policy.
    pub legacy_tables: LegacyTables,
}

/// A network device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    pub ifindex: u32,
    pub name: String,
    pub mtu: u32,
    /// Administratively up and with carrier (operational state up or unknown).
    pub carrier: bool,
    /// Link-layer address, empty where the device has none.
    pub mac: Vec<u8>,
    /// Packets have no Ethernet header (TUN, WireGuard, PPP, IP tunnels).
    pub l3: bool,
    /// Strict reverse path filter (`rp_filter` 1).
    pub strict: bool,
    /// `veth`, `bridge`, … as the kernel names the kind; empty for plain devices.
    pub kind: String,
    /// As `ethtool -i` names it; the kind for virtual devices, empty where sysfs shows none.
    pub driver: String,
    /// Number of devices that had this ifindex before; a change means that no program is attached any more.
    pub epoch: u32,
    /// Bridge (or bond, VRF) that the device is a port of.
    pub master: Option<u32>,
    /// Global addresses with their prefix length, primary first.
    pub addresses: Vec<(IpAddr, u8)>,
}

impl HostNet {
    /// The device of this name.
    #[must_use]
    pub fn device(&self, name: &str) -> Option<&Device> {
        self.devices.values().find(|device| device.name == name)
    }
}

/// A unicast route of the main table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostRoute {
    pub destination: IpAddr,
    pub prefix: u8,
    pub gateway: Option<IpAddr>,
    pub ifindex: u32,
    pub metric: u32,
}

/// Whether a neighbour's link-layer address is known (NUD state).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reachability {
    /// Permanent, reachable, stale, delay or probe.
    Known,
    /// Solicited, no answer yet (incomplete).
    Asked,
    /// Solicited without an answer (failed).
    Failed,
}

/// A neighbour entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbour {
    pub address: IpAddr,
    pub ifindex: u32,
    pub mac: Vec<u8>,
    pub reachability: Reachability,
}

/// A rule or a route for marked packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FwmarkEntry {
    /// Packets with this mark under this mask use the table.
    Rule { v4: bool, mark: u32, mask: u32, table: u32 },
    /// The table's default route: device and gateway, or none: packets are refused when nothing else is there.
    Route { v4: bool, table: u32, hop: Option<(u32, Option<IpAddr>)> },
}

impl FwmarkEntry {
    /// Of IPv4; else of IPv6.
    #[must_use]
    pub const fn is_v4(&self) -> bool {
        match self {
            Self::Rule { v4, .. } | Self::Route { v4, .. } => *v4,
        }
    }
}

/// As `ip` prints it.
impl fmt::Display for FwmarkEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = |v4: bool| if v4 { "ip" } else { "ip -6" };
        match self {
            Self::Rule { v4, mark, mask, table } => {
                write!(f, "{} rule fwmark {mark:#x}/{mask:#x} lookup {table}", family(*v4))
            }
            Self::Route { v4, table, hop: None } => {
                write!(f, "{} route unreachable default table {table}", family(*v4))
            }
            Self::Route { v4, table, hop: Some((ifindex, gateway)) } => {
                let via = gateway.map(|gateway| format!(" via {gateway}")).unwrap_or_default();
                write!(f, "{} route default{via} ifindex {ifindex} table {table}", family(*v4))
            }
        }
    }
}

/// A bridge forwarding entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FdbEntry {
    pub mac: Vec<u8>,
    /// The port.
    pub ifindex: u32,
    /// The bridge.
    pub bridge: u32,
}
