//! What the routes and the listener of one port must agree on.

use super::names::routes_file;
use clovisor_policy::model::{NamespacePolicy, Policy, RouteDecision, Service};
use std::collections::{BTreeMap, BTreeSet};

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
        ns: &NamespacePolicy,
        port: u16,
        services: &[&Service],
    ) -> Self {
        let pods = policy.pods.iter().filter(|(key, _)| key.namespace == namespace);
        Self {
            namespace,
            port,
            pods: pods.map(|(_, pod)| &pod.labels).collect(),
            callout_headers: callout_headers(ns, services),
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
        let headers: Vec<&str> = self.callout_headers.iter().map(String::as_str).collect();
        // The same hash in every release, or an upgrade would rename the file and drain connections.
        format!("{}-{:08x}", self.port, crc32fast::hash(headers.join("\n").as_bytes()))
    }

    /// Name of the file with this route configuration.
    pub(crate) fn file(&self) -> String {
        routes_file(&self.name())
    }
}

fn callout_headers(ns: &NamespacePolicy, services: &[&Service]) -> BTreeSet<String> {
    let mut headers = BTreeSet::new();
    for route in services.iter().flat_map(|s| &s.routes) {
        if let RouteDecision::Callout { mapping, .. } = &route.decision {
            headers.extend([":authority", ":method", ":path"].map(str::to_owned));
            let rules = ns.mappings.get(mapping).map_or(&[][..], |m| m.rules.as_slice());
            headers.extend(rules.iter().flat_map(|r| r.header_names()).map(str::to_owned));
        }
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_same_in_every_release() {
        let names = |names: [&str; 4]| names.map(str::to_owned).into();
        let scope =
            |headers| Scope { namespace: "shop", port: 80, pods: Vec::new(), callout_headers: headers };
        assert_eq!(scope(BTreeSet::new()).file(), "rds-80.json");
        assert_eq!(scope(names([":authority", ":method", ":path", "user"])).file(), "rds-80-9ff29da6.json");
    }
}
