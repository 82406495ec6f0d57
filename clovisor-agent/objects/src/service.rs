//! The part of a `Service` that Clovisor reads: its addresses, which ports it has and what they speak.

use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// `spec` of a `Service`.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceObject {
    #[serde(default)]
    pub ports: Vec<Port>,
    /// `None` without one.
    #[serde(default, rename = "clusterIP")]
    pub cluster_ip: Option<String>,
    #[serde(default, rename = "clusterIPs")]
    pub cluster_ips: Option<Vec<String>>,
    #[serde(default, rename = "externalIPs")]
    pub external_ips: Option<Vec<String>>,
    /// Of the status: where load balancers answer for it.
    #[serde(default, rename = "loadBalancerIPs")]
    pub balanced: Vec<IpAddr>,
}

impl ServiceObject {
    /// Its addresses, each with what the object calls it.
    pub fn addresses(&self) -> impl Iterator<Item = (IpAddr, &'static str)> {
        let cluster = self.cluster_ip.iter().chain(self.cluster_ips.iter().flatten());
        let external = self.external_ips.iter().flatten();
        let named = cluster.map(|a| (a, "clusterIP")).chain(external.map(|a| (a, "externalIP")));
        // A headless Service's is the word None.
        let parsed = named.filter_map(|(address, name)| Some((address.parse().ok()?, name)));
        parsed.chain(self.balanced.iter().map(|address| (*address, "load balancer address")))
    }
}

/// `status` of a `Service`.
#[derive(Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ServiceObjectStatus {
    #[serde(default)]
    pub load_balancer: Option<LoadBalancer>,
}

/// `status.loadBalancer`.
#[derive(Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadBalancer {
    #[serde(default)]
    pub ingress: Option<Vec<BalancerAddress>>,
}

/// `status.loadBalancer.ingress[]`.
#[derive(Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct BalancerAddress {
    /// None where it has a name only.
    pub ip: Option<IpAddr>,
}

impl ServiceObjectStatus {
    /// The addresses of load balancers.
    #[must_use]
    pub fn balanced(self) -> Vec<IpAddr> {
        let ingress = self.load_balancer.and_then(|balancer| balancer.ingress).unwrap_or_default();
        ingress.into_iter().filter_map(|one| one.ip).collect()
    }
}

/// `ports[]`.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Port {
    #[serde(default)]
    pub name: String,
    pub port: u16,
    pub app_protocol: Option<String>,
}
