//! What the routes and the listener of one port must agree on.

use crate::policy::model::{NamespacePolicy, Policy, RouteDecision, Service};
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};

/// What the routes of one port have in common.
#[derive(Debug)]
pub(crate) struct Scope<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) port: u16,
    /// Labels of the pods that will read these routes.
    pub(crate) pods: Vec<&'a BTreeMap<String, String>>,
    /// Headers that the callout needs; empty: no route of this port asks.
    pub(crate) callout_headers: BTreeSet<String>,
}

impl<'a> Scope<'a> {
    /// The scope of a port with these services.
    pub(crate) fn new(
        namespace: &'a str,
        policy: &'a Policy,
        own: &NamespacePolicy,
        port: u16,
        services: &[&Service],
    ) -> Self {
        let pods = policy.pods.iter().filter(|(key, _)| key.namespace == namespace);
        Self {
            namespace,
            port,
            pods: pods.map(|(_, pod)| &pod.labels).collect(),
            callout_headers: callout_headers(own, services),
        }
    }

    /// Whether some route of this port asks the agent.
    pub(crate) fn asks_agent(&self) -> bool {
        !self.callout_headers.is_empty()
    }

    /// Name of the route configuration. It changes with the callout's own settings, so that connections on a
    /// filter chain that Envoy drains keep routes that fit that chain.
    pub(crate) fn name(&self) -> String {
        if !self.asks_agent() {
            return self.port.to_string();
        }
        let mut hasher = DefaultHasher::new();
        self.callout_headers.hash(&mut hasher);
        format!("{}-{:08x}", self.port, hasher.finish() & 0xffff_ffff)
    }

    /// Name of the file with this route configuration.
    pub(crate) fn file(&self) -> String {
        format!("rds-{}.json", self.name())
    }
}

fn callout_headers(own: &NamespacePolicy, services: &[&Service]) -> BTreeSet<String> {
    let mut headers = BTreeSet::new();
    for route in services.iter().flat_map(|s| &s.routes) {
        if let RouteDecision::Callout { mapping, .. } = &route.decision {
            headers.extend([":authority", ":method", ":path"].map(str::to_owned));
            let rules = own.mappings.get(mapping).map_or(&[][..], |m| m.rules.as_slice());
            headers.extend(rules.iter().flat_map(|r| r.header_names()).map(str::to_owned));
        }
    }
    headers
}
