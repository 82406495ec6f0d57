//! Which mapping governs which route: valid mappings, oldest first.

use super::origin::Origin;
use crate::cluster::snapshot::{ObjectKey, Problem, Snapshot};
use crate::cluster::wan_mapping::traffic::TrafficSelector;
use crate::cluster::wan_mapping::{TargetRef, WanMappingSpec};
use std::collections::{BTreeMap, BTreeSet};

/// The mappings in force and the routes they govern.
#[derive(Debug, Default)]
pub(crate) struct Claims<'a> {
    pub(crate) accepted: BTreeMap<ObjectKey, &'a WanMappingSpec>,
    /// Object and place in its list of routes to the name of the mapping.
    pub(crate) by_route: BTreeMap<(Origin, usize), String>,
    pub(crate) problems: Vec<Problem>,
}

type Refusal = (&'static str, String, String);

/// Decides for every mapping; one that cannot be exact costs itself only.
pub(crate) fn claims(snapshot: &Snapshot) -> Claims<'_> {
    let mut claims = Claims::default();
    let mut mappings: Vec<_> = snapshot.mappings.iter().collect();
    mappings.sort_by_key(|(key, mapping)| (mapping.created, *key));
    for (key, mapping) in mappings {
        let spec = &mapping.spec;
        let checked = check(spec).and_then(|()| targets(snapshot, key, spec));
        match checked.and_then(|routes| claims.free(&routes).map(|()| routes)) {
            Ok(routes) => {
                claims.by_route.extend(routes.into_iter().map(|route| (route, key.name.clone())));
                claims.accepted.insert(key.clone(), spec);
                claims.problems.extend(link_problems(snapshot, key, spec));
            }
            Err((reason, field, message)) => claims.problems.push(problem(reason, key, field, message)),
        }
    }
    claims
}

/// A problem of a mapping.
pub(crate) fn problem(reason: &'static str, key: &ObjectKey, field: String, message: String) -> Problem {
    Problem { reason, kind: "WanMapping".into(), object: key.to_string(), field, message }
}

impl Claims<'_> {
    /// None of the routes has an older mapping.
    fn free(&self, routes: &BTreeSet<(Origin, usize)>) -> Result<(), Refusal> {
        let taken = routes.iter().find_map(|route| self.by_route.get(route).map(|by| (route, by)));
        taken.map_or(Ok(()), |((origin, i), by)| {
            let message = format!(
                "route [{i}] of {origin} belongs to the older WanMapping {by}; two mappings cannot \
                 share a route: remove one, or split the route"
            );
            Err(("ClassNotSeparable", "spec.targetRefs".into(), message))
        })
    }
}

/// What can be said without other objects.
fn check(spec: &WanMappingSpec) -> Result<(), Refusal> {
    let invalid = |field: &str, message: &str| Err(("InvalidRule", field.to_owned(), message.to_owned()));
    if let Some(traffic) = &spec.traffic {
        check_traffic(spec, traffic)?;
    } else if spec.target_refs.is_empty() {
        return invalid("spec.targetRefs", "is empty; name at least one VirtualService or HTTPRoute");
    }
    if spec.links.is_empty() && spec.rules.is_empty() {
        return invalid("spec.links", "is empty and there are no rules; name at least one WanLink");
    }
    if spec.dscp.is_some_and(|dscp| !(0..=63).contains(&dscp)) {
        return invalid("spec.dscp", "is outside 0..=63; a DSCP has six bits");
    }
    let mut names = BTreeSet::new();
    for (i, rule) in spec.rules.iter().enumerate() {
        if rule.name.is_empty() || !names.insert(&rule.name) {
            return invalid(
                &format!("spec.rules[{i}].name"),
                "is empty or used twice; give each rule a name",
            );
        }
        if rule.links.is_empty() {
            return invalid(&format!("spec.rules[{i}].links"), "is empty; name at least one WanLink");
        }
    }
    Ok(())
}

