//! The DestinationRules with the class subsets of a mapping.

use super::home::{Home, homes};
use super::{IstioObject, Kind, Phase};
use crate::cluster::identity::ObjectKey;
use crate::cluster::istio::Subset;
use crate::envoy::names;
use crate::policy::class::ClassId;
use crate::policy::hosts::{DestinationRules, default_sni};
use crate::policy::sidecar::plan::{RouteDestination, SidecarPlan};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// One rule for each place that its destinations need.
pub(super) fn rules(rules: &DestinationRules<'_>, sidecar: &SidecarPlan) -> Vec<IstioObject> {
    let client = &sidecar.mapping.namespace;
    let targets = sidecar.patches.iter().flat_map(|patch| &patch.destinations);
    let mut found = BTreeMap::<ObjectKey, (Home<'_>, BTreeMap<String, Wanted>)>::new();
    for target in targets {
        for home in homes(rules, client, target) {
            let key = ObjectKey { namespace: home.namespace.clone(), name: name(sidecar, &home) };
            let (_, subsets) = found.entry(key).or_insert_with(|| (home, BTreeMap::new()));
            for class in sidecar.classes() {
                let wanted = subsets.entry(names::subset(class, target.subset.as_deref()));
                wanted
                    .or_insert_with(|| Wanted::of(target))
                    .places
                    .insert((target.host.clone(), target.port));
            }
        }
    }
    let object = |(key, (home, subsets)): (ObjectKey, (Home<'_>, BTreeMap<String, Wanted>))| {
        let subsets: Vec<_> = subsets.iter().map(|(name, wanted)| subset(&home, name, wanted)).collect();
        let mut spec = json!({ "host": home.host, "subsets": subsets });
        if !home.export_to.is_empty() {
            spec["exportTo"] = json!(home.export_to);
        }
        if let Some(selector) = home.selector {
            spec["workloadSelector"] = selector.clone();
        }
        let mappings = BTreeSet::from([sidecar.mapping.clone()]);
        IstioObject { phase: Phase::Classes, kind: Kind::DestinationRule, key, mappings, spec }
    };
    found.into_iter().map(object).collect()
}

/// A class subset: of which subset of the user's, and where it is used.
#[derive(Debug)]
struct Wanted {
    of: Option<String>,
    places: BTreeSet<(String, u16)>,
}

impl Wanted {
    fn of(target: &RouteDestination) -> Self {
        Self { of: target.subset.clone(), places: BTreeSet::new() }
    }
}

/// The same place has the same name, in every namespace once for each mapping.
fn name(sidecar: &SidecarPlan, home: &Home<'_>) -> String {
    let ObjectKey { namespace, name } = &sidecar.mapping;
    let place = json!([home.host, home.export_to, home.selector]).to_string();
    let prefix = if *namespace == home.namespace { String::new() } else { format!("{namespace}-") };
    format!("clovisor-{prefix}{name}-{:08x}", crc32fast::hash(place.as_bytes()))
}

/// Labels and policy of the subset it stands in for. In mutual TLS the name of a subset would be in the
/// ClientHello, where a gateway of another cluster looks for it: the SNI stays as it was.
fn subset(home: &Home<'_>, name: &str, wanted: &Wanted) -> Value {
    let own = wanted.of.as_deref().and_then(|of| home.subset(of));
    let mut subset = json!({ "name": name });
    let mut policy = own.and_then(|s| s.traffic_policy.clone()).unwrap_or_else(|| json!({}));
    if let Some(Subset { labels, .. }) = own.filter(|s| !s.labels.is_empty()) {
        subset["labels"] = json!(labels);
    }
    // A rule for many hosts cannot name the SNI of one.
    let (hosts, ports): (BTreeSet<_>, BTreeSet<_>) = wanted.places.iter().cloned().unzip();
    if let Some(host) = hosts.first().filter(|_| hosts.len() == 1) {
        for port in ports {
            same_sni(home, own, &mut policy, host, port);
        }
    }
    if policy.as_object().is_some_and(|p| !p.is_empty()) {
        subset["trafficPolicy"] = policy;
    }
    subset
}

fn same_sni(home: &Home<'_>, own: Option<&Subset>, policy: &mut Value, host: &str, port: u16) {
    let mut settings = home.settings(own, port);
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
