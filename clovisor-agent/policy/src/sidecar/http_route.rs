//! Rules of mesh HTTPRoutes (GAMMA) to the Envoy routes that Istio makes of them.

use super::destination::{not_effective, resolve};
use super::hosts::Hosts;
use super::plan::{RouteDestination, RoutePatch};
use crate::hosts::qualify;
use clovisor_objects::gateway::RouteRule;
use clovisor_objects::identity::ObjectKey;
use clovisor_objects::refusal::Refusal;

/// The Envoy routes of the governed rules. Istio names each after its rule, else `NAMESPACE.NAME.INDEX`.
pub(super) fn patches(
    hosts: &Hosts<'_>,
    key: &ObjectKey,
    governed: &[usize],
) -> Result<Vec<RoutePatch>, Refusal> {
    let Some(source) = hosts.snapshot.http_routes.get(key).map(|route| &route.spec) else {
        return Ok(Vec::new());
    };
    let mut all = Vec::new();
    for (host, only) in hosts.parents(key) {
        let Some(known) = hosts.get(&host).filter(|_| hosts.route_owner(&host).is_none()) else { continue };
        let ports = known.ports.iter().filter(|(port, http)| **http && only.is_none_or(|o| o == **port));
        for (port, _) in ports {
            for i in governed {
                let Some(rule) = source.rules.get(*i) else { continue };
                let name = rule.name.clone().filter(|name| !name.is_empty());
                let route = name.unwrap_or_else(|| format!("{}.{}.{i}", key.namespace, key.name));
                let destinations = backends(hosts, key, rule)?;
                if !destinations.is_empty() {
                    all.push(RoutePatch {
                        host: host.clone(),
                        port: *port,
                        route: Some(route),
                        destinations,
                    });
                }
            }
        }
    }
    Ok(all)
}

fn backends(hosts: &Hosts<'_>, key: &ObjectKey, rule: &RouteRule) -> Result<Vec<RouteDestination>, Refusal> {
    let used = rule.backend_refs.iter().filter(|backend| backend.weight != Some(0));
    used.map(|backend| {
        if !backend.is_service() {
            return Err(not_effective(format!(
                "backend {} is not a Service; only requests to Services can get a class",
                backend.name
            )));
        }
        if !backend.filters.is_empty() {
            return Err(not_effective(format!(
                "backend {} has filters of its own; move them to the rule",
                backend.name
            )));
        }
        let namespace = backend.namespace.as_deref().unwrap_or(&key.namespace);
        let host = qualify(&backend.name, namespace);
        let Some(named) = backend.port else {
            return Err(not_effective(format!(
                "backend {} has no port; name the Service's port",
                backend.name
            )));
        };
        let (namespace, port) = resolve(hosts, &host, Some(named), named)?;
        let weight = backend.weight.unwrap_or(1);
        Ok(RouteDestination { host, port, subset: None, weight, headers: None, namespace })
    })
    .collect()
}
