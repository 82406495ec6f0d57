//! The part of Istio's objects that Clovisor reads.
//!
//! Fields that are not here are ignored, but not inside a match: a condition that is not understood would make
//! the match wider than its author meant.

use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// `spec` of a `VirtualService` (networking.istio.io).
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct VirtualService {
    #[serde(default)]
    pub hosts: Vec<String>,
    #[serde(default)]
    pub gateways: Vec<String>,
    /// Namespaces that see the object; `.` its own, `*` or empty: all.
    #[serde(default)]
    pub export_to: Vec<String>,
    #[serde(default)]
    pub http: Vec<IstioHttpRoute>,
    /// Routes of connections that stay encrypted, and of others that are not HTTP: whether there are any.
    #[serde(default)]
    pub tls: Vec<Value>,
    #[serde(default)]
    pub tcp: Vec<Value>,
}

/// `http[]`.
#[derive(Serialize, Clone, Debug, Default, PartialEq)]
pub struct IstioHttpRoute {
    pub name: Option<String>,
    #[serde(rename = "match")]
    pub matches: Vec<HttpMatch>,
    pub route: Vec<IstioDestination>,
    pub timeout: Option<String>,
    pub retries: Option<Retry>,
    /// Everything else; some of it changes where requests go.
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}

impl VirtualService {
    /// Whether requests inside the mesh see the object; with gateways only, just theirs do.
    #[must_use]
    pub fn is_for_mesh(&self) -> bool {
        is_for_mesh(&self.gateways)
    }
}

impl IstioHttpRoute {
    /// Whether some block of the entry is for requests inside the mesh.
    #[must_use]
    pub fn is_for_mesh(&self) -> bool {
        self.matches.is_empty() || self.matches.iter().any(HttpMatch::is_for_mesh)
    }
}

impl HttpMatch {
    /// Whether the block is for requests inside the mesh.
    #[must_use]
    pub fn is_for_mesh(&self) -> bool {
        is_for_mesh(&self.gateways)
    }
}

fn is_for_mesh(gateways: &[String]) -> bool {
    gateways.is_empty() || gateways.iter().any(|gateway| gateway == "mesh")
}

/// By hand: `flatten` would lose where values stand, and which of them are null.
impl<'de> Deserialize<'de> for IstioHttpRoute {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_struct("IstioHttpRoute", &[], HttpRouteVisitor)
    }
}

struct HttpRouteVisitor;

impl<'de> Visitor<'de> for HttpRouteVisitor {
    type Value = IstioHttpRoute;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a route")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Self::Value, A::Error> {
        let mut route = IstioHttpRoute::default();
        while let Some(name) = fields.next_key::<String>()? {
            match name.as_str() {
                "name" => route.name = fields.next_value()?,
                "match" => route.matches = fields.next_value()?,
                "route" => route.route = fields.next_value()?,
                "timeout" => route.timeout = fields.next_value()?,
                "retries" => route.retries = fields.next_value()?,
                _ => drop(route.other.insert(name, fields.next_value()?)),
            }
        }
        Ok(route)
    }
}

/// `http[].match[]`: all conditions must hold.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpMatch {
    pub name: Option<String>,
    pub uri: Option<IstioStringMatch>,
    pub scheme: Option<IstioStringMatch>,
    pub method: Option<IstioStringMatch>,
    pub authority: Option<IstioStringMatch>,
    #[serde(default)]
    pub headers: BTreeMap<String, IstioStringMatch>,
    #[serde(default)]
    pub without_headers: BTreeMap<String, IstioStringMatch>,
    #[serde(default)]
    pub query_params: BTreeMap<String, IstioStringMatch>,
    pub port: Option<u16>,
    #[serde(default)]
    pub source_labels: BTreeMap<String, String>,
    pub source_namespace: Option<String>,
    #[serde(default)]
    pub gateways: Vec<String>,
    #[serde(default)]
    pub ignore_uri_case: bool,
    pub stat_prefix: Option<String>,
}

/// A condition on a string; none of the fields: it is present.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct IstioStringMatch {
    pub exact: Option<String>,
    pub prefix: Option<String>,
    pub regex: Option<String>,
}

/// `http[].route[]`.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct IstioDestination {
    pub destination: DestinationHost,
    pub weight: Option<i32>,
    pub headers: Option<Value>,
}

/// `destination`.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct DestinationHost {
    pub host: String,
    pub subset: Option<String>,
    pub port: Option<PortNumber>,
}

/// `port: {number: N}`.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortNumber {
    pub number: u16,
}

/// `http[].retries`.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Retry {
    #[serde(default)]
    pub attempts: u32,
    pub per_try_timeout: Option<String>,
    pub retry_on: Option<String>,
}

/// `spec` of a `DestinationRule`. Policies stay as they came: some are copied beside Clovisor's own subsets.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct DestinationRule {
    #[serde(default)]
    pub host: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub export_to: Vec<String>,
    /// Only for the client pods with these labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload_selector: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traffic_policy: Option<Value>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subsets: Vec<Subset>,
    /// The object is Clovisor's own.
    #[serde(skip)]
    pub is_ours: bool,
}

/// `subsets[]`.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Subset {
    pub name: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traffic_policy: Option<Value>,
}

/// `spec` of a `ServiceEntry`.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ServiceEntry {
    #[serde(default)]
    pub hosts: Vec<String>,
    #[serde(default)]
    pub export_to: Vec<String>,
    #[serde(default)]
    pub addresses: Vec<String>,
    #[serde(default)]
    pub ports: Vec<ServicePort>,
    pub resolution: Option<String>,
    #[serde(default)]
    pub endpoints: Vec<Endpoint>,
    /// Pods and WorkloadEntries that are endpoints.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload_selector: Option<Value>,
}

/// `ports[]`.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ServicePort {
    pub number: u16,
    #[serde(default)]
    pub name: String,
    #[serde(default)]
    pub protocol: String,
    pub target_port: Option<u16>,
}

/// `endpoints[]`.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoint {
    /// An IP address, a name, or `unix://PATH`.
    pub address: Option<String>,
    /// Port name to number.
    #[serde(default)]
    pub ports: BTreeMap<String, u16>,
}

impl Endpoint {
    /// The address; none: it is a name, or missing.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        self.address.as_deref()?.parse().ok()
    }

    /// Where a port of the ServiceEntry is served: at the endpoint's port of that name, else at `targetPort`.
    #[must_use]
    pub fn socket_address(&self, port: &ServicePort) -> Option<SocketAddr> {
        let number = self.ports.get(&port.name).copied().or(port.target_port).unwrap_or(port.number);
        self.ip().map(|address| SocketAddr::new(address, number))
    }
}
