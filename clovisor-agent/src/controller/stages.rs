//! Existing and wanted Istio objects, to stages of writes.
//!
//! Clusters before the routes that name them, and routes away before their clusters: between two stages the proxies
//! must have taken in the first. While routes change, what the old ones need stays.

use clovisor_objects::identity::ObjectKey;
use clovisor_render::istio::object::{IstioKind, Phase};
use serde_json::Value;
use std::collections::BTreeMap;

/// IstioKind and name of an object.
pub(super) type IstioKey = (IstioKind, ObjectKey);

/// An object that is wanted.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct WantedObject {
    pub(super) phase: Phase,
    /// `metadata.labels`, `metadata.ownerReferences` and `spec`.
    pub(super) document: Value,
}

/// One write.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum IstioStep {
    Apply(IstioKey, Value),
    Delete(IstioKey),
}

/// The writes, stage by stage; stages without a write are left out. `existing`: every existing object of Clovisor.
pub(super) fn stages(
    existing: &BTreeMap<IstioKey, Value>,
    wanted: &BTreeMap<IstioKey, WantedObject>,
) -> Vec<Vec<IstioStep>> {
    let mut first = Vec::new();
    let mut last = Vec::new();
    for (key, WantedObject { document, .. }) in wanted.iter().filter(|(_, w)| w.phase == Phase::Classes) {
        let both = existing.get(key).map_or_else(|| document.clone(), |old| union(old, document));
        if existing.get(key).is_none_or(|old| !same(old, &both)) {
            first.push(IstioStep::Apply(key.clone(), both.clone()));
        }
        if both != *document {
            last.push(IstioStep::Apply(key.clone(), document.clone()));
        }
    }
    let mut second = Vec::new();
    for (key, WantedObject { document, .. }) in wanted.iter().filter(|(_, w)| w.phase == Phase::Routes) {
        if existing.get(key).is_none_or(|old| !same(old, document)) {
            second.push(IstioStep::Apply(key.clone(), document.clone()));
        }
    }
    for (key, old) in existing.iter().filter(|(key, _)| !wanted.contains_key(*key)) {
        let stage = if switches_routes(old) { &mut second } else { &mut last };
        stage.push(IstioStep::Delete(key.clone()));
    }
    [first, second, last].into_iter().filter(|stage| !stage.is_empty()).collect()
}

/// The existing object has everything as Clovisor would write it.
fn same(old: &Value, new: &Value) -> bool {
    let parts = ["/spec", "/metadata/labels", "/metadata/ownerReferences"];
    parts.iter().all(|part| old.pointer(part) == new.pointer(part))
}

fn switches_routes(object: &Value) -> bool {
    let patches = object.pointer("/spec/configPatches").and_then(Value::as_array);
    patches.into_iter().flatten().any(|patch| patch["applyTo"] == "HTTP_ROUTE")
}

/// The new object with what only the old one has: subsets and patches that proxies may still use.
fn union(old: &Value, new: &Value) -> Value {
    let mut both = new.clone();
    // Two filters of one name would be two callouts.
    let is_listener =
        |patch: &Value| patch["applyTo"] == "HTTP_FILTER" || patch["applyTo"] == "NETWORK_FILTER";
    for part in ["/spec/subsets", "/spec/configPatches"] {
        let old = old.pointer(part).and_then(Value::as_array).cloned().unwrap_or_default();
        let Some(list) = both.pointer_mut(part).and_then(Value::as_array_mut) else { continue };
        if list.iter().any(is_listener) {
            continue;
        }
        let names: Vec<_> = list.iter().filter_map(name_of).collect();
        list.extend(old.into_iter().filter(|item| name_of(item).is_none_or(|name| !names.contains(&name))));
    }
    both
}

/// What makes two items the same: a subset's name, the cluster that a patch adds, the subset that it changes.
fn name_of(item: &Value) -> Option<String> {
    let names = ["/name", "/patch/value/name", "/match/cluster/subset"];
    names.iter().find_map(|path| item.pointer(path)?.as_str().map(|name| format!("{path} {name}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn key(name: &str, kind: IstioKind) -> IstioKey {
        (kind, ObjectKey { namespace: "shop".into(), name: name.into() })
    }

    fn rule(subsets: &[&str]) -> Value {
        let subsets: Vec<_> = subsets.iter().map(|name| json!({ "name": name })).collect();
        json!({ "metadata": { "labels": {} }, "spec": { "subsets": subsets } })
    }

    fn routes(cluster: &str) -> Value {
        json!({ "metadata": { "labels": {} }, "spec": { "configPatches": [{ "applyTo": "HTTP_ROUTE", "patch": { "value": cluster } }] } })
    }

    fn wanted(rules: &[&str], cluster: &str) -> BTreeMap<IstioKey, WantedObject> {
        let rule = WantedObject { phase: Phase::Classes, document: rule(rules) };
        let routes = WantedObject { phase: Phase::Routes, document: routes(cluster) };
        [(key("rule", IstioKind::DestinationRule), rule), (key("routes", IstioKind::EnvoyFilter), routes)]
            .into()
    }

    fn words(stages: &[Vec<IstioStep>]) -> Vec<Vec<String>> {
        let word = |step: &IstioStep| match step {
            IstioStep::Apply((_, key), document) => format!("apply {} {}", key.name, document["spec"]),
            IstioStep::Delete((_, key)) => format!("delete {}", key.name),
        };
        stages.iter().map(|stage| stage.iter().map(word).collect()).collect()
    }

    fn after(existing: &BTreeMap<IstioKey, Value>, stages: Vec<Vec<IstioStep>>) -> BTreeMap<IstioKey, Value> {
        let mut now = existing.clone();
        for step in stages.into_iter().flatten() {
            match step {
                IstioStep::Apply(key, document) => drop(now.insert(key, document)),
                IstioStep::Delete(key) => drop(now.remove(&key)),
            }
        }
        now
    }

    #[test]
    fn classes_come_first_and_go_last() {
        let nothing = BTreeMap::new();
        let first = stages(&nothing, &wanted(&["c1"], "c1"));
        assert_eq!(first.len(), 2, "{first:#?}");
        let there = after(&nothing, first);
        assert_eq!(stages(&there, &wanted(&["c1"], "c1")), Vec::<Vec<IstioStep>>::new());

        let changed = stages(&there, &wanted(&["c2"], "c2"));
        let subsets = |names: &[&str]| rule(names)["spec"].to_string();
        assert_eq!(
            words(&changed),
            [
                vec![format!("apply rule {}", subsets(&["c2", "c1"]))],
                vec![format!("apply routes {}", routes("c2")["spec"])],
                vec![format!("apply rule {}", subsets(&["c2"]))],
            ]
        );
        let there = after(&there, changed);
        let gone = stages(&there, &BTreeMap::new());
        assert_eq!(words(&gone), [vec!["delete routes".to_owned()], vec!["delete rule".to_owned()]]);
    }

    #[test]
    fn two_callouts_are_never_one_after_the_other() {
        let filter = |header: &str| json!({ "spec": { "configPatches": [{ "applyTo": "HTTP_FILTER", "patch": { "value": { "h": header } } }] } });
        assert_eq!(union(&filter("a"), &filter("b")), filter("b"));
    }
}
