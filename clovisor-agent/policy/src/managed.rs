//! Routes of managed proxies, whose configuration Clovisor writes itself.

mod destination_rule;

mod service;

mod route;

mod virtual_service;

mod http_route;

mod routing;

mod mapped;

mod unused;

use super::attachment::Attachments;
use super::model::{NamespacePolicy, Service};
use super::objects::Objects;
use clovisor_objects::problem::Problem;
use clovisor_objects::snapshot::Snapshot;
use destination_rule::Clients;
use mapped::Mapped;
use unused::Unused;

/// The services of a namespace for its managed proxies.
#[derive(Debug, Default)]
pub(super) struct Managed {
    pub(super) services: Vec<Service>,
    pub(super) problems: Vec<Problem>,
    /// What is refused of objects that no mapping is about.
    pub(super) notes: Vec<Problem>,
}

/// Compiles the services of a namespace, with their routes.
pub(super) fn compile(
    snapshot: &Snapshot,
    objects: &Objects<'_>,
    namespace: &str,
    attachments: &Attachments<'_>,
    policy: &NamespacePolicy,
) -> Managed {
    let pods = snapshot.pods.iter().filter(|(key, _)| key.namespace == namespace);
    let pods: Vec<_> = pods.map(|(_, pod)| &pod.labels).collect();
    let clients = Clients { rules: &objects.rules, namespace, pods: &pods };
    let found = service::services(snapshot, &clients);
    let routed = routing::route(objects, namespace, &found, attachments, policy);
    let mapped = Mapped::new(snapshot, attachments, namespace);
    let unused = Unused { snapshot, namespace, found: &found, routed: &routed };
    let mut managed = Managed { problems: unused.problems(attachments), ..Managed::default() };
    let of_hosts = found.problems.into_iter().chain(
        found
            .unserved
            .into_iter()
            .filter(|(host, _)| !routed.services.iter().any(|s| s.closed.is_none() && s.host == *host)),
    );
    let of_hosts = of_hosts.map(|(host, problem)| (mapped.has_host(&host), problem));
    let of_objects = routed.problems.into_iter().map(|(origin, problem)| (mapped.has(&origin), problem));
    for (is_mapped, problem) in of_hosts.chain(of_objects) {
        if is_mapped { &mut managed.problems } else { &mut managed.notes }.push(problem);
    }
    managed.services = routed.services;
    managed
}

#[cfg(test)]
mod tests;
