//! The services that sidecars reach and the routes that Istio makes for them, as far as a decision depends on them.

use super::hosts::Hosts;
use super::plan::SidecarPlan;
use crate::attachment::Attachments;
use crate::conditions::{http_route, virtual_service};
use crate::hosts::aliases;
use crate::matcher::RouteMatch;
use crate::model::{Destination, NamespacePolicy, Protocol, Retries, Route, RouteDecision, Service, Tls};
use crate::objects::{NamedHttpRoute, Objects};
use crate::origin::RouteOrigin;
use clovisor_objects::identity::ObjectKey;
use clovisor_objects::istio::{IstioHttpRoute, VirtualService};
use clovisor_objects::refusal::Refusal;
use clovisor_objects::snapshot::Snapshot;
use std::collections::BTreeSet;

/// What the decisions for the clients of a namespace depend on.
struct Clients<'a> {
    namespace: &'a str,
    objects: &'a Objects<'a>,
    attachments: &'a Attachments<'a>,
    policy: &'a NamespacePolicy,
    /// Names of its mappings with a plan.
    planned: BTreeSet<&'a str>,
}

/// The services of a namespace. Their proxies are not Clovisor's: they have neither endpoints nor TLS here.
pub(crate) fn services(
    snapshot: &Snapshot,
    objects: &Objects<'_>,
    attachments: &Attachments<'_>,
    plans: &[SidecarPlan],
    (namespace, policy): (&str, &NamespacePolicy),
) -> Vec<Service> {
    let here = plans.iter().filter(|plan| plan.mapping.namespace == namespace);
    let planned = here.map(|plan| plan.mapping.name.as_str()).collect();
    let clients = Clients { namespace, objects, attachments, policy, planned };
    let hosts = Hosts::new(snapshot, objects, namespace);
    let mut services = Vec::new();
    for (name, host) in hosts.matching("*") {
        for (port, _) in host.ports.iter().filter(|(_, is_http)| **is_http) {
            let mut service = Service {
                host: name.to_owned(),
                port: *port,
                aliases: aliases(name, namespace),
                addresses: Vec::new(),
                endpoints: Vec::new(),
                protocol: Protocol::Http1,
                tls: Tls::Disable,
                closed: None,
                routes: Vec::new(),
            };
            // Of routes that cannot be read no mapping has a plan.
            service.routes = clients.routes(&service).unwrap_or_default();
            if service.routes.is_empty() {
                service.routes.push(service.default_route());
            }
            services.push(service);
        }
    }
    services
}

impl Clients<'_> {
    fn routes(&self, service: &Service) -> Result<Vec<Route>, Refusal> {
        let candidates = self.objects.virtual_services_of(self.namespace, &service.host);
        match candidates.into_iter().next() {
            Some((key, vs, _)) => self.of_virtual_service(key, &vs.spec, service),
            None => self.of_http_routes(&self.objects.http_routes.attached(service, self.namespace), service),
        }
    }

    fn of_virtual_service(
        &self,
        key: &ObjectKey,
        source: &VirtualService,
        service: &Service,
    ) -> Result<Vec<Route>, Refusal> {
        let origin = RouteOrigin::VirtualService(key.clone());
        let mut routes = Vec::new();
        for (i, http) in source.http.iter().enumerate() {
            let (matches, applies) = virtual_service::matches(http, service.port, self.namespace)?;
            if !applies {
                continue;
            }
            let is_last = matches.is_empty() || matches.iter().any(RouteMatch::is_unconditional);
            let decision = if reaches(http) { self.decision(&origin, i) } else { RouteDecision::Unmapped };
            routes.push(route(http.name.clone(), &origin, matches, service, decision));
            if is_last {
                break;
            }
        }
        Ok(routes)
    }

    fn of_http_routes(
        &self,
        sources: &[NamedHttpRoute<'_>],
        service: &Service,
    ) -> Result<Vec<Route>, Refusal> {
        let ranked = http_route::ranked(sources).map_err(|(_, refusal)| refusal)?;
        let of_rule = |(key, i, block): (&ObjectKey, usize, RouteMatch)| {
            let origin = RouteOrigin::HttpRoute(key.clone());
            let rule = sources.iter().find(|(k, _)| *k == key).and_then(|(_, s)| s.spec.rules.get(i));
            let decision = self.decision(&origin, i);
            route(rule.and_then(|rule| rule.name.clone()), &origin, vec![block], service, decision)
        };
        Ok(ranked.into_iter().map(of_rule).collect())
    }

    /// The decision of the mapping of a route, if the sidecars have what it needs.
    fn decision(&self, origin: &RouteOrigin, index: usize) -> RouteDecision {
        let attached = self.attachments.by_route.get(&(origin.clone(), index));
        let attached = attached
            .filter(|name| origin.key().namespace == self.namespace && self.planned.contains(name.as_str()));
        let mapping = attached.and_then(|name| self.policy.mappings.get(name));
        mapping.map_or(RouteDecision::Unmapped, |mapping| mapping.decision())
    }
}

/// Whether requests of the route reach a destination of its own.
fn reaches(http: &IstioHttpRoute) -> bool {
    ["redirect", "directResponse", "delegate"].iter().all(|word| !http.other.contains_key(*word))
}

fn route(
    name: Option<String>,
    origin: &RouteOrigin,
    matches: Vec<RouteMatch>,
    service: &Service,
    decision: RouteDecision,
) -> Route {
    Route {
        name,
        origin: Some(origin.clone()),
        matches,
        destination: Destination { host: service.host.clone(), port: service.port },
        timeout: None,
        retries: Some(Retries::istio()),
        decision,
    }
}

#[cfg(test)]
mod tests;
