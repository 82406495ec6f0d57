//! `WanLink`: one uplink of a node.
#![allow(unreachable_pub, reason = "KubeSchema repeats each struct inside a function")]

/// Which device is meant, where names differ.
pub mod selector;

use super::refusal::{FieldPath, Refusal};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use selector::DeviceSelector;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const LOOPBACK: &str = "lo";

/// One uplink of a node: a device, its gateway, its source address.
#[derive(CustomResource, Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Eq)]
#[kube(
    group = "clovisor.io",
    version = "v1alpha1",
    kind = "WanLink",
    doc = "One uplink of a node: a device, its gateway, its source address.",
    shortname = "wl",
    category = "clovisor",
    status = "WanLinkStatus",
    validation = Rule::new("self.metadata.name.size() <= 63").message("the name must have at most 63 characters"),
    validation = Rule::new("!has(self.spec.mode) || self.spec.mode != 'Mark' || !has(self.spec.peers) || self.spec.peers.size() == 0").message("peers need mode Redirect: with Mark the stack forwards, and nobody rewrites destinations"),
    validation = Rule::new("!has(self.spec.device) || self.spec.device != 'lo'").message("lo leads nowhere; name a device towards the link's network"),
    validation = Rule::new("has(self.spec.device) != has(self.spec.deviceSelector)").message("give either device or deviceSelector"),
    printcolumn(json_path = ".spec.device", name = "Device", type_ = "string"),
    printcolumn(json_path = ".spec.state", name = "Wanted", type_ = "string"),
    printcolumn(json_path = ".status.conditions[?(@.type=='Ready')].status", name = "Ready", type_ = "string"),
    printcolumn(json_path = ".status.conditions[?(@.type=='Ready')].reason", name = "Reason", type_ = "string"),
    printcolumn(json_path = ".status.nodes", name = "Nodes", type_ = "string"),
    printcolumn(json_path = ".spec.nat", name = "NAT", type_ = "string", priority = 1),
    printcolumn(json_path = ".spec.mode", name = "Mode", type_ = "string", priority = 1),
    printcolumn(json_path = ".spec.mtu", name = "MTU", type_ = "integer", priority = 1),
    printcolumn(json_path = ".metadata.creationTimestamp", name = "Age", type_ = "date")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WanLinkSpec {
    /// Name of the network device on the node, e.g. "eth1". Either this or deviceSelector.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 15))]
    pub device: Option<String>,
    /// The device by its properties, where its name differs from node to node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_selector: Option<DeviceSelector>,
    /// Labels of the nodes that have the link. Empty: every node; one without the device says so. A folder of YAML is
    /// for one node, there it is not looked at.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Next hop of the link. Default: taken from the node's routes through the device.
    #[serde(default)]
    pub gateway: Gateway,
    /// Source address translation of steered traffic. Masquerade uses the device's own address.
    #[serde(default)]
    pub nat: Nat,
    /// How packets get to the link: Redirect past the node's stack, or Mark for it.
    #[serde(default)]
    pub mode: Mode,
    /// Whether Redirect may bypass a policy of the node for forwarded packets (iptables, nftables). Where the node has
    /// one, or tables of iptables-legacy, which cannot be read, and this does not say Accepted, the link takes no
    /// traffic; where a namespace has a NetworkPolicy for egress, none of that namespace.
    #[serde(default)]
    pub policy_bypass: PolicyBypass,
    /// Largest IP packet the link carries, in bytes. Default: the device's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 576, max = 65535))]
    pub mtu: Option<i32>,
    /// DSCP of steered packets on the link's wire where their mapping asks for none. Default: 0 for requests of routes;
    /// applications that are steered by destination keep their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 63))]
    pub dscp: Option<i32>,
    /// Active takes traffic; Drain keeps established flows and takes no new ones; Disabled takes none.
    #[serde(default)]
    pub state: LinkState,
    /// Destinations that have another address on this link.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub peers: Vec<Peer>,
    /// Namespaces whose mappings may use the link. Empty: all. Connections of one that is taken out leave it at once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub allowed_namespaces: Vec<String>,
}

