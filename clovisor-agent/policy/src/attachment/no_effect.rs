//! What a mapping says and what changes nothing.

use clovisor_objects::reason::ProblemReason;
use clovisor_objects::refusal::{FieldPath, Refusal};
use clovisor_objects::wan_mapping::WanMappingSpec;
use ipnet::IpNet;
use std::collections::BTreeSet;

/// One refusal for each entry of a list that stands twice, and for each network with bits behind its prefix.
pub(super) fn refusals(spec: &WanMappingSpec) -> Vec<Refusal> {
    let mut refused = twice(&FieldPath::from("spec.links"), &spec.links, Clone::clone);
    for (i, rule) in spec.rules.iter().enumerate() {
        let at = FieldPath::from("spec.rules").index(i).field("links");
        refused.extend(twice(&at, &rule.links, Clone::clone));
    }
    refused.extend(twice(&FieldPath::from("spec.targetRefs"), &spec.target_refs, |target| {
        let section = target.section_name.as_ref().map_or_else(String::new, |name| format!(", {name}"));
        format!("{} {}{section}", target.kind, target.name)
    }));
    let destinations = spec.traffic.iter().flat_map(|traffic| &traffic.destinations).enumerate();
    for (i, destination) in destinations {
        let at = FieldPath::from("spec.traffic.destinations").index(i);
        refused.extend(behind_prefix(at.clone().field("cidr"), destination.cidr));
        for (j, except) in destination.except.iter().enumerate() {
            refused.extend(behind_prefix(at.clone().field("except").index(j), *except));
        }
    }
    refused
}

fn behind_prefix(at: FieldPath, cidr: IpNet) -> Option<Refusal> {
    let net = cidr.trunc();
    let host = format!("{}/{}", cidr.addr(), cidr.max_prefix_len());
    let message =
        format!("{cidr} has bits behind its prefix and means {net}; write that, or {host} for the one host");
    (cidr != net).then(|| of(at, message))
}

fn twice<T>(at: &FieldPath, list: &[T], name: impl Fn(&T) -> String) -> Vec<Refusal> {
    let mut seen = BTreeSet::new();
    let again = list.iter().map(name).enumerate().filter(|(_, name)| !seen.insert(name.clone()));
    again
        .map(|(i, name)| of(at.clone().index(i), format!("{name} stands before already; remove it here")))
        .collect()
}

fn of(field: FieldPath, message: String) -> Refusal {
    Refusal::new(ProblemReason::NoEffect, field, message)
}
