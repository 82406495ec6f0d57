//! Which object's routes a service has, and which mapping decides each.

use super::http_route;
use super::route::{Client, Refusal, plain};
use super::service::Services;
use super::virtual_service::routes;
use crate::cluster::snapshot::{ObjectKey, Problem, Snapshot};
use crate::policy::attachment::{Claims, problem};
use crate::policy::hosts::qualify;
use crate::policy::model::{NamespacePolicy, Route, RouteDecision, Service};
use crate::policy::objects::Objects;
use crate::policy::origin::Origin;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Default)]
pub(crate) struct Attached {
    pub(crate) services: Vec<Service>,
    /// Objects that rule at least one service.
    pub(crate) effective: BTreeSet<Origin>,
    pub(crate) problems: Vec<Problem>,
}

/// Gives each service the routes of its VirtualService.
pub(crate) fn attach(
    objects: &Objects<'_>,
    namespace: &str,
    found: &Services,
    claims: &Claims<'_>,
    own: &NamespacePolicy,
) -> Attached {
    let mut ports = BTreeMap::<String, Vec<u16>>::new();
    for (host, port) in found.http.keys() {
        ports.entry(host.clone()).or_default().push(*port);
    }
    let client = Client { namespace, ports: &ports };
    let mut attached = Attached::default();
    for service in found.http.values() {
        let mut service = service.clone();
        match ruled(objects, &client, &service, claims, own, &mut attached) {
            Ok(routes) => {
                service.routes = routes;
                attached.services.push(service);
            }
            Err((origin, (field, message))) => attached.problems.push(of_origin(
                "InvalidRule",
                &origin,
                field,
                format!("{message}; until then requests to {} pass unrouted", service.host),
            )),
        }
    }
    attached
}

/// The routes of a service: of its VirtualService, else of its HTTPRoutes, else one for everything.
fn ruled(
    objects: &Objects<'_>,
    client: &Client<'_>,
    service: &Service,
    claims: &Claims<'_>,
    own: &NamespacePolicy,
    attached: &mut Attached,
) -> Result<Vec<Route>, (Origin, Refusal)> {
    let http_routes = objects.http_routes.attached(service, client.namespace);
    let mut candidates = objects.virtual_services_of(client.namespace, &service.host).into_iter();
    if let Some((key, vs, how)) = candidates.next() {
        let origin = Origin::VirtualService(key.clone());
        let losers = candidates.filter(|(_, _, other)| *other == how);
        let losers = losers.map(|(loser, ..)| Origin::VirtualService(loser.clone()));
        let losers = losers.chain(http_routes.iter().map(|(loser, _)| Origin::HttpRoute((*loser).clone())));
        attached.problems.extend(losers.map(|loser| shadowed(&loser, &origin, &service.host)));
        attached.effective.insert(origin.clone());
        let decide = |i| decision(claims, own, client.namespace, &origin, i);
        return routes(key, &vs.spec, service, client, decide).map_err(|refusal| (origin.clone(), refusal));
    }
    if http_routes.is_empty() {
        return Ok(vec![plain(service)]);
    }
    let origins = http_routes.iter().map(|(key, _)| Origin::HttpRoute((*key).clone()));
    attached.effective.extend(origins);
    let decide =
        |key: &ObjectKey, i| decision(claims, own, client.namespace, &Origin::HttpRoute(key.clone()), i);
    http_route::routes(&http_routes, client, decide)
        .map_err(|(key, refusal)| (Origin::HttpRoute(key.clone()), refusal))
}

fn of_origin(reason: &'static str, origin: &Origin, field: String, message: String) -> Problem {
    let kind = match origin {
        Origin::VirtualService(_) => "VirtualService",
        Origin::HttpRoute(_) => "HTTPRoute",
    };
    Problem { reason, kind: kind.into(), object: origin.key().to_string(), field, message }
}

fn shadowed(loser: &Origin, winner: &Origin, host: &str) -> Problem {
    let field = if matches!(loser, Origin::HttpRoute(_)) { "spec.parentRefs" } else { "spec.hosts" };
    let message = format!("{host} is ruled by {winner}; they are not merged: join the two");
    of_origin("RuleNotEffective", loser, field.into(), message)
}

/// The mapping of the clients' own namespace decides, or none: targets are in the namespace of their mapping.
fn decision(
    claims: &Claims<'_>,
    own: &NamespacePolicy,
    namespace: &str,
    origin: &Origin,
    i: usize,
) -> RouteDecision {
    let claimed = claims.by_route.get(&(origin.clone(), i)).filter(|_| origin.key().namespace == namespace);
    let mapping = claimed.and_then(|name| own.mappings.get(name));
    mapping.map_or(RouteDecision::Unmapped, |mapping| mapping.decision())
}

/// Mappings whose VirtualServices rule no HTTP service of this namespace: their requests are never seen.
pub(crate) fn unreached(
    namespace: &str,
    claims: &Claims<'_>,
    effective: &BTreeSet<Origin>,
    opaque: &BTreeMap<String, String>,
    snapshot: &Snapshot,
) -> Vec<Problem> {
    let mine = |origin: &Origin| origin.key().namespace == namespace && !effective.contains(origin);
    let dead = claims.by_route.iter().filter(|((origin, _), _)| mine(origin));
    let problems = dead.map(|((origin, _), name)| {
        let key = ObjectKey { namespace: namespace.to_owned(), name: name.clone() };
        let hosts = match origin {
            Origin::VirtualService(vs) => snapshot.virtual_services.get(vs).map(|v| v.spec.hosts.clone()),
            Origin::HttpRoute(_) => None,
        };
        let hosts = hosts.unwrap_or_default();
        let hidden = hosts.iter().map(|h| qualify(h, namespace)).find_map(|h| opaque.get(&h).cloned());
        let (reason, why) = match hidden {
            Some(protocol) => (
                "EncryptedBeforeProxy",
                format!("its service speaks {protocol}, in which the proxy sees no requests"),
            ),
            None => ("RuleNotEffective", "it rules no service with an HTTP port in a ServiceEntry".into()),
        };
        let message = format!("{origin}: {why}; check which hosts it names and the port's protocol");
        problem(reason, &key, "spec.targetRefs".into(), message)
    });
    problems.collect()
}
