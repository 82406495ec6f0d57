//! The routes of each service: whose they are, and which mapping decides each.

use super::http_route;
use super::route::RouteScope;
use super::service::{Services, closed_by};
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
pub(super) struct Routed {
    pub(super) services: Vec<Service>,
    /// Objects and entries of their lists that some service has as routes.
    pub(super) effective: BTreeSet<(RouteOrigin, usize)>,
    /// Objects whose routes are refused, or whose service is.
    pub(super) refused: BTreeSet<RouteOrigin>,
    /// Objects that another one precedes.
    pub(super) shadowed: BTreeSet<RouteOrigin>,
    /// Each with the object that it is about.
    pub(super) problems: Vec<(RouteOrigin, Problem)>,
}

/// Gives each service its routes; one whose routes are refused is left out, or closed where TLS is asked for.
pub(super) fn route(
    objects: &Objects<'_>,
    namespace: &str,
    found: &Services,
    attachments: &Attachments<'_>,
    policy: &NamespacePolicy,
) -> Routed {
    let mut ports = BTreeMap::<String, Vec<u16>>::new();
    for ((host, port), _) in found.http.iter().filter(|(_, service)| service.closed.is_none()) {
        ports.entry(host.clone()).or_default().push(*port);
    }
    let scope = RouteScope { namespace, ports: &ports };
    let mut routing = Routing { objects, scope, attachments, policy, routed: Routed::default() };
    for (place, service) in &found.http {
        routing.add(service, found.wants_tls.contains(place));
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

/// The routes of a service, each with the object and the entry that it comes from.
type OwnedRoutes = Vec<((RouteOrigin, usize), Route)>;

impl Routing<'_> {
    fn add(&mut self, service: &Service, wants_tls: bool) {
        if service.closed.is_some() {
            self.routed.refused.extend(self.owners(service));
            self.routed.services.push(service.clone());
            return;
        }
        match self.routes(service) {
            Ok(owned) => {
                let (owners, mut routes): (Vec<_>, Vec<_>) = owned.into_iter().unzip();
                self.routed.effective.extend(owners);
                // As in Istio (istio/istio#49516): a list of which nothing holds here is no list.
                if routes.is_empty() {
                    routes.push(service.default_route());
                }
                self.routed.services.push(Service { routes, ..service.clone() });
            }
            Err((origin, refusal)) => {
                let then = if wants_tls { "are answered with 503" } else { "are not routed" };
                let message = format!("{}; until then requests to {} {then}", refusal.message, service.host);
                let problem = Problem::new(origin.subject(), Refusal { message, ..refusal });
                self.routed.problems.push((origin.clone(), problem));
                if wants_tls {
                    let closed = Some(closed_by(&origin.to_string()));
                    self.routed.services.push(Service { closed, ..service.clone() });
                }
                self.routed.refused.insert(origin);
            }
        }
    }

    /// The objects that could define the service's routes.
    fn owners(&self, service: &Service) -> Vec<RouteOrigin> {
        let http_routes = self.objects.http_routes.attached(service, self.scope.namespace);
        let http_routes = http_routes.into_iter().map(|(key, _)| RouteOrigin::HttpRoute(key.clone()));
        let virtual_services = self.objects.virtual_services_of(self.scope.namespace, &service.host);
        let virtual_services = virtual_services.into_iter();
        virtual_services
            .map(|(key, ..)| RouteOrigin::VirtualService(key.clone()))
            .chain(http_routes)
            .collect()
    }

    /// The routes of the service's VirtualService, else of its HTTPRoutes.
    fn routes(&mut self, service: &Service) -> Result<OwnedRoutes, (RouteOrigin, Refusal)> {
        let http_routes = self.objects.http_routes.attached(service, self.scope.namespace);
        let virtual_services = self.objects.virtual_services_of(self.scope.namespace, &service.host);
        let mut candidates = virtual_services.into_iter();
        let Some((key, vs, specificity)) = candidates.next() else {
            return self.http_routes(&http_routes);
        };
        let owner = RouteOrigin::VirtualService(key.clone());
        let equals = candidates.filter(|(_, _, other)| *other == specificity);
        let equals = equals.map(|(key, ..)| RouteOrigin::VirtualService(key.clone()));
        let ignored = equals.chain(http_routes.iter().map(|(key, _)| RouteOrigin::HttpRoute((*key).clone())));
        for ignored in ignored {
            self.routed.problems.push((ignored.clone(), shadowed(&ignored, &owner, &service.host)));
            self.routed.shadowed.insert(ignored);
        }
        let decision = |index| self.decision(&owner, index);
        let routes = virtual_service::routes(key, &vs.spec, service, &self.scope, decision);
        let routes = routes.map_err(|refusal| (owner.clone(), refusal))?;
        Ok(routes.into_iter().map(|(i, route)| ((owner.clone(), i), route)).collect())
    }

    fn http_routes(&self, sources: &[NamedHttpRoute<'_>]) -> Result<OwnedRoutes, (RouteOrigin, Refusal)> {
        let origin = |key: &ObjectKey| RouteOrigin::HttpRoute(key.clone());
        let decision = |key: &ObjectKey, index| self.decision(&origin(key), index);
        let routes = http_route::routes(sources, &self.scope, decision);
        let routes = routes.map_err(|(key, refusal)| (origin(key), refusal))?;
        Ok(routes.into_iter().map(|(key, i, route)| ((origin(key), i), route)).collect())
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
