//! Where a class subset must be defined: beside the user's effective DestinationRule, so that none hides another.
//!
//! Istio takes the rules of the client's namespace, else of the service's, else of the root namespace; the first
//! that has one wins completely. Only rules with the same host, `exportTo` and selector are merged.

use clovisor_objects::istio::{DestinationRule, Subset};
use clovisor_policy::hosts::{DestinationRules, HostMatch, ROOT_NAMESPACE, visible};
use clovisor_policy::sidecar::plan::RouteDestination;
use serde_json::{Map, Value, json};

/// The user's DestinationRules of one namespace, host, `exportTo` and selector, which Istio merges.
#[derive(Clone, Debug)]
pub(super) struct RuleSet<'a> {
    pub(super) namespace: String,
    pub(super) host: String,
    pub(super) export_to: Vec<String>,
    pub(super) selector: Option<&'a Value>,
    merged: Vec<&'a DestinationRule>,
}

impl<'a> RuleSet<'a> {
    fn of(found: &HostMatch<'a, DestinationRule>, all: &[HostMatch<'a, DestinationRule>]) -> Self {
        let rule = found.object;
        let same = |other: &&HostMatch<'a, DestinationRule>| {
            other.key.namespace == found.key.namespace
                && other.object.host == rule.host
                && other.object.export_to == rule.export_to
                && other.object.workload_selector == rule.workload_selector
        };
        let mut merged: Vec<_> = all.iter().filter(same).map(|f| (f.key, f.object)).collect();
        merged.sort_by_key(|(key, _)| *key);
        Self {
            namespace: found.key.namespace.clone(),
            host: rule.host.clone(),
            export_to: rule.export_to.clone(),
            selector: rule.workload_selector.as_ref(),
            merged: merged.into_iter().map(|(_, rule)| rule).collect(),
        }
    }

    /// A subset of the user's own.
    pub(super) fn subset(&self, name: &str) -> Option<&'a Subset> {
        self.merged.iter().flat_map(|rule| &rule.subsets).find(|subset| subset.name == name)
    }

    /// The settings that hold for a port of a subset, as Istio merges them: of the port before those of the
    /// subset before those of the host; what names a port replaces the rest.
    pub(super) fn settings(&self, subset: Option<&Subset>, port: u16) -> Map<String, Value> {
        let host = self.merged.iter().find_map(|rule| rule.traffic_policy.as_ref());
        let mut settings = Map::new();
        for policy in [host, subset.and_then(|s| s.traffic_policy.as_ref())].into_iter().flatten() {
            let fields = policy.as_object().into_iter().flatten();
            settings.extend(fields.map(|(k, v)| (k.clone(), v.clone())));
            settings.remove("portLevelSettings");
            let ports = policy.get("portLevelSettings").and_then(Value::as_array).into_iter().flatten();
            if let Some(own) = ports.into_iter().find(|s| s.pointer("/port/number") == Some(&json!(port))) {
                settings = own.as_object().cloned().unwrap_or_default();
                settings.remove("port");
            }
        }
        settings
    }
}

/// The sets that need the class subsets of a destination, for the clients of a namespace.
pub(super) fn rule_sets<'a>(
    rules: &DestinationRules<'a>,
    client: &str,
    target: &RouteDestination,
) -> Vec<RuleSet<'a>> {
    let all: Vec<_> = rules
        .covering(&target.host)
        .into_iter()
        .filter(|f| visible(&f.object.export_to, &f.key.namespace, client))
        .collect();
    let mut sets: Vec<RuleSet<'a>> = Vec::new();
    // A rule with a selector holds for some of the client's pods only; the others need theirs too.
    for found in all.iter().filter(|f| f.key.namespace == client && f.object.workload_selector.is_some()) {
        let set = RuleSet::of(found, &all);
        if !sets
            .iter()
            .any(|h| (&h.host, &h.export_to, h.selector) == (&set.host, &set.export_to, set.selector))
        {
            sets.push(set);
        }
    }
    let nearest = [client, &target.namespace, ROOT_NAMESPACE].into_iter().find_map(|namespace| {
        let here =
            all.iter().filter(|f| f.key.namespace == namespace && f.object.workload_selector.is_none());
        here.max_by_key(|f| (f.specificity, std::cmp::Reverse(f.key)))
    });
    sets.push(nearest.map_or_else(|| uncovered(target), |found| RuleSet::of(found, &all)));
    sets
}

/// No DestinationRule covers the host.
fn uncovered<'a>(target: &RouteDestination) -> RuleSet<'a> {
    RuleSet {
        namespace: target.namespace.clone(),
        host: target.host.clone(),
        export_to: Vec::new(),
        selector: None,
        merged: Vec::new(),
    }
}
