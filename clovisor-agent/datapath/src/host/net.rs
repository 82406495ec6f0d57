//! A snapshot of the node's network.

use super::legacy::LegacyTables;
use super::routes::Routes;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

/// Devices, addresses, routes, neighbours and bridge ports of the agent's network namespace.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HostNet {
    /// By ifindex.
    pub devices: BTreeMap<u32, Device>,
    pub routes: Routes,
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
    /// Administratively up: the kernel keeps no routes through a device that is not.
    pub up: bool,
    /// Administratively up and with carrier (operational state up or unknown).
    pub carrier: bool,
    /// Link-layer address, empty where the device has none.
    pub mac: Vec<u8>,
    /// Packets have no Ethernet header (TUN, WireGuard, PPP, IP tunnels).
    pub l3: bool,
    /// The kernel asks no neighbour on it (IFF_NOARP).
    pub no_arp: bool,
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
    /// IPv4 before IPv6, each in the order of the kernel, which is that of its preference among equals.
    pub addresses: Vec<DeviceAddress>,
}

/// An address of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceAddress {
    pub address: IpAddr,
    pub prefix: u8,
    /// As rtnetlink numbers it: 0 is global, 253 is the link's, 254 the host's.
    pub scope: u8,
    /// May not be used (yet): duplicate address detection has not finished, or found another owner.
    pub tentative: bool,
    /// Not for new connections (RFC 4862): its preferred lifetime is over.
    pub deprecated: bool,
    /// IPv6: temporary (RFC 8981). IPv4: a further address of the same subnet.
    pub secondary: bool,
}

impl DeviceAddress {
    /// A global address that may be used without a limit in time.
    #[must_use]
    pub const fn global(address: IpAddr, prefix: u8) -> Self {
        Self { address, prefix, scope: 0, tentative: false, deprecated: false, secondary: false }
    }
}

impl HostNet {
    /// The device of this name.
    #[must_use]
    pub fn device(&self, name: &str) -> Option<&Device> {
        self.devices.values().find(|device| device.name == name)
    }
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
