//! The part of the Gateway API's `HTTPRoute` that Clovisor reads: routes of a mesh (GAMMA), attached to a Service.
//!
//! As with Istio's objects, an unknown condition inside a match is refused and other unknown fields are ignored.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// `spec` of an `HTTPRoute` (gateway.networking.k8s.io/v1).
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct HttpRoute {
    #[serde(default)]
    pub parent_refs: Vec<ParentRef>,
    #[serde(default)]
    pub rules: Vec<RouteRule>,
}

/// `parentRefs[]`; of a mesh route a Service.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct ParentRef {
    pub group: Option<String>,
    pub kind: Option<String>,
    pub namespace: Option<String>,
    #[serde(default)]
    pub name: String,
    pub port: Option<u16>,
}

/// `rules[]`.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RouteRule {
    pub name: Option<String>,
    #[serde(default)]
    pub matches: Vec<HttpRouteMatch>,
    #[serde(default)]
    pub filters: Vec<Value>,
    #[serde(default)]
    pub backend_refs: Vec<BackendRef>,
    pub timeouts: Option<Timeouts>,
}

/// `rules[].matches[]`: all conditions must hold.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpRouteMatch {
    pub path: Option<PathMatch>,
    #[serde(default)]
    pub headers: Vec<HttpValueMatch>,
    #[serde(default)]
    pub query_params: Vec<HttpValueMatch>,
    pub method: Option<String>,
}

/// `path`: `Exact`, `PathPrefix` (the default) or `RegularExpression`.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct PathMatch {
    #[serde(rename = "type")]
    pub kind: Option<String>,
    pub value: Option<String>,
}

/// A header or query parameter: `Exact` (the default) or `RegularExpression`.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct HttpValueMatch {
    #[serde(rename = "type")]
    pub kind: Option<String>,
    pub name: String,
    pub value: String,
}

/// `backendRefs[]`.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct BackendRef {
    pub group: Option<String>,
    pub kind: Option<String>,
    pub namespace: Option<String>,
    #[serde(default)]
    pub name: String,
    pub port: Option<u16>,
    pub weight: Option<i32>,
    #[serde(default)]
    pub filters: Vec<Value>,
}

/// `timeouts`.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct Timeouts {
    pub request: Option<String>,
}

impl ParentRef {
    /// Whether the parent is a Kubernetes Service; the kind of a parent is Gateway by default.
    #[must_use]
    pub fn is_service(&self) -> bool {
        is_service(self.group.as_deref(), self.kind.as_deref().unwrap_or("Gateway"))
    }
}

impl BackendRef {
    /// Whether the backend is a Kubernetes Service, which it is by default.
    #[must_use]
    pub fn is_service(&self) -> bool {
        is_service(self.group.as_deref(), self.kind.as_deref().unwrap_or("Service"))
    }
}

/// A Service is of the core group.
fn is_service(group: Option<&str>, kind: &str) -> bool {
    kind == "Service" && group.unwrap_or_default().is_empty()
}
