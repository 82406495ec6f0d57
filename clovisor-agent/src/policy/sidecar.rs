//! Which of the routes that Istio makes for its sidecars need a class; pure.
//!
//! Istio's control plane translates VirtualServices and HTTPRoutes itself, with all that they can say. Clovisor
//! only has to name each Envoy route that a mapping governs, and its destinations.

mod gamma;

mod names;

mod reach;

use super::claim::{Claims, Origin, claims, problem};
use super::model::{ClassId, Policy, Reached, RouteDecision};
use super::objects::Objects;
use super::service::endpoint;
use crate::cluster::istio::ServiceEntry;
use crate::cluster::snapshot::{ObjectKey, Problem, Snapshot};
use crate::cluster::wan_mapping::Fallback;
use names::Refusal;
use reach::Reach;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

/// What the sidecars of a mapping's namespace need for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Sidecar {
    pub mapping: ObjectKey,
    pub decision: RouteDecision,
    /// The mapping would rather have no answer than the default route.
    pub refuses: bool,
    /// Headers that its rules look at, lower case.
    pub headers: BTreeSet<String>,
    pub switches: Vec<Switch>,
}

impl Sidecar {
    /// Every class that its requests can have.
    #[must_use]
    pub fn classes(&self) -> BTreeSet<ClassId> {
        self.decision.classes()
    }
}

/// An Envoy route whose requests get a class.
#[derive(Clone, Debug, PartialEq)]
pub struct Switch {
    /// Host of the virtual host `HOST:PORT`.
    pub host: String,
    pub port: u16,
    /// Envoy's name of the route; none: every route of the virtual host.
    pub route: Option<String>,
    /// Its destinations; several: by weight.
    pub to: Vec<Target>,
}

/// A destination of a route.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    pub host: String,
    pub port: u16,
    pub subset: Option<String>,
    /// Only looked at where there are several.
    pub weight: i32,
    /// `headers` of a weighted destination, as in a VirtualService.
    pub headers: Option<Value>,
    /// Namespace of the service.
    pub home: String,
}

/// The plans of all mappings in force, and what of them cannot be exact. A mapping is planned whole or not at all.
#[must_use]
pub fn plan(snapshot: &Snapshot, policy: &Policy) -> (Vec<Sidecar>, Vec<Problem>) {
    let claims = claims(snapshot);
    let objects = Objects::new(snapshot);
    let mut routes = BTreeMap::<ObjectKey, Vec<(&Origin, usize)>>::new();
    for ((origin, i), name) in &claims.by_route {
        let key = ObjectKey { namespace: origin.key().namespace.clone(), name: name.clone() };
        routes.entry(key).or_default().push((origin, *i));
    }
    let mut planned = Vec::new();
    let mut problems = Vec::new();
    let mut taken = BTreeMap::new();
    let mut reach = BTreeMap::new();
    for (key, places) in oldest_first(&claims, routes, snapshot) {
        let Some(decision) = decision(policy, &key) else { continue };
        let reach = reach
            .entry(key.namespace.clone())
            .or_insert_with(|| Reach::new(snapshot, &objects, &key.namespace));
        let switches = names::switches(reach, &places, &decision);
        match switches.and_then(|switches| free(&key, switches, &mut taken)) {
            Ok(switches) => planned.push(sidecar(snapshot, policy, key, decision, switches)),
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
            let addresses = entry.endpoints.iter().filter_map(|e| endpoint(e, port));
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

/// How the mapping's requests get their class; none: it is not in force, or has no class yet.
fn decision(policy: &Policy, key: &ObjectKey) -> Option<RouteDecision> {
    let mapping = policy.namespaces.get(&key.namespace)?.mappings.get(&key.name)?;
    if mapping.rules.is_empty() {
        return mapping.class.map(|class| RouteDecision::Class { mapping: key.name.clone(), class });
    }
    Some(RouteDecision::Callout {
        mapping: key.name.clone(),
        classes: mapping.rules.iter().map(|rule| rule.class).collect(),
        fallback: mapping.class,
        on_agent_loss: mapping.on_agent_loss,
    })
}

fn sidecar(
    snapshot: &Snapshot,
    policy: &Policy,
    key: ObjectKey,
    decision: RouteDecision,
    switches: Vec<Switch>,
) -> Sidecar {
    let spec = snapshot.mappings.get(&key).map(|mapping| &mapping.spec);
    let refuses =
        spec.is_some_and(|s| s.on_links_down == Fallback::Refuse || s.on_agent_loss == Fallback::Refuse);
    let mapping = policy.namespaces.get(&key.namespace).and_then(|own| own.mappings.get(&key.name));
    let rules = mapping.map_or(&[][..], |mapping| &mapping.rules);
    let headers = rules.iter().flat_map(|rule| rule.header_names()).map(str::to_owned).collect();
    Sidecar { mapping: key, decision, refuses, headers, switches }
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
