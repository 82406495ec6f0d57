//! The EnvoyFilters of a mapping: its classes, and its routes.

use super::callout;
use super::object::{IstioKind, IstioObject, Phase};
use super::patch::patch;
use super::rule::subsets;
use crate::cluster::{socket_options, unlimited};
use crate::names::{cluster_of_subset, subset};
use clovisor_objects::identity::ObjectKey;
use clovisor_policy::class::ClassId;
use clovisor_policy::model::RouteDecision;
use clovisor_policy::sidecar::plan::{RouteDestination, RoutePatch, SidecarPlan};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// A cluster that is nowhere: it takes a route's own cluster away before weighted ones are merged into it.
const RESET: &str = "clovisor-reset";

/// Sockets with the class, and the clusters that fall back to the default class.
pub(super) fn classes(sidecar: &SidecarPlan) -> IstioObject {
    let mut patches: Vec<Value> = subsets(sidecar)
        .into_iter()
        .map(|(subset, class)| {
            let options = json!({ "upstream_bind_config": { "socket_options": socket_options(class) } });
            patch("CLUSTER", &json!({ "cluster": { "subset": subset } }), "MERGE", &options)
        })
        .collect();
    if !sidecar.refuses {
        patches
            .extend(aggregates(sidecar).values().map(|cluster| patch("CLUSTER", &json!({}), "ADD", cluster)));
    }
    object(sidecar, "classes", Phase::Classes, patches)
}

/// The patch of each route.
pub(super) fn routes(sidecar: &SidecarPlan) -> IstioObject {
    let patches = sidecar.patches.iter().flat_map(|route| {
        let place = place(route);
        values(sidecar, route).into_iter().map(move |value| patch("HTTP_ROUTE", &place, "MERGE", &value))
    });
    object(sidecar, "routes", Phase::Routes, patches.collect())
}

fn object(sidecar: &SidecarPlan, what: &str, phase: Phase, patches: Vec<Value>) -> IstioObject {
    let ObjectKey { namespace, name } = sidecar.mapping.clone();
    IstioObject {
        phase,
        kind: IstioKind::EnvoyFilter,
        key: ObjectKey { namespace, name: format!("clovisor-{name}-{what}") },
        mappings: BTreeSet::from([sidecar.mapping.clone()]),
        spec: json!({ "configPatches": patches }),
    }
}

fn place(patch: &RoutePatch) -> Value {
    let mut vhost = json!({ "name": format!("{}:{}", patch.host, patch.port) });
    if let Some(name) = &patch.route {
        vhost["route"] = json!({ "name": name });
    }
    json!({ "routeConfiguration": { "vhost": vhost } })
}

/// What is merged into a route, one after the other.
fn values(sidecar: &SidecarPlan, patch: &RoutePatch) -> Vec<Value> {
    match (&sidecar.decision, patch.destinations.as_slice()) {
        (RouteDecision::Unmapped, _) | (_, []) => Vec::new(),
        (RouteDecision::Class { class, .. }, [only]) => {
            vec![json!({ "route": { "cluster": class_cluster(sidecar, only, *class) } })]
        }
        (RouteDecision::Class { class, .. }, many) => {
            let clusters: Vec<_> = many.iter().map(|target| weighted(sidecar, target, *class)).collect();
            // Merging would append to the user's own list: the first patch takes it away.
            vec![
                json!({ "route": { "cluster": RESET } }),
                json!({ "route": { "weighted_clusters": { "clusters": clusters } } }),
            ]
        }
        (RouteDecision::Callout { mapping, classes, fallback, on_agent_loss }, [target, ..]) => {
            let answers = callout::AnswerClusters {
                of_class: classes
                    .iter()
                    .chain(fallback)
                    .map(|c| (*c, class_cluster(sidecar, target, *c)))
                    .collect(),
                base: cluster_of_subset(&target.host, target.port, target.subset.as_deref()),
                fallback: *fallback,
                on_agent_loss: *on_agent_loss,
            };
            vec![callout::route(&sidecar.mapping.namespace, mapping, &answers)]
        }
    }
}

/// The cluster of a class: as it is where no answer is better than a wrong one, else with a way back.
fn class_cluster(sidecar: &SidecarPlan, target: &RouteDestination, class: ClassId) -> String {
    let subset = subset(class, target.subset.as_deref());
    if sidecar.refuses {
        return cluster_of_subset(&target.host, target.port, Some(&subset));
    }
    let short = subset.trim_start_matches("clovisor-");
    format!("clovisor-agg|{short}|{}|{}", target.port, target.host)
}

fn weighted(sidecar: &SidecarPlan, target: &RouteDestination, class: ClassId) -> Value {
    let mut cluster = json!({ "name": class_cluster(sidecar, target, class), "weight": target.weight });
    let headers = target.headers.as_ref();
    for (side, prefix) in [("request", "request"), ("response", "response")] {
        let Some(operations) = headers.and_then(|h| h.get(side)).and_then(Value::as_object) else { continue };
        header_operations(&mut cluster, prefix, operations);
    }
    cluster
}

/// A VirtualService's `set`, `add` and `remove` in Envoy's words.
fn header_operations(cluster: &mut Value, side: &str, operations: &Map<String, Value>) {
    let mut added = Vec::new();
    for (word, action) in [("set", "OVERWRITE_IF_EXISTS_OR_ADD"), ("add", "APPEND_IF_EXISTS_OR_ADD")] {
        for (key, value) in operations.get(word).and_then(Value::as_object).into_iter().flatten() {
            if side == "request" && ["host", ":authority"].contains(&key.to_ascii_lowercase().as_str()) {
                cluster["host_rewrite_literal"] = value.clone();
            } else {
                added.push(json!({ "header": { "key": key, "value": value }, "append_action": action }));
            }
        }
    }
    if !added.is_empty() {
        cluster[format!("{side}_headers_to_add")] = Value::Array(added);
    }
    if let Some(removed) =
        operations.get("remove").filter(|list| list.as_array().is_some_and(|l| !l.is_empty()))
    {
        cluster[format!("{side}_headers_to_remove")] = removed.clone();
    }
}

/// For each class cluster one that falls back to the cluster without a class, by name: a class cluster that Istio
/// does not make (its DestinationRule is hidden by a later one) then means the default route and not an error.
fn aggregates(sidecar: &SidecarPlan) -> BTreeMap<String, Value> {
    let mut all = BTreeMap::new();
    for target in sidecar.patches.iter().flat_map(|patch| &patch.destinations) {
        for class in sidecar.classes() {
            let name = class_cluster(sidecar, target, class);
            let subset = subset(class, target.subset.as_deref());
            let clusters = [
                cluster_of_subset(&target.host, target.port, Some(&subset)),
                cluster_of_subset(&target.host, target.port, target.subset.as_deref()),
            ];
            let cluster = json!({
                "name": name, "connect_timeout": "10s", "lb_policy": "CLUSTER_PROVIDED",
                "circuit_breakers": unlimited(),
                "cluster_type": { "name": "envoy.clusters.aggregate", "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.clusters.aggregate.v3.ClusterConfig",
                    "clusters": clusters,
                } },
            });
            all.insert(name, cluster);
        }
    }
    all
}
