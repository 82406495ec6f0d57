//! Routes of VirtualServices to the routes that Istio makes of them, by Istio's names.

use super::hosts::Reach;
use super::place::{Refusal, TARGET, place};
use super::plan::{Switch, Target};
use crate::cluster::istio::{DestinationHost, HttpMatch, HttpRoute, VirtualService};
use crate::cluster::snapshot::ObjectKey;
use crate::policy::hosts::qualify;
use crate::policy::origin::Origin;
use std::collections::BTreeSet;

pub(super) fn of_virtual_service(
    reach: &Reach<'_>,
    key: &ObjectKey,
    governed: &[usize],
) -> Result<Vec<Switch>, Refusal> {
    let Some(vs) = reach.snapshot.virtual_services.get(key).map(|vs| &vs.spec) else { return Ok(Vec::new()) };
    let me = Origin::VirtualService(key.clone());
    let unnamed = governed.iter().any(|i| vs.http.get(*i).is_some_and(is_unnamed));
    if unnamed && !is_uniform(vs, governed) {
        let message =
            format!("{me} has routes without a name, which cannot be told apart; give each http[].name");
        return Err(("RouteUnnamed", TARGET.into(), message));
    }
    let governed: &[usize] = if unnamed { governed.get(..1).unwrap_or_default() } else { governed };
    let mut all = Vec::new();
    for name in &vs.hosts {
        for (host, known) in reach.covered(&qualify(name, &key.namespace)) {
            if reach.ruler(host).as_ref() != Some(&me) {
                continue;
            }
            for (port, _) in known.ports.iter().filter(|(_, http)| **http) {
                for http in governed.iter().filter_map(|i| vs.http.get(*i)) {
                    all.extend(of_route(reach, key, http, (host, *port), unnamed)?);
                }
            }
        }
    }
    other_names(vs, governed, &all)?;
    Ok(all)
}

/// The Envoy routes that one entry becomes on one port.
fn of_route(
    reach: &Reach<'_>,
    key: &ObjectKey,
    http: &HttpRoute,
    (host, port): (&str, u16),
    unnamed: bool,
) -> Result<Vec<Switch>, Refusal> {
    // These never reach a destination.
    if http.other.contains_key("redirect") || http.other.contains_key("directResponse") {
        return Ok(Vec::new());
    }
    if http.other.contains_key("delegate") {
        let message = "its route delegates to another VirtualService; target routes that name destinations";
        return Err(("RuleNotEffective", TARGET.into(), message.into()));
    }
    let names = if unnamed { BTreeSet::from([None]) } else { envoy_names(http, port).map(Some).collect() };
    let to = targets(reach, key, http, port)?;
    let switch = |route| Switch { host: host.to_owned(), port, route, to: to.clone() };
    Ok(names.into_iter().map(switch).collect())
}

fn is_unnamed(http: &HttpRoute) -> bool {
    http.name.as_deref().unwrap_or_default().is_empty()
}

/// Every route of the object is governed and goes to the same place: no name is needed to tell them apart.
fn is_uniform(vs: &VirtualService, governed: &[usize]) -> bool {
    let special = ["redirect", "directResponse", "delegate"];
    governed.len() == vs.http.len()
        && vs.http.windows(2).all(|pair| matches!(pair, [a, b] if a.route == b.route))
        && vs.http.iter().all(|http| special.iter().all(|word| !http.other.contains_key(*word)))
}

/// A route of the list has the name `NAME`, or `NAME.MATCH` for a match block with a name.
fn envoy_names(http: &HttpRoute, port: u16) -> impl Iterator<Item = String> {
    let name = http.name.clone().unwrap_or_default();
    let whole = http.matches.is_empty().then(|| name.clone());
    let holds = move |block: &&HttpMatch| {
        let mesh = block.gateways.is_empty() || block.gateways.iter().any(|g| g == "mesh");
        mesh && block.port.is_none_or(|p| p == port)
    };
    let blocks = http.matches.iter().filter(holds).map(move |block| match block.name.as_deref() {
        None | Some("") => name.clone(),
        Some(inner) => format!("{name}.{inner}"),
    });
    whole.into_iter().chain(blocks)
}

/// No route that the mapping does not govern has one of these names.
fn other_names(vs: &VirtualService, governed: &[usize], switches: &[Switch]) -> Result<(), Refusal> {
    let others = vs.http.iter().enumerate().filter(|(i, _)| !governed.contains(i));
    for (i, http) in others {
        for switch in switches {
            let name = envoy_names(http, switch.port).find(|name| switch.route.as_ref() == Some(name));
            if let Some(name) = name {
                let message = format!(
                    "http[{i}] becomes a route {name} too, which this mapping does not govern; give the routes \
                     and their match blocks names of their own"
                );
                return Err(("ClassNotSeparable", TARGET.into(), message));
            }
        }
    }
    Ok(())
}

fn targets(reach: &Reach<'_>, key: &ObjectKey, http: &HttpRoute, port: u16) -> Result<Vec<Target>, Refusal> {
    let many = http.route.len() > 1;
    let used = http.route.iter().filter(|d| !many || d.weight.unwrap_or(0) != 0);
    used.map(|d| {
        let DestinationHost { host, subset, port: to } = &d.destination;
        let host = qualify(host, &key.namespace);
        let subset = subset.clone().filter(|name| !name.is_empty());
        let (home, port) = place(reach, &host, to.map(|p| p.number), port)?;
        Ok(Target { host, port, subset, weight: d.weight.unwrap_or(0), headers: d.headers.clone(), home })
    })
    .collect()
}
