//! The part of a `Pod` that Clovisor reads.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Annotation with the uid of the pod's proxy.
pub const PROXY_UID: &str = "clovisor.io/proxy-uid";

/// Uid of Istio's proxy.
pub const ISTIO_PROXY_UID: u32 = 1337;

/// A pod: identity and addresses.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct PodObject {
    pub labels: BTreeMap<String, String>,
    /// Empty once the pod has ended: another pod may have them.
    pub addresses: Vec<IpAddr>,
    pub proxy_uid: u32,
    /// The pod has no network of its own: its addresses are the node's.
    #[serde(default)]
    pub host_network: bool,
}

/// `spec` of a `Pod`.
#[derive(Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PodObjectSpec {
    #[serde(default)]
    pub host_network: bool,
}

/// `status` of a `Pod`.
#[derive(Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PodObjectStatus {
    #[serde(default)]
    pub phase: String,
    #[serde(rename = "podIP")]
    pub pod_ip: Option<IpAddr>,
    #[serde(default, rename = "podIPs")]
    pub pod_ips: Vec<PodIp>,
}

impl PodObjectStatus {
    /// The pod has ended, and keeps its last addresses in its status.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        matches!(self.phase.as_str(), "Succeeded" | "Failed")
    }
}

/// `status.podIPs[]`.
#[derive(Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct PodIp {
    pub ip: IpAddr,
}