/// The same of its traffic.
fn check_traffic(spec: &WanMappingSpec, traffic: &TrafficSelector) -> Result<(), Refusal> {
    let invalid = |field: &str, message: &str| Err(("InvalidRule", field.to_owned(), message.to_owned()));
    if !spec.target_refs.is_empty() || !spec.rules.is_empty() {
        return invalid("spec.traffic", "excludes targetRefs and rules; write two mappings");
    }
    if traffic.destinations.is_empty() {
        return invalid("spec.traffic.destinations", "is empty; name at least one network");
    }
    for (i, destination) in traffic.destinations.iter().enumerate() {
        if destination.ports().is_none() {
            let message = "port and endPort must be 1..=65535 in order, and none for ICMP";
            return invalid(&format!("spec.traffic.destinations[{i}].port"), message);
        }
    }
    Ok(())
}

/// The routes that the mapping targets.
fn targets(
    snapshot: &Snapshot,
    key: &ObjectKey,
    spec: &WanMappingSpec,
) -> Result<BTreeSet<(Origin, usize)>, Refusal> {
    let mut routes = BTreeSet::new();
    for (i, target) in spec.target_refs.iter().enumerate() {
        let at = format!("spec.targetRefs[{i}]");
        let named = ObjectKey { namespace: key.namespace.clone(), name: target.name.clone() };
        let (origin, names) = match (target.group.as_str(), target.kind.as_str()) {
            ("networking.istio.io", "VirtualService") => {
                let found = snapshot.virtual_services.get(&named);
                let names =
                    found.map(|vs| vs.spec.http.iter().map(|h| h.name.as_deref()).collect::<Vec<_>>());
                (Origin::VirtualService(named), names)
            }
            ("gateway.networking.k8s.io", "HTTPRoute") => {
                let found = snapshot.http_routes.get(&named);
                let names = found.map(|route| route.spec.rules.iter().map(|r| r.name.as_deref()).collect());
                (Origin::HttpRoute(named), names)
            }
            (group, kind) => {
                let message = format!(
                    "{group}/{kind} cannot be a target; use networking.istio.io/VirtualService or \
                     gateway.networking.k8s.io/HTTPRoute"
                );
                return Err(("InvalidRule", at, message));
            }
        };
        let Some(names) = names else {
            let message = format!("there is no {origin}; create it, or fix the name");
            return Err(("RuleNotEffective", format!("{at}.name"), message));
        };
        let places = sections(target, &names).map_err(|(reason, message)| {
            (reason, format!("{at}.sectionName"), format!("{message} of {origin}"))
        })?;
        routes.extend(places.into_iter().map(|place| (origin.clone(), place)));
    }
    Ok(routes)
}

fn sections(target: &TargetRef, names: &[Option<&str>]) -> Result<Vec<usize>, (&'static str, String)> {
    let Some(section) = &target.section_name else {
        return Ok((0..names.len()).collect());
    };
    let places = names.iter().enumerate().filter(|(_, name)| **name == Some(section));
    let places: Vec<_> = places.map(|(i, _)| i).collect();
    if !places.is_empty() {
        return Ok(places);
    }
    if names.contains(&None) {
        let message = format!("{section:?} names none, and some have no name; give each route a name");
        return Err(("RouteUnnamed", message));
    }
    let names: Vec<_> = names.iter().flatten().copied().collect();
    Err(("RuleNotEffective", format!("{section:?} is none of the routes [{}]", names.join(", "))))
}

/// Links that the mapping cannot use. Its other links hold, so it stays in force.
fn link_problems(snapshot: &Snapshot, key: &ObjectKey, spec: &WanMappingSpec) -> Vec<Problem> {
    let own = spec.links.iter().map(|link| ("spec.links".to_owned(), link));
    let of_rules =
        spec.rules.iter().enumerate().flat_map(|(i, rule)| {
            rule.links.iter().map(move |link| (format!("spec.rules[{i}].links"), link))
        });
    let judged = own.chain(of_rules).filter_map(|(field, link)| match snapshot.links.get(link) {
        None => {
            let message = format!("there is no WanLink {link}; create it, or fix the name");
            Some(problem("LinkNotFound", key, field, message))
        }
        Some(found) if !permits(&found.allowed_namespaces, &key.namespace) => {
            let message = format!(
                "WanLink {link} does not allow namespace {}; add it to its allowedNamespaces",
                key.namespace
            );
            Some(problem("NotPermitted", key, field, message))
        }
        Some(_) => None,
    });
    judged.collect()
}

fn permits(allowed: &[String], namespace: &str) -> bool {
    allowed.is_empty() || allowed.iter().any(|n| n == namespace)
}
