//! What a mapping says and what changes nothing.

use crate::local::LocalNets;
use clovisor_objects::reason::ProblemReason;
use clovisor_objects::refusal::{FieldPath, Refusal};
use clovisor_objects::wan_mapping::WanMappingSpec;
use clovisor_objects::wan_mapping::traffic::TrafficDestination;
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
    let destinations = spec.traffic.as_ref().map_or(&[][..], |traffic| &traffic.destinations);
    let at = FieldPath::from("spec.traffic.destinations");
    refused.extend(twice(&at, destinations, named));
    for (i, destination) in destinations.iter().enumerate() {
        let at = at.clone().index(i);
        refused.extend(unreached(&at, destination));
        refused.extend(behind_prefix(at.clone().field("cidr"), destination.cidr));
        for (j, except) in destination.except.iter().enumerate() {
            refused.extend(behind_prefix(at.clone().field("except").index(j), *except));
        }
    }
    refused
}

fn named(destination: &TrafficDestination) -> String {
    let ports = match (destination.port, destination.end_port) {
        (Some(first), Some(last)) if first != last => format!(", ports {first} to {last}"),
        (Some(port), _) => format!(", port {port}"),
        (None, _) => String::new(),
    };
    format!("{} by {}{ports}", destination.cidr.trunc(), destination.protocol)
}

/// A destination of which nothing is left.
fn unreached(at: &FieldPath, destination: &TrafficDestination) -> Option<Refusal> {
    let net = destination.cidr.trunc();
    if let Some(reason) = LocalNets::by_number(net) {
        let message = format!("{net} is {reason}, which no mapping takes; remove it");
        return Some(of(at.clone().field("cidr"), message));
    }
    let all = destination.except.iter().position(|except| except.trunc().contains(&net))?;
    let message = format!("excepts all of {net}; narrow it, or remove the destination");
    Some(of(at.clone().field("except").index(all), message))
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
