//! The sidecar plans of all mappings.

use super::hosts::Reach;
use super::patches::switches;
use super::place::Refusal;
use super::plan::{Sidecar, Switch};
use crate::cluster::istio::ServiceEntry;
use crate::cluster::snapshot::{ObjectKey, Problem, Snapshot};
use crate::cluster::wan_mapping::Fallback;
use crate::policy::attachment::{Claims, problem};
use crate::policy::model::{Mapping, Policy, Reached, RouteDecision};
use crate::policy::objects::Objects;
use crate::policy::origin::Origin;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

/// The plans of all mappings in force, and what of them cannot be exact. A mapping is planned whole or not at all.
pub(crate) fn plan(
    snapshot: &Snapshot,
    claims: &Claims<'_>,
    objects: &Objects<'_>,
    policy: &Policy,
) -> (Vec<Sidecar>, Vec<Problem>) {
    let mut routes = BTreeMap::<ObjectKey, Vec<(&Origin, usize)>>::new();
    for ((origin, i), name) in &claims.by_route {
        let key = ObjectKey { namespace: origin.key().namespace.clone(), name: name.clone() };
        routes.entry(key).or_default().push((origin, *i));
    }
    let mut planned = Vec::new();
    let mut problems = Vec::new();
    let mut taken = BTreeMap::new();
    let mut reach = BTreeMap::new();
    for (key, places) in oldest_first(claims, routes, snapshot) {
        let namespace = policy.namespaces.get(&key.namespace);
        let Some(mapping) = namespace.and_then(|namespace| namespace.mappings.get(&key.name)) else {
            continue;
        };
        let decision = mapping.decision();
        if decision == RouteDecision::Unmapped {
            continue;
        }
        let reach = reach
            .entry(key.namespace.clone())
            .or_insert_with(|| Reach::new(snapshot, objects, &key.namespace));
        let switches = switches(reach, &places, &decision);
        match switches.and_then(|switches| free(&key, switches, &mut taken)) {
            Ok(switches) => planned.push(sidecar(snapshot, key, mapping, switches)),
            Err((reason, field, message)) => problems.push(problem(reason, &key, field, message)),
        }
    }
    planned.sort_by(|a, b| a.mapping.cmp(&b.mapping));
    (planned, problems)
}

/// Notes in the policy where the requests of the plans go.
pub(crate) fn reach(policy: &mut Policy, snapshot: &Snapshot, planned: &[Sidecar]) {
    let known = static_endpoints(snapshot);
    for sidecar in planned {
        let Some(own) = policy.namespaces.get_mut(&sidecar.mapping.namespace) else { continue };
        for target in sidecar.switches.iter().flat_map(|switch| &switch.to) {
            let endpoints = known.get(&(target.host.as_str(), target.port)).cloned();
            own.reached.push(Reached { endpoints, classes: sidecar.classes() });
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

type Places<'a> = Vec<(&'a Origin, usize)>;

fn oldest_first<'a>(
    claims: &Claims<'_>,
    routes: BTreeMap<ObjectKey, Places<'a>>,
    snapshot: &Snapshot,
) -> Vec<(ObjectKey, Places<'a>)> {
    let mut all: Vec<_> = routes.into_iter().filter(|(key, _)| claims.accepted.contains_key(key)).collect();
    all.sort_by_key(|(key, _)| (snapshot.mappings.get(key).and_then(|m| m.created), key.clone()));
    all
}

fn sidecar(snapshot: &Snapshot, key: ObjectKey, mapping: &Mapping, switches: Vec<Switch>) -> Sidecar {
    let spec = snapshot.mappings.get(&key).map(|mapping| &mapping.spec);
    let refuses =
        spec.is_some_and(|s| s.on_links_down == Fallback::Refuse || s.on_agent_loss == Fallback::Refuse);
    let headers = mapping.rules.iter().flat_map(|rule| rule.header_names()).map(str::to_owned).collect();
    Sidecar { mapping: key, decision: mapping.decision(), refuses, headers, switches }
}

type Taken = BTreeMap<(String, String, u16, Option<String>), String>;

/// No older mapping of the namespace has an Envoy route of the same name.
fn free(key: &ObjectKey, switches: Vec<Switch>, taken: &mut Taken) -> Result<Vec<Switch>, Refusal> {
    let place = |s: &Switch| (key.namespace.clone(), s.host.clone(), s.port, s.route.clone());
    for switch in &switches {
        if let Some(by) = taken.get(&place(switch)) {
            let name = switch.route.as_deref().unwrap_or("(all)");
            let message = format!(
                "Envoy's route {name} of {}:{} belongs to the older WanMapping {by}; give the routes and \
                 their match blocks names of their own",
                switch.host, switch.port
            );
            return Err(("ClassNotSeparable", "spec.targetRefs".into(), message));
        }
    }
    taken.extend(switches.iter().map(|switch| (place(switch), key.name.clone())));
    Ok(switches)
}
