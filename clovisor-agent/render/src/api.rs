//! The documents of the local API; also what `clovisorctl -o json` prints.

use clovisor_objects::family::IpFamily;
use clovisor_objects::wan_mapping::traffic::TrafficProtocol;
use serde::{Deserialize, Serialize};

/// A list as `kubectl -o json` prints one.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct List<T> {
    pub api_version: String,
    pub kind: String,
    pub items: Vec<T>,
}

impl<T> List<T> {
    /// A list of this kind, e.g. `SessionList`.
    #[must_use]
    pub fn new(kind: &str, items: Vec<T>) -> Self {
        Self { api_version: "clovisor.io/v1alpha1".into(), kind: kind.into(), items }
    }
}

/// `GET /v1/status`.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    pub version: String,
    pub ready: bool,
    /// What readiness still waits for.
    pub waiting_for: Vec<String>,
    /// RFC 3339.
    pub started: String,
    /// RFC 3339, while objects come from disk because the API server is unreachable.
    pub stale_since: Option<String>,
    /// Generation of the policy that the kernel maps implement.
    pub policy_generation: u64,
    /// Entries of the policy's kernel maps written and removed since the agent's start.
    #[serde(default)]
    pub map_writes: u64,
    /// The proxies are Istio's sidecars.
    #[serde(default)]
    pub sidecars: bool,
    /// The files of the proxies implement the newest policy.
    pub proxies_current: bool,
    pub attachments: Vec<Attachment>,
    pub maps: Vec<MapFill>,
    pub problems: Vec<Problem>,
    pub counters: Vec<Counter>,
    /// Usable for every address family that they should have.
    pub links_up: u64,
    /// Usable for one address family, while the other one is down.
    #[serde(default)]
    pub links_partial: u64,
    pub links_total: u64,
    pub sessions: u64,
    pub pods: Vec<PodStatus>,
}

/// An attached program.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Attachment {
    pub program: String,
    pub device: String,
    /// `Tcx` or `Clsact`.
    pub hook: String,
    /// `Fresh`, or `Replaced` where an earlier agent had attached its program.
    pub origin: String,
}

/// How full a kernel map is; the flow tables (`FLOW4`, `UNREPLIED4`, …) in flows, each of which has two entries.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct MapFill {
    pub map: String,
    pub entries: u64,
    pub capacity: u64,
}

/// A refused object or a broken file: twin of [`clovisor_objects::problem::Problem`].
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    pub reason: String,
    pub kind: String,
    pub object: String,
    pub field: String,
    pub message: String,
}

/// A verdict reason and how often.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Counter {
    pub reason: String,
    pub packets: u64,
    pub bytes: u64,
}

/// A mapped pod of this node.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PodStatus {
    pub namespace: String,
    pub name: String,
    pub addresses: Vec<String>,
    /// Host side device, or none and the reason.
    pub device: Option<String>,
    pub reason: Option<String>,
}

/// `GET /v1/links`.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct LinkStatus {
    pub name: String,
    pub device: String,
    /// `Up`; `Partial`: for one address family, while the other one is down; or `Down`.
    pub state: String,
    /// `Active`, `Drain` or `Disabled`: what the WanLink says.
    pub wanted: String,
    pub reason: Option<String>,
    /// IPv4 and IPv6.
    #[serde(default)]
    pub families: Vec<FamilyStatus>,
    pub gateways: Vec<String>,
    pub sources: Vec<String>,
    pub mtu: u32,
    pub tx_bytes: u64,
    pub rx_bytes: u64,
    pub sessions: u64,
    /// RFC 3339.
    pub since: String,
}

impl LinkStatus {
    /// The address families for which the link is usable, in one word.
    #[must_use]
    pub fn usable(&self) -> String {
        let up = self.families.iter().filter(|family| family.state == "Up");
        up.map(|family| family.family.name()).collect::<Vec<_>>().join(",")
    }
}

/// A link for one address family.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct FamilyStatus {
    pub family: IpFamily,
    /// `Up` or `Down`; `Unused` where the link was never usable for the family and no gateway is known.
    pub state: String,
    pub reason: Option<String>,
}

/// `GET /v1/sessions`: one steered flow.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Session {
    pub namespace: String,
    pub pod: String,
    pub protocol: String,
    /// `ADDRESS:PORT` of the pod.
    pub source: String,
    /// `ADDRESS:PORT` that the proxy dialled.
    pub destination: String,
    /// `ADDRESS:PORT` on the link, after translation.
    pub translated_source: String,
    pub translated_destination: String,
    pub class: u8,
    /// `MAPPING` or `MAPPING/RULE`.
    pub class_name: String,
    pub link: String,
    pub age_seconds: u64,
    pub idle_seconds: u64,
    pub tx_bytes: u64,
    pub rx_bytes: u64,
}

/// `POST /v1/explain`: the question.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ExplainRequest {
    pub namespace: String,
    pub pod: String,
    /// Host as the client writes it, with or without port.
    pub host: String,
    pub method: String,
    pub path: String,
    pub headers: Vec<(String, String)>,
    /// `TCP`, `UDP` or `ICMP`: a packet of the pod to the host, which is an address then, past any proxy.
    #[serde(default)]
    pub protocol: Option<TrafficProtocol>,
}

/// The answer.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    pub service: Option<String>,
    pub routes: Vec<RouteVerdict>,
    /// Callout rules of the mapping, where the route asks the agent.
    pub rules: Vec<RouteVerdict>,
    pub mapping: Option<String>,
    pub class: Option<u8>,
    pub class_name: Option<String>,
    pub links: Vec<LinkVerdict>,
    /// The link now, `default route`, `local` or `refused`; where families differ, that of each, e.g. `IPv4: s8, IPv6: s9`.
    pub link: String,
    /// The same for each address family that the destination has, or may have where that is not known.
    #[serde(default)]
    pub link_by_family: Vec<FamilyLink>,
    pub reason: String,
    /// The pod's open connections of this class, by link. A proxy may send the request over one of them.
    #[serde(default)]
    pub connections: Vec<OpenConnections>,
    /// Kernel map entries that implement it, e.g. `CLASSES {zone 1, class 2} = 3`.
    pub entries: Vec<String>,
}

/// Open connections of one pod and class on one link.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct OpenConnections {
    pub link: String,
    pub count: u64,
    /// RFC 3339: when the oldest and the newest of them were opened.
    pub opened_first: String,
    pub opened_last: String,
    /// Why they are on another link than new ones; none: they are on the same.
    pub reason: Option<String>,
}

/// A route or rule that was looked at.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RouteVerdict {
    pub name: String,
    pub taken: bool,
    /// The first condition that failed, or what matched.
    pub reason: String,
}

/// A candidate link.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct LinkVerdict {
    pub name: String,
    pub state: String,
    /// For one of the address families at least.
    pub chosen: bool,
    pub reason: String,
    /// For each address family that the destination has, or may have.
    #[serde(default)]
    pub families: Vec<FamilyVerdict>,
}

/// A candidate link, for one address family.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct FamilyVerdict {
    pub family: IpFamily,
    pub chosen: bool,
    pub reason: String,
}

/// Where connections of one address family leave.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct FamilyLink {
    pub family: IpFamily,
    /// Name of the link, `default route` or `refused`.
    pub link: String,
}

/// Any failure of the API.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    pub error: String,
    /// What to do next.
    pub fix: Option<String>,
}
