//! What the mappings of a namespace are about: refusals of other objects fail nobody's mapping.

use crate::attachment::Attachments;
use crate::hosts::{ServiceName, qualify};
use crate::origin::RouteOrigin;
use clovisor_objects::identity::ObjectKey;
use clovisor_objects::snapshot::Snapshot;
use std::collections::BTreeSet;

/// The objects that mappings of a namespace target, and the hosts that these objects name.
#[derive(Debug, Default)]
pub(crate) struct Mapped<'a> {
    origins: BTreeSet<&'a RouteOrigin>,
    /// Hosts in lower case, wildcards as they are.
    hosts: BTreeSet<String>,
}

impl<'a> Mapped<'a> {
    /// What the attached mappings of `namespace` are about.
    pub(crate) fn new(snapshot: &Snapshot, attachments: &'a Attachments<'_>, namespace: &str) -> Self {
        let origins = attachments.by_route.keys().map(|(origin, _)| origin);
        let origins: BTreeSet<_> = origins.filter(|origin| origin.key().namespace == namespace).collect();
        let hosts = origins.iter().flat_map(|origin| match origin {
            RouteOrigin::VirtualService(key) => of_virtual_service(snapshot, key),
            RouteOrigin::HttpRoute(key) => of_http_route(snapshot, key),
        });
        let hosts = hosts.map(|host| host.to_ascii_lowercase()).collect();
        Self { origins, hosts }
    }

    /// Whether some mapping targets the object.
    pub(crate) fn has(&self, origin: &RouteOrigin) -> bool {
        self.origins.contains(origin)
    }

    /// Whether an object that some mapping targets names the host, for its requests or as their destination.
    pub(crate) fn has_host(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        let wild = |named: &String| named.strip_prefix('*').is_some_and(|suffix| host.ends_with(suffix));
        self.hosts.contains(&host) || self.hosts.iter().any(wild)
    }
}

fn of_virtual_service(snapshot: &Snapshot, key: &ObjectKey) -> Vec<String> {
    let Some(vs) = snapshot.virtual_services.get(key) else { return Vec::new() };
    let destinations = vs.spec.http.iter().flat_map(|http| &http.route).map(|route| &route.destination.host);
    vs.spec.hosts.iter().chain(destinations).map(|host| qualify(host, &key.namespace)).collect()
}

fn of_http_route(snapshot: &Snapshot, key: &ObjectKey) -> Vec<String> {
    let Some(route) = snapshot.http_routes.get(key) else { return Vec::new() };
    let parents = route.spec.parent_refs.iter().filter(|p| p.is_service());
    let parents = parents.map(|p| (&p.name, p.namespace.as_deref()));
    let backends = route.spec.rules.iter().flat_map(|rule| &rule.backend_refs).filter(|b| b.is_service());
    let backends = backends.map(|b| (&b.name, b.namespace.as_deref()));
    let host = |(name, namespace): (&String, Option<&str>)| {
        ServiceName { name, namespace: namespace.unwrap_or(&key.namespace) }.host()
    };
    parents.chain(backends).map(host).collect()
}
