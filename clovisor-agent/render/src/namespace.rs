//! A namespace's policy to the files of its Envoys.

use super::names::{BOOTSTRAP_FILE, CLUSTERS_FILE, LISTENER_FILE};
use super::proxy::RenderConfig;
use super::resources::response;
use super::scope::Scope;
use super::{bootstrap, cluster, listener, route};
use clovisor_objects::problem::Problem;
use clovisor_policy::model::{NamespacePolicy, Policy, Service, Tls};
use std::collections::BTreeMap;

/// The contents of a namespace's files by file name.
pub type Files = BTreeMap<String, String>;

/// The files of a namespace, and what Envoy's configuration cannot express.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rendered {
    pub files: Files,
    pub problems: Vec<Problem>,
}

/// Renders a namespace; one without a policy gets files that pass all traffic on unchanged.
#[must_use]
pub fn render(namespace: &str, policy: &Policy, config: &RenderConfig) -> Rendered {
    let nothing = NamespacePolicy::default();
    let ns = policy.namespaces.get(namespace).unwrap_or(&nothing);
    let mut rendered = Rendered::default();
    let mut clusters: Vec<String> = cluster::fixed().iter().map(ToString::to_string).collect();
    let mut chains = Vec::new();
    for (port, services) in by_port(&ns.services) {
        let scope = Scope::new(namespace, policy, ns, port, &services);
        let (routes, mut problems) = route::configuration(&scope, &services);
        chains.push(listener::chain(&scope, &services, config));
        rendered.files.insert(scope.file(), response([routes]));
        rendered.problems.append(&mut problems);
        clusters.extend(services.iter().flat_map(|s| cluster::clusters(ns, s, config)));
    }
    if ns.services.iter().any(|service| service.tls != Tls::Disable) {
        rendered.files.extend(cluster::secrets(config));
    }
    let listener = listener::outbound(chains, config);
    rendered.files.insert(BOOTSTRAP_FILE.into(), format!("{:#}\n", bootstrap::bootstrap(namespace, config)));
    rendered.files.insert(LISTENER_FILE.into(), response([listener.to_string()]));
    rendered.files.insert(CLUSTERS_FILE.into(), response(clusters));
    rendered
}

fn by_port(services: &[Service]) -> BTreeMap<u16, Vec<&Service>> {
    let mut ports = BTreeMap::<u16, Vec<&Service>>::new();
    for service in services {
        ports.entry(service.port).or_default().push(service);
    }
    ports
}

#[cfg(test)]
mod tests;
