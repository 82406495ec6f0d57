//! The Envoy routes of a mapping, from all the objects that it targets.

use super::destination::{not_effective, refused};
use super::hosts::Hosts;
use super::plan::RoutePatch;
use super::{http_route, virtual_service};
use crate::hosts::qualify;
use crate::model::RouteDecision;
use crate::origin::RouteOrigin;
use clovisor_objects::reason::ProblemReason;
use clovisor_objects::refusal::Refusal;
use std::collections::BTreeSet;

/// A patch for every Envoy route that the mapping's routes become.
pub(super) fn patches(
    hosts: &Hosts<'_>,
    routes: &[(&RouteOrigin, usize)],
    decision: &RouteDecision,
) -> Result<Vec<RoutePatch>, Refusal> {
    let mut all = Vec::new();
    let origins: BTreeSet<&RouteOrigin> = routes.iter().map(|(origin, _)| *origin).collect();
    for origin in origins {
        let governed: Vec<_> = routes.iter().filter(|(o, _)| *o == origin).map(|(_, i)| *i).collect();
        let found = match origin {
            RouteOrigin::VirtualService(key) => virtual_service::patches(hosts, key, &governed)?,
            RouteOrigin::HttpRoute(key) => http_route::patches(hosts, key, &governed)?,
        };
        if found.is_empty() {
            return Err(ineffective(hosts, origin));
        }
        all.extend(found);
    }
    let weighted = all.iter().find(|patch| patch.destinations.len() > 1);
    if let (RouteDecision::Callout { .. }, Some(patch)) = (decision, weighted) {
        let message = format!(
            "route {} of {} is weighted, and the callout's answer would replace the weights; move the requests of \
             the rules to a route of their own",
            patch.route.as_deref().unwrap_or_default(),
            patch.host
        );
        return Err(Refusal::new(ProblemReason::ClassNotSeparable, "spec.rules", message));
    }
    Ok(all)
}

/// Why no Envoy route comes from an object.
fn ineffective(hosts: &Hosts<'_>, origin: &RouteOrigin) -> Refusal {
    let names: Vec<_> = match origin {
        RouteOrigin::VirtualService(key) => {
            let vs = hosts.snapshot.virtual_services.get(key);
            let names = vs.into_iter().flat_map(|vs| &vs.spec.hosts);
            names.map(|name| qualify(name, &key.namespace)).collect()
        }
        RouteOrigin::HttpRoute(key) => hosts.parents(key).into_iter().map(|(host, _)| host).collect(),
    };
    let known: Vec<_> = names.iter().flat_map(|name| hosts.matching(name)).collect();
    if known.is_empty() {
        return not_effective(format!(
            "{origin}: no Service or ServiceEntry defines its hosts; create it, or fix the names"
        ));
    }
    if known.iter().all(|(_, host)| host.ports.values().all(|http| !http)) {
        let message = format!(
            "{origin}: its hosts speak TLS or TCP, in which the proxy sees no requests; name an HTTP port"
        );
        return refused(ProblemReason::EncryptedBeforeProxy, message);
    }
    let owner = known.iter().find_map(|(host, _)| hosts.route_owner(host)).filter(|owner| owner != origin);
    not_effective(match owner {
        Some(owner) => format!(
            "{origin}: the routes of its hosts are those of {owner}; objects are not merged: join the two"
        ),
        None => format!(
            "{origin}: none of its routes applies to an HTTP port of its hosts; check match.port and match.gateways"
        ),
    })
}
