//! The sidecar plans of all mappings.

use super::destination::refused;
use super::hosts::Hosts;
use super::patches::patches;
use super::plan::{RoutePatch, SidecarPlan};
use crate::attachment::{Attachments, of_mapping};
use crate::model::{Destinations, Mapping, Policy, RouteDecision};
use crate::objects::Objects;
use crate::origin::RouteOrigin;
use clovisor_objects::identity::ObjectKey;
use clovisor_objects::istio::ServiceEntry;
use clovisor_objects::problem::Problem;
use clovisor_objects::reason::ProblemReason;
use clovisor_objects::refusal::Refusal;
use clovisor_objects::snapshot::Snapshot;
use clovisor_objects::wan_mapping::Fallback;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

/// The plans of all mappings in force, and the problems of those without one: a mapping is planned as a whole or not
/// at all.
pub(crate) fn plan(
    snapshot: &Snapshot,
    attachments: &Attachments<'_>,
    objects: &Objects<'_>,
    policy: &Policy,
) -> (Vec<SidecarPlan>, Vec<Problem>) {
    let mut plans = Vec::new();
    let mut problems = Vec::new();
    let mut taken = BTreeMap::new();
    let mut hosts = BTreeMap::new();
    for (key, routes) in oldest_first(attachments, snapshot) {
        let namespace = policy.namespaces.get(&key.namespace);
        let Some(mapping) = namespace.and_then(|namespace| namespace.mappings.get(&key.name)) else {
            continue;
        };
        let decision = mapping.decision();
        if decision == RouteDecision::Unmapped {
            continue;
        }
        let hosts = hosts
            .entry(key.namespace.clone())
            .or_insert_with(|| Hosts::new(snapshot, objects, &key.namespace));
        let patches = patches(hosts, &routes, &decision);
        match patches.and_then(|patches| claim_routes(&key, patches, &mut taken)) {
            Ok(patches) => plans.push(plan_of(snapshot, key, mapping, patches)),
            Err(refusal) => problems.push(of_mapping(&key, refusal)),
        }
    }
    plans.sort_by(|a, b| a.mapping.cmp(&b.mapping));
    (plans, problems)
}

/// Adds the destinations of the plans to the policy: the kernel steers no class to any other.
pub(crate) fn add_destinations(policy: &mut Policy, snapshot: &Snapshot, plans: &[SidecarPlan]) {
    let known = static_endpoints(snapshot);
    for plan in plans {
        let Some(namespace) = policy.namespaces.get_mut(&plan.mapping.namespace) else { continue };
        for destination in plan.patches.iter().flat_map(|patch| &patch.destinations) {
            let endpoints = known.get(&(destination.host.as_str(), destination.port)).cloned();
            namespace.destinations.push(Destinations { endpoints, classes: plan.classes() });
        }
    }
}

/// The endpoints of hosts that a ServiceEntry lists by address.
fn static_endpoints(snapshot: &Snapshot) -> BTreeMap<(&str, u16), Vec<SocketAddr>> {
    let mut known = BTreeMap::<_, Vec<_>>::new();
    let is_static = |entry: &&Arc<ServiceEntry>| entry.resolution.as_deref() == Some("STATIC");
    for entry in snapshot.service_entries.values().filter(is_static) {
        for (host, port) in entry.hosts.iter().flat_map(|h| entry.ports.iter().map(move |p| (h, p))) {
            let addresses = entry.endpoints.iter().filter_map(|e| e.socket_address(port));
            known.entry((host.as_str(), port.number)).or_default().extend(addresses);
        }
    }
    known
}

type AttachedRoutes<'a> = Vec<(&'a RouteOrigin, usize)>;

/// The accepted mappings with their routes.
fn oldest_first<'a>(
    attachments: &'a Attachments<'_>,
    snapshot: &Snapshot,
) -> Vec<(ObjectKey, AttachedRoutes<'a>)> {
    let mut routes = BTreeMap::<ObjectKey, AttachedRoutes<'a>>::new();
    for ((origin, i), name) in &attachments.by_route {
        let key = ObjectKey { namespace: origin.key().namespace.clone(), name: name.clone() };
        routes.entry(key).or_default().push((origin, *i));
    }
    let mut all: Vec<_> =
        routes.into_iter().filter(|(key, _)| attachments.accepted.contains_key(key)).collect();
    all.sort_by_key(|(key, _)| (snapshot.mappings.get(key).and_then(|m| m.created), key.clone()));
    all
}

fn plan_of(snapshot: &Snapshot, key: ObjectKey, mapping: &Mapping, patches: Vec<RoutePatch>) -> SidecarPlan {
    let spec = snapshot.mappings.get(&key).map(|mapping| &mapping.spec);
    let refuses =
        spec.is_some_and(|s| s.on_links_down == Fallback::Refuse || s.on_agent_loss == Fallback::Refuse);
    let headers = mapping.rules.iter().flat_map(|rule| rule.header_names()).map(str::to_owned).collect();
    SidecarPlan { mapping: key, decision: mapping.decision(), refuses, headers, patches }
}

/// Namespace, host, port and name of an Envoy route to the mapping that governs it.
type TakenRoutes = BTreeMap<(String, String, u16, Option<String>), String>;

/// Refuses patches of which one is for an Envoy route that an earlier mapping of the namespace governs.
fn claim_routes(
    key: &ObjectKey,
    patches: Vec<RoutePatch>,
    taken: &mut TakenRoutes,
) -> Result<Vec<RoutePatch>, Refusal> {
    let route = |p: &RoutePatch| (key.namespace.clone(), p.host.clone(), p.port, p.route.clone());
    for patch in &patches {
        if let Some(by) = taken.get(&route(patch)) {
            let name = patch.route.as_deref().unwrap_or("(all)");
            let message = format!(
                "Envoy's route {name} of {}:{} belongs to WanMapping {by}, which comes first by age or name; give the routes and their \
                 match blocks names of their own",
                patch.host, patch.port
            );
            return Err(refused(ProblemReason::ClassNotSeparable, message));
        }
    }
    taken.extend(patches.iter().map(|patch| (route(patch), key.name.clone())));
    Ok(patches)
}
