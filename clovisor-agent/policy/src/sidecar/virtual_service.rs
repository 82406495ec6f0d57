//! Routes of VirtualServices to the Envoy routes that Istio makes of them, by Istio's names.

use super::destination::{not_effective, refused, resolve};
use super::hosts::Hosts;
use super::plan::{RouteDestination, RoutePatch};
use crate::hosts::qualify;
use crate::origin::RouteOrigin;
use clovisor_objects::identity::ObjectKey;
use clovisor_objects::istio::{DestinationHost, HttpMatch, IstioHttpRoute, VirtualService};
use clovisor_objects::reason::ProblemReason;
use clovisor_objects::refusal::Refusal;
use std::collections::BTreeSet;

pub(super) fn patches(
    hosts: &Hosts<'_>,
    key: &ObjectKey,
    governed: &[usize],
) -> Result<Vec<RoutePatch>, Refusal> {
    let Some(vs) = hosts.snapshot.virtual_services.get(key).map(|vs| &vs.spec) else { return Ok(Vec::new()) };
    let origin = RouteOrigin::VirtualService(key.clone());
    // Of entries for gateways only the control plane makes no route of a sidecar.
    let governed: Vec<usize> = governed
        .iter()
        .copied()
        .filter(|i| vs.http.get(*i).is_some_and(IstioHttpRoute::is_for_mesh))
        .collect();
    let unnamed = governed.iter().any(|i| vs.http.get(*i).is_some_and(is_unnamed));
    if unnamed && !is_uniform(vs, &governed) {
        let message = format!(
            "{origin} has routes without a name, which cannot be told apart; give each a name (http[].name)"
        );
        return Err(refused(ProblemReason::RouteUnnamed, message));
    }
    let governed: &[usize] = if unnamed { governed.get(..1).unwrap_or_default() } else { &governed };
    let mut all = Vec::new();
    for name in &vs.hosts {
        for (host, known) in hosts.matching(&qualify(name, &key.namespace)) {
            if hosts.route_owner(host).as_ref() != Some(&origin) {
                continue;
            }
            for (port, _) in known.ports.iter().filter(|(_, http)| **http) {
                for http in governed.iter().filter_map(|i| vs.http.get(*i)) {
                    all.extend(of_route(hosts, key, http, (host, *port), unnamed)?);
                }
            }
        }
    }
    check_names(vs, governed, &all)?;
    Ok(all)
}

/// The Envoy routes that Istio makes of one entry of `http` on one port.
fn of_route(
    hosts: &Hosts<'_>,
    key: &ObjectKey,
    http: &IstioHttpRoute,
    (host, port): (&str, u16),
    unnamed: bool,
) -> Result<Vec<RoutePatch>, Refusal> {
    // Requests of these routes never reach a destination.
    if http.other.contains_key("redirect") || http.other.contains_key("directResponse") {
        return Ok(Vec::new());
    }
    if http.other.contains_key("delegate") {
        let message = "the route delegates to another VirtualService; target routes with destinations";
        return Err(not_effective(message));
    }
    let names = if unnamed { BTreeSet::from([None]) } else { envoy_names(http, port).map(Some).collect() };
    let destinations = destinations(hosts, key, http, port)?;
    let patch = |route| RoutePatch { host: host.to_owned(), port, route, destinations: destinations.clone() };
    Ok(names.into_iter().map(patch).collect())
}

fn is_unnamed(http: &IstioHttpRoute) -> bool {
    http.name.as_deref().unwrap_or_default().is_empty()
}

/// Whether every route of the object for the mesh is governed and all have the same destinations: routes need no
/// names then.
fn is_uniform(vs: &VirtualService, governed: &[usize]) -> bool {
    let special = ["redirect", "directResponse", "delegate"];
    let all: Vec<_> = vs.http.iter().filter(|http| http.is_for_mesh()).collect();
    governed.len() == all.len()
        && all.windows(2).all(|pair| matches!(pair, [a, b] if a.route == b.route))
        && all.iter().all(|http| special.iter().all(|word| !http.other.contains_key(*word)))
}

/// Istio names a route `NAME`, or `NAME.MATCH` for a match block with a name.
fn envoy_names(http: &IstioHttpRoute, port: u16) -> impl Iterator<Item = String> {
    let name = http.name.clone().unwrap_or_default();
    let whole = http.matches.is_empty().then(|| name.clone());
    let applies = move |block: &&HttpMatch| block.is_for_mesh() && block.port.is_none_or(|p| p == port);
    let blocks = http.matches.iter().filter(applies).map(move |block| match block.name.as_deref() {
        None | Some("") => name.clone(),
        Some(inner) => format!("{name}.{inner}"),
    });
    whole.into_iter().chain(blocks)
}

/// Refuses names that a route outside the mapping has as well.
fn check_names(vs: &VirtualService, governed: &[usize], patches: &[RoutePatch]) -> Result<(), Refusal> {
    let others = vs.http.iter().enumerate().filter(|(i, _)| !governed.contains(i));
    for (i, http) in others {
        for patch in patches {
            let name = envoy_names(http, patch.port).find(|name| patch.route.as_ref() == Some(name));
            if let Some(name) = name {
                let message = format!(
                    "http[{i}] becomes a route {name} too and is outside this mapping; give the routes \
                     and their match blocks names of their own"
                );
                return Err(refused(ProblemReason::ClassNotSeparable, message));
            }
        }
    }
    Ok(())
}

fn destinations(
    hosts: &Hosts<'_>,
    key: &ObjectKey,
    http: &IstioHttpRoute,
    port: u16,
) -> Result<Vec<RouteDestination>, Refusal> {
    let many = http.route.len() > 1;
    let used = http.route.iter().filter(|d| !many || d.weight.unwrap_or(0) != 0);
    used.map(|d| {
        let DestinationHost { host, subset, port: to } = &d.destination;
        let host = qualify(host, &key.namespace);
        let subset = subset.clone().filter(|name| !name.is_empty());
        let (namespace, port) = resolve(hosts, &host, to.map(|p| p.number), port)?;
        let (weight, headers) = (d.weight.unwrap_or(0), d.headers.clone());
        Ok(RouteDestination { host, port, subset, weight, headers, namespace })
    })
    .collect()
}
