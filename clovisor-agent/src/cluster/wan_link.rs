//! `WanLink`: one uplink of a node.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// One uplink of a node: a device, its gateway, its source address.
#[derive(CustomResource, Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[kube(
    group = "clovisor.io",
    version = "v1alpha1",
    kind = "WanLink",
    shortname = "wl",
    category = "clovisor"
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WanLinkSpec {
    /// Name of the network device on the node, e.g. "eth1".
    pub device: String,
    /// Next hop of the link. Default: taken from the node's routes through the device.
    #[serde(default)]
    pub gateway: Gateway,
    /// Source address translation of steered traffic. Masquerade uses the device's own address.
    #[serde(default)]
    pub nat: Nat,
    /// Largest IP packet the link carries, in bytes. Default: the device's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 576, max = 65535))]
    pub mtu: Option<i32>,
    /// Active takes traffic; Drain keeps established flows and takes no new ones; Disabled takes none.
    #[serde(default)]
    pub state: LinkState,
    /// Destinations that have another address on this link.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<Peer>,
    /// Namespaces whose mappings may use the link. Empty: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_namespaces: Vec<String>,
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

/// A destination with an address of its own on this link.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Peer {
    /// Address that proxies dial.
    pub alias: IpAddr,
    /// Port that proxies dial.
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
    /// Address of the same peer on this link, of the same family.
    pub address: IpAddr,
    /// Port on this link. Default: the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub target_port: Option<i32>,
}
