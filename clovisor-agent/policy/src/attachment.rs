//! Which mapping is attached to which route (GEP-713): valid mappings, the oldest first. One without a creation time
//! comes before those with one; where times do not decide, names do.

mod check;

mod links;

mod never;

mod no_effect;

pub(crate) mod targets;

use super::origin::RouteOrigin;
use clovisor_objects::identity::{ObjectKey, ObjectKind};
use clovisor_objects::problem::{Problem, Subject};
use clovisor_objects::reason::ProblemReason;
use clovisor_objects::refusal::Refusal;
use clovisor_objects::snapshot::Snapshot;
use clovisor_objects::wan_mapping::WanMappingSpec;
use std::collections::{BTreeMap, BTreeSet};

/// The accepted mappings and the routes to which they are attached.
#[derive(Debug, Default)]
pub(crate) struct Attachments<'a> {
    pub(crate) accepted: BTreeMap<ObjectKey, &'a WanMappingSpec>,
    /// Object and index in its list of routes to the name of the mapping, which is in the object's namespace.
    pub(crate) by_route: BTreeMap<(RouteOrigin, usize), String>,
    pub(crate) problems: Vec<Problem>,
}

/// Attaches every mapping to its routes. A conflict refuses the later mapping in this order and affects no other.
pub(crate) fn attachments(snapshot: &Snapshot) -> Attachments<'_> {
    let mut attachments = Attachments::default();
    let mut mappings: Vec<_> = snapshot.mappings.iter().collect();
    mappings.sort_by_key(|(key, mapping)| (mapping.created, *key));
    for (key, mapping) in mappings {
        let spec = &mapping.spec;
        let checked = check::check(spec).and_then(|()| targets::targets(snapshot, key, spec));
        match checked.and_then(|routes| attachments.free(snapshot, key, &routes).map(|()| routes)) {
            Ok(routes) => {
                attachments.by_route.extend(routes.into_iter().map(|route| (route, key.name.clone())));
                attachments.accepted.insert(key.clone(), spec);
                let mut refused = links::refusals(snapshot, key, spec);
                refused.extend(no_effect::refusals(spec));
                refused.extend(never::refusals(spec));
                attachments.problems.extend(refused.into_iter().map(|refusal| of_mapping(key, refusal)));
            }
            Err(refusal) => attachments.problems.push(of_mapping(key, refusal)),
        }
    }
    attachments
}

/// The problem of a refused mapping.
pub(crate) fn of_mapping(key: &ObjectKey, refusal: Refusal) -> Problem {
    Problem::new(Subject::object(ObjectKind::WanMapping, key), refusal)
}

impl Attachments<'_> {
    /// Detaches a mapping that turns out to be refused.
    pub(crate) fn refuse(&mut self, key: &ObjectKey, refusal: Refusal) {
        self.accepted.remove(key);
        self.by_route.retain(|(origin, _), by| origin.key().namespace != key.namespace || *by != key.name);
        self.problems.push(of_mapping(key, refusal));
    }

    /// Refuses routes of which one has an earlier mapping.
    fn free(
        &self,
        snapshot: &Snapshot,
        key: &ObjectKey,
        routes: &BTreeSet<(RouteOrigin, usize)>,
    ) -> Result<(), Refusal> {
        let taken = routes.iter().find_map(|route| self.by_route.get(route).map(|by| (route, by)));
        taken.map_or(Ok(()), |((origin, i), by)| {
            let other = ObjectKey { namespace: key.namespace.clone(), name: by.clone() };
            let created = |key| snapshot.mappings.get(key).and_then(|mapping| mapping.created);
            let why = match (created(&other), created(key)) {
                (Some(first), Some(second)) if first < second => "is older",
                (None, Some(_)) => "has no creation time and so comes first",
                _ => "comes first by name",
            };
            let message = format!(
                "route [{i}] of {origin} belongs to WanMapping {by}, which {why}; two mappings cannot share a \
                 route: remove one, or split the route"
            );
            Err(Refusal::new(ProblemReason::ClassNotSeparable, "spec.targetRefs", message))
        })
    }
}

#[cfg(test)]
mod tests;
