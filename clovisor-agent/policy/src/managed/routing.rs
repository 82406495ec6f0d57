//! The routes of each service: whose they are, and which mapping decides each.

use super::http_route;
use super::route::{RouteScope, default_route};
use super::service::Services;
use super::virtual_service;
use crate::attachment::Attachments;
use crate::model::{NamespacePolicy, Route, RouteDecision, Service};
use crate::objects::{NamedHttpRoute, Objects};
use crate::origin::RouteOrigin;
use clovisor_objects::identity::ObjectKey;
use clovisor_objects::problem::Problem;
use clovisor_objects::reason::ProblemReason;
use clovisor_objects::refusal::Refusal;
use std::collections::{BTreeMap, BTreeSet};

/// The services of a namespace with their routes.
#[derive(Debug, Default)]
pub(crate) struct Routed {
    pub(crate) services: Vec<Service>,
    /// Objects whose routes some service has.
    pub(crate) effective: BTreeSet<RouteOrigin>,
    pub(crate) problems: Vec<Problem>,
}

/// Gives each service its routes; one whose routes are refused is left out.
pub(crate) fn route(
    objects: &Objects<'_>,
    namespace: &str,
    found: &Services,
    attachments: &Attachments<'_>,
    policy: &NamespacePolicy,
) -> Routed {
    let mut ports = BTreeMap::<String, Vec<u16>>::new();
    for (host, port) in found.http.keys() {
        ports.entry(host.clone()).or_default().push(*port);
    }
    let scope = RouteScope { namespace, ports: &ports };
    let mut routing = Routing { objects, scope, attachments, policy, routed: Routed::default() };
    for service in found.http.values() {
        routing.add(service);
    }
    routing.routed
}

/// The work on one namespace.
struct Routing<'a> {
    objects: &'a Objects<'a>,
    scope: RouteScope<'a>,
    attachments: &'a Attachments<'a>,
    policy: &'a NamespacePolicy,
    routed: Routed,
}

impl Routing<'_> {
    fn add(&mut self, service: &Service) {
        match self.routes(service) {
            Ok(routes) => self.routed.services.push(Service { routes, ..service.clone() }),
            Err((origin, refusal)) => {
                let message =
                    format!("{}; until then requests to {} are not routed", refusal.message, service.host);
                let refusal = Refusal { message, ..refusal };
                self.routed.problems.push(Problem::new(origin.subject(), refusal));
            }
        }
    }

    /// The routes of the service's VirtualService, else of its HTTPRoutes, else one for every request.
    fn routes(&mut self, service: &Service) -> Result<Vec<Route>, (RouteOrigin, Refusal)> {
        let http_routes = self.objects.http_routes.attached(service, self.scope.namespace);
        let virtual_services = self.objects.virtual_services_of(self.scope.namespace, &service.host);
        let mut candidates = virtual_services.into_iter();
        let Some((key, vs, specificity)) = candidates.next() else {
            return self.http_routes(service, &http_routes);
        };
        let owner = RouteOrigin::VirtualService(key.clone());
        let equals = candidates.filter(|(_, _, other)| *other == specificity);
        let equals = equals.map(|(key, ..)| RouteOrigin::VirtualService(key.clone()));
        let ignored = equals.chain(http_routes.iter().map(|(key, _)| RouteOrigin::HttpRoute((*key).clone())));
        self.routed.problems.extend(ignored.map(|ignored| shadowed(&ignored, &owner, &service.host)));
        self.routed.effective.insert(owner.clone());
        let decision = |index| self.decision(&owner, index);
        let routes = virtual_service::routes(key, &vs.spec, service, &self.scope, decision);
        routes.map_err(|refusal| (owner.clone(), refusal))
    }

    fn http_routes(
        &mut self,
        service: &Service,
        sources: &[NamedHttpRoute<'_>],
    ) -> Result<Vec<Route>, (RouteOrigin, Refusal)> {
        if sources.is_empty() {
            return Ok(vec![default_route(service)]);
        }
        let origin = |key: &ObjectKey| RouteOrigin::HttpRoute(key.clone());
        self.routed.effective.extend(sources.iter().map(|(key, _)| origin(key)));
        let decision = |key: &ObjectKey, index| self.decision(&origin(key), index);
        http_route::routes(sources, &self.scope, decision).map_err(|(key, refusal)| (origin(key), refusal))
    }

    /// The decision of the mapping that is attached to a route. Only mappings of the clients' namespace count: a
    /// mapping targets objects of its own namespace.
    fn decision(&self, origin: &RouteOrigin, index: usize) -> RouteDecision {
        let attached = self.attachments.by_route.get(&(origin.clone(), index));
        let attached = attached.filter(|_| origin.key().namespace == self.scope.namespace);
        let mapping = attached.and_then(|name| self.policy.mappings.get(name));
        mapping.map_or(RouteDecision::Unmapped, |mapping| mapping.decision())
    }
}

fn shadowed(ignored: &RouteOrigin, owner: &RouteOrigin, host: &str) -> Problem {
    let field = match ignored {
        RouteOrigin::VirtualService(_) => "spec.hosts",
        RouteOrigin::HttpRoute(_) => "spec.parentRefs",
    };
    let message = format!("the routes of {host} are those of {owner}; objects are not merged: join the two");
    Problem::new(ignored.subject(), Refusal::new(ProblemReason::RuleNotEffective, field, message))
}
