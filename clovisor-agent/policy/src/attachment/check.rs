//! Checks of a mapping that need no other object.

use clovisor_objects::refusal::{FieldPath, Refusal};
use clovisor_objects::wan_mapping::WanMappingSpec;
use clovisor_objects::wan_mapping::traffic::TrafficSelector;
use std::collections::BTreeSet;

/// Refuses a mapping that contradicts itself; the API server's validation refuses most of these already.
pub(super) fn check(spec: &WanMappingSpec) -> Result<(), Refusal> {
    if let Some(traffic) = &spec.traffic {
        check_traffic(spec, traffic)?;
    } else if spec.target_refs.is_empty() {
        let message =
            "is empty; name at least one VirtualService or HTTPRoute here, or networks in spec.traffic";
        return invalid("spec.targetRefs", message);
    }
    if spec.links.is_empty() && spec.rules.is_empty() {
        return invalid("spec.links", "is empty and there are no rules; name at least one WanLink");
    }
    if spec.dscp.is_some_and(|dscp| !(0..=63).contains(&dscp)) {
        return invalid("spec.dscp", "is outside 0 to 63; a DSCP has six bits");
    }
    let mut names = BTreeSet::new();
    for (i, rule) in spec.rules.iter().enumerate() {
        let at = FieldPath::from("spec.rules").index(i);
        if rule.name.is_empty() || !names.insert(&rule.name) {
            return invalid(at.field("name"), "is empty or used twice; give each rule a name");
        }
        if rule.links.is_empty() {
            return invalid(at.field("links"), "is empty; name at least one WanLink");
        }
    }
    Ok(())
}

fn check_traffic(spec: &WanMappingSpec, traffic: &TrafficSelector) -> Result<(), Refusal> {
    if !spec.target_refs.is_empty() || !spec.rules.is_empty() {
        return invalid("spec.traffic", "excludes targetRefs and rules; write two mappings");
    }
    let destinations = FieldPath::from("spec.traffic.destinations");
    if traffic.destinations.is_empty() {
        return invalid(destinations, "is empty; name at least one network");
    }
    for (i, destination) in traffic.destinations.iter().enumerate() {
        if let Some(stray) = destination.stray_exception() {
            let field = destinations.clone().index(i).field("except").index(stray);
            return invalid(field, "is not within cidr; leave it out, or correct one of the two");
        }
    }
    match traffic.destinations.iter().position(|destination| destination.ports().is_none()) {
        None => Ok(()),
        Some(i) => invalid(
            destinations.index(i).field("port"),
            "port and endPort are 1 to 65535 in ascending order; ICMP has neither",
        ),
    }
}

fn invalid(field: impl Into<FieldPath>, message: &str) -> Result<(), Refusal> {
    Err(Refusal::invalid_rule(field, message))
}
