//! Objects to the policy.

use super::allocation::Allocation;
use super::claim::{Claims, Origin, claims, problem};
use super::hosts::qualify;
use super::http_route;
use super::model::{
    Class, ClassId, ClassName, Compiled, Mapping, NamespacePolicy, PodIdentity, Policy, Route, RouteDecision,
    Service,
};
use super::objects::Objects;
use super::route::{Client, Refusal, plain, routes};
use super::rule::Rule;
use super::service::{Services, services};
use super::{sidecar, traffic};
use crate::cluster::snapshot::{ObjectKey, Problem, Snapshot};
use crate::cluster::wan_mapping::WanMappingSpec;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Who configures the proxies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Proxies {
    /// Clovisor, by files.
    #[default]
    Managed,
    /// Istio's control plane, with Clovisor's objects beside the user's.
    Sidecars,
}

/// Who gives numbers to classes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Numbering {
    /// This process, for itself.
    #[default]
    Own,
    /// The controller, in the status of the mappings: all nodes and proxies agree.
    Status,
    /// This process is the controller: numbers in statuses stay, new owners get the next ones.
    Controller,
}

/// For whom objects are compiled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Purpose {
    pub proxies: Proxies,
    pub numbering: Numbering,
    /// Only namespaces with pods here: a node of a large cluster has few of them, and hears of a pod before it runs.
    pub local: bool,
}

/// Compiles the objects. Numbers of `before` stay with their owners; the returned ones are for the next time.
#[must_use]
pub fn compile(
    snapshot: &Snapshot,
    before: &Allocation,
    generation: u64,
    purpose: Purpose,
) -> (Compiled, Allocation) {
    let mut claims = claims(snapshot);
    let wanted = wanted(snapshot, &claims);
    let numbers = match purpose.numbering {
        Numbering::Own => before.assign(&wanted),
        Numbering::Controller => before.adopt(given(snapshot)).assign(&wanted),
        Numbering::Status => before.with_classes(&wanted.into_keys().collect(), given(snapshot)),
    };
    let managed = purpose.proxies == Proxies::Managed;
    let mut problems = snapshot.problems.clone();
    let mut policy = Policy { pods: pods(snapshot), ..Policy::default() };
    let mut effective = BTreeSet::new();
    let objects = Objects::new(snapshot);
    for namespace in namespaces(snapshot, purpose.local) {
        let mut own = NamespacePolicy { zone: numbers.zone(&namespace).unwrap_or(0), ..Default::default() };
        add_mappings(&mut own, &namespace, &mut claims, &numbers, purpose.numbering);
        problems.extend(traffic::add(&mut own, &namespace, &claims));
        let found = services(snapshot, &objects.rules, &namespace);
        let attached = attach(&objects, &namespace, &found, &claims, &own);
        own.services = attached.services;
        if managed {
            problems.extend(found.problems.into_iter().chain(attached.problems));
            problems.extend(unreached(&namespace, &claims, &attached.effective, &found.opaque, snapshot));
        }
        effective.extend(attached.effective);
        policy.namespaces.insert(namespace, own);
    }
    problems.append(&mut claims.problems);
    let mut sidecars = Vec::new();
    if !managed {
        let (planned, refused) = sidecar::plan(snapshot, &policy);
        sidecar::reach(&mut policy, snapshot, &planned);
        problems.extend(refused);
        sidecars = planned;
    }
    problems.sort();
    problems.dedup();
    let stale_since = snapshot.stale_since;
    (Compiled { generation, policy: Arc::new(policy), problems, sidecars, stale_since }, numbers)
}

/// Namespaces with clients; unless `local`, also those with mappings for clients to come.
fn namespaces(snapshot: &Snapshot, local: bool) -> BTreeSet<String> {
    let mappings = snapshot.mappings.keys().filter(|_| !local);
    snapshot.pods.keys().chain(mappings).map(|key| key.namespace.clone()).collect()
}

fn pods(snapshot: &Snapshot) -> BTreeMap<ObjectKey, PodIdentity> {
    let identity = |(key, pod): (&ObjectKey, &Arc<crate::cluster::pod::PodObject>)| {
        let addresses = pod.addresses.iter().copied().collect();
        let identity = PodIdentity { addresses, proxy_uid: pod.proxy_uid, labels: pod.labels.clone() };
        (key.clone(), identity)
    };
    snapshot.pods.iter().map(identity).collect()
}

/// Every class that some mapping asks for; a namespace with a refused mapping keeps its number.
fn wanted(snapshot: &Snapshot, claims: &Claims<'_>) -> BTreeMap<String, BTreeSet<ClassName>> {
    let mut wanted = BTreeMap::<_, BTreeSet<_>>::new();
    for key in snapshot.mappings.keys() {
        wanted.entry(key.namespace.clone()).or_default();
    }
    for (key, spec) in &claims.accepted {
        wanted.entry(key.namespace.clone()).or_default().extend(class_names(&key.name, spec));
    }
    wanted
}