impl WanLinkSpec {
    /// Fields that contradict each other, or can lead nowhere; most of them the API server's CEL rules refuse too.
    ///
    /// # Errors
    /// Device and selector are both there, both absent, or the selector selects nothing; peers with mode Mark, of two
    /// families, or twice; a gateway that is no neighbour; a DSCP of more than six bits.
    pub fn check(&self) -> Result<(), Refusal> {
        let wrong = |field: &str, message: &str| Err(Refusal::invalid_object(field, message));
        if self.mode == Mode::Mark && !self.peers.is_empty() {
            return wrong(
                "spec.peers",
                "peers need mode Redirect: with Mark the stack forwards, and nobody rewrites destinations",
            );
        }
        if self.dscp.is_some_and(|dscp| !(0..=63).contains(&dscp)) {
            return wrong("spec.dscp", "is outside 0 to 63; a DSCP has six bits");
        }
        self.check_peers()?;
        if self.gateway.ipv4.is_some_and(|ip| is_nowhere(ip.into())) {
            return wrong("spec.gateway.ipv4", "is no address of a neighbour; name the router of the link");
        }
        if self.gateway.ipv6.is_some_and(|ip| is_nowhere(ip.into())) {
            return wrong("spec.gateway.ipv6", "is no address of a neighbour; name the router of the link");
        }
        if self
            .device
            .as_ref()
            .is_some_and(|name| name.contains(['/', ':']) || name.contains(char::is_whitespace))
        {
            return wrong("spec.device", "is no name of a device; see `ip link` on the node");
        }
        if self.device.as_deref() == Some(LOOPBACK) {
            return wrong("spec.device", "lo leads nowhere; name a device towards the link's network");
        }
        match (&self.device, &self.device_selector) {
            (Some(_), None) => Ok(()),
            (None, Some(selector)) if *selector != DeviceSelector::default() => Ok(()),
            (None, Some(_)) => wrong("spec.deviceSelector", "give at least one of mac, driver, defaultRoute"),
            _ => wrong("spec.device", "give either device or deviceSelector"),
        }
    }

    fn check_peers(&self) -> Result<(), Refusal> {
        let mut seen = BTreeSet::new();
        for (i, peer) in self.peers.iter().enumerate() {
            let at = FieldPath::from("spec.peers").index(i);
            if peer.alias.is_ipv4() != peer.address.is_ipv4() {
                let message = "alias and address must be of one family, both IPv4 or both IPv6";
                return Err(Refusal::invalid_object(at.field("address"), message));
            }
            if !seen.insert((peer.alias, peer.port)) {
                let message =
                    format!("{} with port {} stands before already; remove one", peer.alias, peer.port);
                return Err(Refusal::invalid_object(at, message));
            }
        }
        Ok(())
    }
}

/// No router has such an address.
fn is_nowhere(address: IpAddr) -> bool {
    let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    address.is_unspecified() || address.is_loopback() || address.is_multicast() || broadcast
}

/// The state of the link on all its nodes, as the controller sums it up.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct WanLinkStatus {
    /// `Ready`: usable on every node that has it; the reason of the worst node else.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// Nodes on which it is usable.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub nodes_ready: i32,
    /// Nodes that have it.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub nodes_total: i32,
    /// The same as one text, e.g. "37/40".
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub nodes: String,
}

/// Next hop per family; a family without one uses the node's routes through the device.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Gateway {
    /// IPv4 next hop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv4: Option<Ipv4Addr>,
    /// IPv6 next hop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<Ipv6Addr>,
}

/// Source address translation.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Nat {
    /// Steered packets leave with the device's address.
    #[default]
    Masquerade,
    /// Steered packets keep the pod's address; the far end must know a way back.
    None,
}

/// How steered packets get to the link.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Straight to the device, both ways: fastest; the node's iptables and nftables rules do not see them.
    #[default]
    Redirect,
    /// Marked; the node's stack forwards them by a rule for the mark, and its iptables and nftables rules hold. They
    /// translate too: nat only says whether connections may leave the link.
    Mark,
}

/// Redirected packets bypass the node's firewall rules.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PolicyBypass {
    /// The link stays down where such rules exist.
    #[default]
    Refused,
    /// The operator knows: the rules are not meant for steered traffic, or are enforced elsewhere too.
    Accepted,
}

/// What the operator wants of the link.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LinkState {
    /// Takes traffic.
    #[default]
    Active,
    /// Keeps established flows, takes no new ones.
    Drain,
    /// Takes no traffic.
    Disabled,
}

impl fmt::Display for LinkState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Active => "Active",
            Self::Drain => "Drain",
            Self::Disabled => "Disabled",
        })
    }
}

/// A destination with an address of its own on this link.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("self.alias.contains(':') == self.address.contains(':')")
        .message("alias and address must be of one family, both IPv4 or both IPv6")
)]
pub struct Peer {
    /// Address that proxies dial.
    #[schemars(with = "String", length(max = 45))]
    pub alias: IpAddr,
    /// Port that proxies dial.
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
    /// Address of the same peer on this link, of the same family.
    #[schemars(with = "String", length(max = 45))]
    pub address: IpAddr,
    /// Port on this link. Default: the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub target_port: Option<i32>,
}
