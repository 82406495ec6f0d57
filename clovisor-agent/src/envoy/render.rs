//! Policy to files.

use super::resources::response;
use super::scope::Scope;
use super::steps::Files;
use super::{bootstrap, cluster, listener, route};
use crate::cluster::problem::Problem;
use crate::policy::model::{NamespacePolicy, Policy, Service, Tls};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// What the proxies of one namespace share; paths are as the pod sees them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RenderConfig {
    /// The folder with this namespace's files.
    pub mount: PathBuf,
    /// The agent's callout socket.
    pub callout: PathBuf,
    /// The folder with `cert-chain.pem`, `key.pem` and `root-cert.pem`.
    pub certificates: PathBuf,
    pub admin: Admin,
    /// Port that the pod's outbound connections are redirected to.
    pub outbound_port: u16,
    /// Whether to listen on `::` too.
    pub ipv6: bool,
    /// How long a request waits for the agent's answer.
    pub callout_timeout: Duration,
    /// How long a connection to an endpoint may take, TLS included.
    pub connect_timeout: Duration,
}

/// Where Envoy's own admin interface listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admin {
    /// Port on the pod's loopback address.
    Loopback(u16),
    /// Unix socket; not to be shared by two pods.
    Pipe(PathBuf),
}

impl Default for RenderConfig {
    /// Paths as Clovisor's own deployment mounts them, ports as in Istio.
    fn default() -> Self {
        Self {
            mount: PathBuf::from("/etc/clovisor/envoy"),
            callout: PathBuf::from("/run/clovisor/callout/callout.sock"),
            certificates: PathBuf::from("/etc/clovisor/certs"),
            admin: Admin::Loopback(15000),
            outbound_port: 15001,
            ipv6: true,
            callout_timeout: Duration::from_millis(50),
            connect_timeout: Duration::from_secs(5),
        }
    }
}

/// The files of one namespace, by name, and what could not be said exactly.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rendered {
    pub files: Files,
    pub problems: Vec<Problem>,
}

/// Renders a namespace; one without a policy gets files that pass everything on unchanged.
pub fn render(namespace: &str, policy: &Policy, config: &RenderConfig) -> Rendered {
    let nothing = NamespacePolicy::default();
    let own = policy.namespaces.get(namespace).unwrap_or(&nothing);
    let mut rendered = Rendered::default();
    let mut clusters: Vec<String> = cluster::fixed().iter().map(ToString::to_string).collect();
    let mut chains = Vec::new();
    for (port, services) in by_port(&own.services) {
        let scope = Scope::new(namespace, policy, own, port, &services);
        let (routes, mut problems) = route::configuration(&scope, &services);
        chains.push(listener::chain(&scope, &services, config));
        rendered.files.insert(scope.file(), response([routes]));
        rendered.problems.append(&mut problems);
        clusters.extend(services.iter().flat_map(|s| cluster::clusters(own, s, config)));
    }
    if own.services.iter().any(|service| service.tls != Tls::Disable) {
        rendered.files.extend(cluster::secrets(config));
    }
    let listener = listener::outbound(chains, config);
    rendered.files.insert(bootstrap::FILE.into(), format!("{:#}\n", bootstrap::bootstrap(namespace, config)));
    rendered.files.insert(listener::FILE.into(), response([listener.to_string()]));
    rendered.files.insert(cluster::FILE.into(), response(clusters));
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
