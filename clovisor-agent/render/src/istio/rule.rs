//! The DestinationRules with the class subsets of a mapping.

use super::object::{IstioKind, IstioObject, Phase};
use super::rule_set::{RuleSet, rule_sets};
use crate::names;
use clovisor_objects::identity::ObjectKey;
use clovisor_objects::istio::Subset;
use clovisor_policy::class::ClassId;
use clovisor_policy::hosts::{DestinationRules, default_sni};
use clovisor_policy::sidecar::plan::{RouteDestination, SidecarPlan};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// One rule for each place that its destinations need.
pub(super) fn rules(rules: &DestinationRules<'_>, sidecar: &SidecarPlan) -> Vec<IstioObject> {
    let client = &sidecar.mapping.namespace;
    let targets = sidecar.patches.iter().flat_map(|patch| &patch.destinations);
    let mut found = BTreeMap::<ObjectKey, (RuleSet<'_>, BTreeMap<String, ClassSubset>)>::new();
    for target in targets {
        for set in rule_sets(rules, client, target) {
            let key = ObjectKey { namespace: set.namespace.clone(), name: name(sidecar, &set) };
            let (_, subsets) = found.entry(key).or_insert_with(|| (set, BTreeMap::new()));
            for class in sidecar.classes() {
                let class_subset = subsets.entry(names::subset(class, target.subset.as_deref()));
                class_subset
                    .or_insert_with(|| ClassSubset::of(target))
                    .places
                    .insert((target.host.clone(), target.port));
            }
        }
    }
    let object = |(key, (set, subsets)): (ObjectKey, (RuleSet<'_>, BTreeMap<String, ClassSubset>))| {
        let subsets: Vec<_> =
            subsets.iter().map(|(name, class_subset)| subset(&set, name, class_subset)).collect();
        let mut spec = json!({ "host": set.host, "subsets": subsets });
        if !set.export_to.is_empty() {
            spec["exportTo"] = json!(set.export_to);
        }
        if let Some(selector) = set.selector {
            spec["workloadSelector"] = selector.clone();
        }
        let mappings = BTreeSet::from([sidecar.mapping.clone()]);
        IstioObject { phase: Phase::Classes, kind: IstioKind::DestinationRule, key, mappings, spec }
    };
    found.into_iter().map(object).collect()
}

/// A class subset: of which subset of the user's, and where it is used.
#[derive(Debug)]
struct ClassSubset {
    of: Option<String>,
    places: BTreeSet<(String, u16)>,
}

impl ClassSubset {
    fn of(target: &RouteDestination) -> Self {
        Self { of: target.subset.clone(), places: BTreeSet::new() }
    }
}

/// The same place has the same name, in every namespace once for each mapping.
fn name(sidecar: &SidecarPlan, set: &RuleSet<'_>) -> String {
    let ObjectKey { namespace, name } = &sidecar.mapping;
    let place = json!([set.host, set.export_to, set.selector]).to_string();
    let prefix = if *namespace == set.namespace { String::new() } else { format!("{namespace}-") };
    format!("clovisor-{prefix}{name}-{:08x}", crc32fast::hash(place.as_bytes()))
}

/// Labels and policy of the subset it stands in for. In mutual TLS the name of a subset would be in the
/// ClientHello, where a gateway of another cluster looks for it: the SNI stays as it was.
fn subset(set: &RuleSet<'_>, name: &str, class_subset: &ClassSubset) -> Value {
    let own = class_subset.of.as_deref().and_then(|of| set.subset(of));
    let mut subset = json!({ "name": name });
    let mut policy = own.and_then(|s| s.traffic_policy.clone()).unwrap_or_else(|| json!({}));
    if let Some(Subset { labels, .. }) = own.filter(|s| !s.labels.is_empty()) {
        subset["labels"] = json!(labels);
    }
    // A rule for many hosts cannot name the SNI of one.
    let (hosts, ports): (BTreeSet<_>, BTreeSet<_>) = class_subset.places.iter().cloned().unzip();
    if let Some(host) = hosts.first().filter(|_| hosts.len() == 1) {
        for port in ports {
            same_sni(set, own, &mut policy, host, port);
        }
    }
    if policy.as_object().is_some_and(|p| !p.is_empty()) {
        subset["trafficPolicy"] = policy;
    }
    subset
}

fn same_sni(set: &RuleSet<'_>, own: Option<&Subset>, policy: &mut Value, host: &str, port: u16) {
    let mut settings = set.settings(own, port);
    let tls = settings.get("tls");
    let is_mutual = tls.and_then(|tls| tls.get("mode")).is_some_and(|mode| mode == "ISTIO_MUTUAL");
    if !is_mutual || tls.is_some_and(|tls| tls.get("sni").is_some()) {
        return;
    }
    let sni =
        own.map_or_else(|| default_sni(host, port), |s| format!("outbound_.{port}_.{}_.{host}", s.name));
    settings["tls"]["sni"] = json!(sni);
    settings.insert("port".into(), json!({ "number": port }));
    let ports = policy.get("portLevelSettings").and_then(Value::as_array);
    let mut ports = ports.cloned().unwrap_or_default();
    ports.retain(|s| s.pointer("/port/number") != Some(&json!(port)));
    ports.push(Value::Object(settings));
    policy["portLevelSettings"] = Value::Array(ports);
}

/// Every class subset of a mapping, with its class.
pub(super) fn subsets(sidecar: &SidecarPlan) -> BTreeMap<String, ClassId> {
    let targets = sidecar.patches.iter().flat_map(|patch| &patch.destinations);
    let of: BTreeSet<_> = targets.map(|target| target.subset.as_deref()).collect();
    let pairs = sidecar
        .classes()
        .into_iter()
        .flat_map(|class| of.iter().map(move |of| (names::subset(class, *of), class)));
    pairs.collect()
}
