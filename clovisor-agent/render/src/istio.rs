//! Plans for Istio's sidecars to the Istio objects that put them in force.
//!
//! Istio's control plane makes the clusters, with a class subset each; Clovisor's objects add the subsets, give
//! their sockets the class, and switch the routes. The user's own objects are not touched.

pub mod object;

mod callout;

mod filter;

mod patch;

mod rule;

mod rule_set;

use clovisor_objects::snapshot::Snapshot;
use clovisor_policy::hosts::destination_rules;
use clovisor_policy::sidecar::plan::SidecarPlan;
use object::{IstioConfig, IstioObject};

/// The objects for these plans, in the order in which they are to be written.
#[must_use]
pub fn objects(snapshot: &Snapshot, planned: &[SidecarPlan], config: &IstioConfig) -> Vec<IstioObject> {
    let rules = destination_rules(snapshot);
    let mut all = Vec::new();
    for sidecar in planned {
        all.extend(rule::rules(&rules, sidecar));
        all.push(filter::classes(sidecar));
        all.push(filter::routes(sidecar));
    }
    all.extend(callout::filters(planned, config));
    all.sort_by(|a, b| (a.phase, a.kind, &a.key).cmp(&(b.phase, b.kind, &b.key)));
    all
}

#[cfg(test)]
mod tests;
