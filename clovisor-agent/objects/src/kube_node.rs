//! The part of a `Node` that Clovisor reads: labels, addresses, the network of its pods.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// A node.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeObject {
    pub labels: BTreeMap<String, String>,
    pub addresses: Vec<IpAddr>,
    pub pod_cidrs: Vec<IpNet>,
}

/// `spec` of a `Node`.
#[derive(Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeObjectSpec {
    #[serde(default, rename = "podCIDR")]
    pub pod_cidr: Option<IpNet>,
    #[serde(default, rename = "podCIDRs")]
    pub pod_cidrs: Option<Vec<IpNet>>,
}

/// `status` of a `Node`.
#[derive(Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeObjectStatus {
    #[serde(default)]
    pub addresses: Option<Vec<NodeAddress>>,
}

/// `status.addresses[]`.
#[derive(Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeAddress {
    /// An address, or a name.
    pub address: String,
}

impl NodeObject {
    /// The parts of an object.
    #[must_use]
    pub fn new(labels: BTreeMap<String, String>, spec: NodeObjectSpec, status: NodeObjectStatus) -> Self {
        let mut pod_cidrs = spec.pod_cidrs.unwrap_or_default();
        pod_cidrs.extend(spec.pod_cidr.filter(|cidr| !pod_cidrs.contains(cidr)));
        let addresses = status.addresses.unwrap_or_default();
        let addresses = addresses.iter().filter_map(|one| one.address.parse().ok()).collect();
        Self { labels, addresses, pod_cidrs }
    }
}
