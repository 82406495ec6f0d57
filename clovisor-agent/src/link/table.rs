//! The table of links.

use clovisor_datapath::host::legacy::LegacyTables;
use clovisor_objects::family::{IpFamily, PerFamily};
use clovisor_objects::wan_link::{LinkState, Mode, Nat};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// Number of a link on this node, 0..64: index of the kernel map. Kept while the WanLink exists.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkId(pub u8);

/// Bits of `skb->mark` that links may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MarkMask(pub u32);

/// What marks the packets of a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    pub value: u32,
    pub mask: u32,
}

impl MarkMask {
    /// The mark of a link: its number from 1 on, so that none is zero.
    #[must_use]
    pub const fn of(self, id: LinkId) -> Mark {
        Mark { value: ((id.0 as u32 + 1) << self.0.trailing_zeros()) & self.0, mask: self.0 }
    }
}

/// What was taken by the number of a default route: kept whatever becomes of route and device, so
/// that a link never wanders to the device of another.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// The number that was looked for.
    pub default_route: i32,
    /// Name of the device that was found.
    pub device: String,
}

/// What is kept on disk of each link while its WanLink exists: pinned flows name their link by number.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(default)]
pub struct Kept {
    pub numbers: BTreeMap<String, LinkId>,
    pub devices: BTreeMap<String, Chosen>,
    /// See [`LinkEntry::expected`]: a family that is gone when an agent starts is missed.
    pub families: BTreeMap<String, PerFamily<bool>>,
}

/// All links of the node, by WanLink name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LinkTable {
    pub links: BTreeMap<String, LinkEntry>,
    /// Next hops that were solicited and have not answered yet, and links whose rules are being set.
    pub pending: usize,
    /// The node's global addresses, and those that links still use although the node has lost them.
    pub addresses: Arc<BTreeSet<IpAddr>>,
}

impl LinkTable {
    /// Links that wait for the rule and route of their mark.
    #[must_use]
    pub fn pending_marks(&self) -> usize {
        let unrouted = Health::Down(DownReason::MarkUnrouted);
        let waits = |link: &&LinkEntry| link.health.iter().any(|(_, health)| *health == unrouted);
        self.links.values().filter(waits).count()
    }

    /// What is to be kept of the links.
    #[must_use]
    pub fn kept(&self) -> Kept {
        let numbers = self.links.iter().map(|(name, link)| (name.clone(), link.id)).collect();
        let chosen = |(name, link): (&String, &LinkEntry)| Some((name.clone(), link.chosen.clone()?));
        let devices = self.links.iter().filter_map(chosen).collect();
        let families = self.links.iter().map(|(name, link)| (name.clone(), link.expected)).collect();
        Kept { numbers, devices, families }
    }
}

/// One link as it is now.
#[derive(Clone, Debug, PartialEq)]
pub struct LinkEntry {
    pub id: LinkId,
    pub name: String,
    /// Name of the device; while there is none, what selects it.
    pub device: String,
    pub chosen: Option<Chosen>,
    /// None while the device does not exist.
    pub ifindex: Option<u32>,
    pub gateway4: Option<Ipv4Addr>,
    pub gateway6: Option<Ipv6Addr>,
    pub source4: Option<Ipv4Addr>,
    pub source6: Option<Ipv6Addr>,
    pub mtu: u32,
    /// DSCP of steered packets on the link whose mapping asks for none; 0 for none here either.
    pub dscp: u8,
    /// The device has no Ethernet header.
    pub l3: bool,
    pub nat: Nat,
    pub mode: Mode,
    /// What its packets are marked with in mode `Mark`.
    pub mark: Mark,
    /// `spec.state`.
    pub wanted: LinkState,
    pub peers: Vec<PeerAddress>,
    pub allowed_namespaces: Vec<String>,
    /// Namespaces of which it takes nothing, each with the name of a NetworkPolicy that it would bypass.
    pub egress_policies: Arc<BTreeMap<String, String>>,
    /// Since when a family uses a source address, a gateway or a rule that the node does not have any more; it may come back.
    pub lacking: PerFamily<Option<jiff::Timestamp>>,
    /// The gateway that takes the place of the present one once it answers.
    pub awaited: PerFamily<Option<IpAddr>>,
    /// The other link that has the device of this one.
    pub shares_device_of: Option<String>,
    /// Of each family; what fails the whole link is said of both.
    pub health: PerFamily<Health>,
    /// The families that the link has or should have: its gateway is known, or it was usable before.
    pub expected: PerFamily<bool>,
    /// When [`LinkEntry::overall`] last changed.
    pub since: jiff::Timestamp,
}

