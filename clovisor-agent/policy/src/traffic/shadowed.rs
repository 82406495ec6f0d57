//! Destinations that an earlier mapping takes for all the pods of a later one.

use crate::attachment::{Attachments, of_mapping};
use clovisor_objects::identity::ObjectKey;
use clovisor_objects::problem::Problem;
use clovisor_objects::reason::ProblemReason;
use clovisor_objects::refusal::{FieldPath, Refusal};
use clovisor_objects::wan_mapping::traffic::{TrafficDestination, TrafficSelector};

/// One problem for each: of two destinations that are the same, the one of the mapping that comes first by name holds.
pub(super) fn shadowed(namespace: &str, attachments: &Attachments<'_>) -> Vec<Problem> {
    let here = attachments.accepted.iter().filter(|(key, _)| key.namespace == namespace);
    let all: Vec<_> = here.filter_map(|(key, spec)| Some((key, spec.traffic.as_ref()?))).collect();
    let mut problems = Vec::new();
    for (place, (key, later)) in all.iter().enumerate() {
        let earlier = all.get(..place).unwrap_or_default();
        for (i, destination) in later.destinations.iter().enumerate() {
            let takes = |(_, earlier): &&(&ObjectKey, &TrafficSelector)| {
                selects_all_of(earlier, later)
                    && earlier.destinations.iter().any(|other| is_same(other, destination))
            };
            if let Some((first, _)) = earlier.iter().find(takes) {
                let message = format!(
                    "WanMapping {} takes {} for the same pods, and comes first by name; remove one of the two",
                    first.name,
                    destination.cidr.trunc()
                );
                let field = FieldPath::from("spec.traffic.destinations").index(i);
                problems.push(of_mapping(key, Refusal::new(ProblemReason::NoEffect, field, message)));
            }
        }
    }
    problems
}

fn selects_all_of(earlier: &TrafficSelector, later: &TrafficSelector) -> bool {
    earlier.pods.iter().all(|(key, value)| later.pods.get(key) == Some(value))
}

/// They cover the same packets, and the first excepts none.
fn is_same(first: &TrafficDestination, second: &TrafficDestination) -> bool {
    let of = |d: &TrafficDestination| (d.cidr.trunc(), d.protocol, d.ports());
    of(first) == of(second) && first.except.is_empty()
}