/// The numbers in the statuses of the mappings, oldest mapping first.
fn given(snapshot: &Snapshot) -> Vec<(String, ClassName, u16)> {
    let mut mappings: Vec<_> = snapshot.mappings.iter().collect();
    mappings.sort_by_key(|(key, mapping)| (mapping.created, *key));
    let of = |(key, mapping): (&ObjectKey, &Arc<crate::cluster::snapshot::Mapping>)| {
        let classes = mapping.classes.iter().filter_map(|class| {
            let name = ClassName { mapping: key.name.clone(), rule: class.rule.clone() };
            Some((key.namespace.clone(), name, u16::try_from(class.number).ok()?))
        });
        classes.collect::<Vec<_>>()
    };
    mappings.into_iter().flat_map(of).collect()
}

fn class_names(mapping: &str, spec: &WanMappingSpec) -> Vec<ClassName> {
    let own = (!spec.links.is_empty()).then(|| ClassName { mapping: mapping.to_owned(), rule: None });
    let of = |name: &String| ClassName { mapping: mapping.to_owned(), rule: Some(name.clone()) };
    own.into_iter().chain(spec.rules.iter().map(|rule| of(&rule.name))).collect()
}

/// Compiles the mappings of a namespace; one without numbers or with a bad rule leaves the claims.
fn add_mappings(
    own: &mut NamespacePolicy,
    namespace: &str,
    claims: &mut Claims<'_>,
    numbers: &Allocation,
    numbering: Numbering,
) {
    let here: Vec<_> = claims.accepted.iter().filter(|(key, _)| key.namespace == namespace).collect();
    let here: Vec<_> = here.into_iter().map(|(key, spec)| (key.clone(), *spec)).collect();
    for (key, spec) in here {
        match mapping(&key, spec, numbers, numbering) {
            Ok((mapping, classes)) => {
                own.classes.extend(classes.into_iter().map(|class| (class.id, class)));
                own.mappings.insert(key.name, Arc::new(mapping));
            }
            Err(refused) => {
                claims.accepted.remove(&key);
                claims
                    .by_route
                    .retain(|(origin, _), by| origin.key().namespace != key.namespace || *by != key.name);
                claims.problems.push(refused);
            }
        }
    }
}

fn mapping(
    key: &ObjectKey,
    spec: &WanMappingSpec,
    numbers: &Allocation,
    numbering: Numbering,
) -> Result<(Mapping, Vec<Class>), Problem> {
    let mut classes = Vec::new();
    for name in class_names(&key.name, spec) {
        let id = numbers.zone(&key.namespace).and_then(|_| numbers.class(&key.namespace, &name));
        let Some(id) = id else {
            if numbering == Numbering::Status {
                let message = "has no class numbers in its status yet; see that the controller runs";
                return Err(problem("Pending", key, "status.classes".into(), message.into()));
            }
            let message = "the namespace needs more than 16 classes (one per mapping with links and one per \
                           rule), or the node has too many namespaces; join mappings or rules with equal links";
            return Err(problem("OutOfClasses", key, "spec".into(), message.into()));
        };
        classes.push(class(id, name, spec));
    }
    let number_of = |rule: Option<&str>| classes.iter().find(|c| c.key.rule.as_deref() == rule).map(|c| c.id);
    let mut rules = Vec::new();
    for (i, source) in spec.rules.iter().enumerate() {
        let Some(id) = number_of(Some(&source.name)) else { continue };
        rules.push(Rule::compile(source, id).map_err(|(field, message)| {
            let dot = if field.is_empty() { "" } else { "." };
            problem("InvalidRule", key, format!("spec.rules[{i}]{dot}{field}"), message)
        })?);
    }
    let class = number_of(None);
    let mapping = Mapping { name: key.name.clone(), class, on_agent_loss: spec.on_agent_loss, rules };
    Ok((mapping, classes))
}

fn class(id: ClassId, key: ClassName, spec: &WanMappingSpec) -> Class {
    let of_rule = |name: &String| spec.rules.iter().find(|r| r.name == *name).map(|r| r.links.clone());
    let links = key.rule.as_ref().map_or_else(|| Some(spec.links.clone()), of_rule).unwrap_or_default();
    Class {
        id,
        key,
        links,
        established: spec.established,
        on_links_down: spec.on_links_down,
        wire_dscp: spec.dscp.and_then(|dscp| u8::try_from(dscp).ok()).unwrap_or(0),
    }
}

#[derive(Default)]
struct Attached {
    services: Vec<Service>,
    /// Objects that rule at least one service.
    effective: BTreeSet<Origin>,
    problems: Vec<Problem>,
}

/// Gives each service the routes of its VirtualService.
fn attach(
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
    let mut candidates = objects.ruling(client.namespace, &service.host).into_iter();
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
    match mapping {
        None => RouteDecision::Unmapped,
        Some(mapping) if !mapping.rules.is_empty() => RouteDecision::Callout {
            mapping: mapping.name.clone(),
            classes: mapping.rules.iter().map(|rule| rule.class).collect(),
            fallback: mapping.class,
            on_agent_loss: mapping.on_agent_loss,
        },
        Some(mapping) => mapping.class.map_or(RouteDecision::Unmapped, |class| RouteDecision::Class {
            mapping: mapping.name.clone(),
            class,
        }),
    }
}

/// Mappings whose VirtualServices rule no HTTP service of this namespace: their requests are never seen.
fn unreached(
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

#[cfg(test)]
mod tests;