impl LinkEntry {
    /// The state of both families taken together.
    #[must_use]
    pub fn overall(&self) -> Overall {
        let usable = self.usable();
        let lacks = |family| *self.expected.of(family) && !usable.contains(&family);
        match (usable.is_empty(), IpFamily::BOTH.into_iter().any(lacks)) {
            (true, _) => Overall::Down,
            (false, true) => Overall::Partial,
            (false, false) => Overall::Up,
        }
    }

    /// The families that are down although the link should have them, each with the reason.
    #[must_use]
    pub fn faults(&self) -> Vec<(IpFamily, DownReason)> {
        let fault = |(family, health): (IpFamily, &Health)| match health {
            Health::Up => None,
            Health::Down(reason) => Some((family, *reason)),
        };
        let all: Vec<_> = self.health.iter().filter_map(fault).collect();
        let expected: Vec<_> = all.iter().copied().filter(|(family, _)| *self.expected.of(*family)).collect();
        if expected.is_empty() && self.overall() == Overall::Down { all } else { expected }
    }

    /// The families for which it is usable.
    #[must_use]
    pub fn usable(&self) -> Vec<IpFamily> {
        IpFamily::BOTH.into_iter().filter(|family| *self.health.of(*family) == Health::Up).collect()
    }

    /// What is wrong, in words; with the family where only one of them is concerned.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        match (self.overall(), self.faults().as_slice()) {
            (_, []) => None,
            (Overall::Down, [(_, reason)]) => Some(self.words(*reason)),
            (_, [(_, one), (_, other)]) if one == other => Some(self.words(*one)),
            (_, faults) => {
                let said: Vec<_> = faults
                    .iter()
                    .map(|(family, reason)| format!("{family}: {}", self.words(*reason)))
                    .collect();
                Some(said.join("; "))
            }
        }
    }

    /// A reason with the names that belong to it.
    #[must_use]
    pub fn words(&self, reason: DownReason) -> String {
        match (reason, &self.shares_device_of) {
            (DownReason::DeviceTaken, Some(other)) => format!("{reason} {other}: {}", DownReason::SHARED),
            _ => reason.to_string(),
        }
    }

    /// The namespaces of which an otherwise usable link takes nothing, in words; none where there are none.
    #[must_use]
    pub fn closed(&self) -> Option<String> {
        let names: Vec<_> = self
            .egress_policies
            .iter()
            .map(|(namespace, policy)| format!("{namespace} ({policy})"))
            .collect();
        (!names.is_empty()).then(|| {
            format!(
                "takes nothing of namespaces with NetworkPolicies for egress, which a redirect would bypass: {}; \
                 set spec.mode: Mark, or spec.policyBypass: Accepted",
                names.join(", ")
            )
        })
    }
}

/// A destination with another address on the link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerAddress {
    pub alias: IpAddr,
    pub port: u16,
    pub address: IpAddr,
    pub target_port: u16,
}

/// The state of a link, both families taken together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overall {
    /// Usable for every family that it should have.
    Up,
    /// Usable for one family, while the other one is down.
    Partial,
    Down,
}

impl Overall {
    /// The name in output and conditions.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Up => "Up",
            Self::Partial => "Partial",
            Self::Down => "Down",
        }
    }
}

/// The health of a link for one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    Up,
    Down(DownReason),
}

/// Why a link is down, or down for one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DownReason {
    DeviceMissing,
    DeviceAmbiguous,
    DeviceTaken,
    NoCarrier,
    NoAddress,
    GatewayUnknown,
    GatewayUnresolved,
    MarkUnrouted,
    StrictReversePath,
    PolicyBypassed,
    PolicyUnread(LegacyTables),
    Disabled,
}
