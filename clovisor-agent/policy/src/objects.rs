//! The snapshot's objects, indexed by the hosts and the Services that they are about.

use super::hosts::{ByHost, DestinationRules, ServiceName, destination_rules, visible};
use super::model::Service;
use clovisor_objects::gateway::HttpRoute;
use clovisor_objects::identity::ObjectKey;
use clovisor_objects::istio::VirtualService;
use clovisor_objects::snapshot::{Dated, Snapshot};
use std::collections::HashMap;

/// A VirtualService and how specifically it names the host; the larger, the more specific.
pub(crate) type Candidate<'a> = (&'a ObjectKey, &'a Dated<VirtualService>, usize);

/// Indexes that all namespaces share.
#[derive(Debug)]
pub(crate) struct Objects<'a> {
    virtual_services: ByHost<'a, Dated<VirtualService>>,
    pub(crate) http_routes: ByService<'a>,
    pub(crate) rules: DestinationRules<'a>,
}

impl<'a> Objects<'a> {
    /// Indexes the objects of a snapshot.
    pub(crate) fn new(snapshot: &'a Snapshot) -> Self {
        let services = snapshot.virtual_services.iter().map(|(key, vs)| (key, &**vs));
        Self {
            virtual_services: ByHost::new(services, |vs| &vs.spec.hosts),
            http_routes: ByService::new(snapshot.http_routes.iter().map(|(key, route)| (key, &**route))),
            rules: destination_rules(snapshot),
        }
    }

    /// The VirtualServices of a host, as Istio orders them: the most specific name first, then those of the client's
    /// namespace, then the oldest. The first one's routes hold.
    pub(crate) fn virtual_services_of(&self, client: &str, host: &str) -> Vec<Candidate<'a>> {
        let covering = self.virtual_services.covering(host).into_iter().filter(|found| {
            let spec = &found.object.spec;
            spec.is_for_mesh() && visible(&spec.export_to, &found.key.namespace, client)
        });
        let mut all: Vec<_> = covering.map(|found| (found.key, found.object, found.specificity)).collect();
        all.sort_by_key(|(key, vs, specificity)| {
            (std::cmp::Reverse(*specificity), key.namespace != client, vs.created, &key.name, &key.namespace)
        });
        // A VirtualService that names the host twice is one candidate, by its more specific name.
        all.dedup_by_key(|(key, ..)| *key);
        all
    }
}

/// An HTTPRoute and its name.
pub(crate) type NamedHttpRoute<'a> = (&'a ObjectKey, &'a Dated<HttpRoute>);

/// The port of the Service that is meant, none: all; and the HTTPRoute.
type OnPort<'a> = (Option<u16>, NamedHttpRoute<'a>);

/// HTTPRoutes by the Services that they name as parents.
#[derive(Debug)]
pub(crate) struct ByService<'a>(HashMap<ServiceName<'a>, Vec<OnPort<'a>>>);

impl<'a> ByService<'a> {
    /// Indexes every parent of a mesh route; gateways as parents are not for sidecars.
    fn new(routes: impl Iterator<Item = NamedHttpRoute<'a>>) -> Self {
        let mut index: HashMap<_, Vec<_>> = HashMap::new();
        for (key, route) in routes {
            for parent in route.spec.parent_refs.iter().filter(|parent| parent.is_service()) {
                let namespace = parent.namespace.as_deref().unwrap_or(&key.namespace);
                let service = ServiceName { name: &parent.name, namespace };
                index.entry(service).or_default().push((parent.port, (key, route)));
            }
        }
        Self(index)
    }

    /// The HTTPRoutes of a service for clients of a namespace: consumer routes (those of the client's namespace),
    /// else producer routes (those of the service's namespace).
    pub(crate) fn attached(&self, service: &Service, client: &str) -> Vec<NamedHttpRoute<'a>> {
        let Some(name) = ServiceName::of_host(&service.host) else { return Vec::new() };
        let routes = self.0.get(&name).into_iter().flatten();
        let routes =
            routes.filter(|(port, _)| port.is_none_or(|p| p == service.port)).map(|(_, named)| *named);
        let (consumer, producer): (Vec<_>, Vec<_>) = routes
            .filter(|(key, _)| key.namespace == client || key.namespace == name.namespace)
            .partition(|(key, _)| key.namespace == client);
        if consumer.is_empty() { producer } else { consumer }
    }
}
