//! The routes that a mapping targets.

use crate::origin::RouteOrigin;
use clovisor_objects::identity::ObjectKey;
use clovisor_objects::reason::ProblemReason;
use clovisor_objects::refusal::{FieldPath, Refusal};
use clovisor_objects::snapshot::Snapshot;
use clovisor_objects::wan_mapping::{TargetRef, WanMappingSpec};
use std::collections::BTreeSet;

/// Objects and indexes in their lists of routes.
pub(super) fn targets(
    snapshot: &Snapshot,
    key: &ObjectKey,
    spec: &WanMappingSpec,
) -> Result<BTreeSet<(RouteOrigin, usize)>, Refusal> {
    let mut routes = BTreeSet::new();
    for (i, target) in spec.target_refs.iter().enumerate() {
        let at = FieldPath::from("spec.targetRefs").index(i);
        let (origin, names) = named(snapshot, key, target).map_err(|refusal| refusal.under(&at))?;
        let indexes = sections(target, &origin, &names).map_err(|refusal| refusal.under(&at))?;
        routes.extend(indexes.into_iter().map(|index| (origin.clone(), index)));
    }
    Ok(routes)
}

/// The object of a target, and the names of its routes.
fn named<'a>(
    snapshot: &'a Snapshot,
    key: &ObjectKey,
    target: &TargetRef,
) -> Result<(RouteOrigin, Vec<Option<&'a str>>), Refusal> {
    let object = ObjectKey { namespace: key.namespace.clone(), name: target.name.clone() };
    let (origin, names) = match (target.group.as_str(), target.kind.as_str()) {
        ("networking.istio.io", "VirtualService") => {
            let found = snapshot.virtual_services.get(&object);
            let names = found.map(|vs| vs.spec.http.iter().map(|h| h.name.as_deref()).collect());
            (RouteOrigin::VirtualService(object), names)
        }
        ("gateway.networking.k8s.io", "HTTPRoute") => {
            let found = snapshot.http_routes.get(&object);
            let names = found.map(|route| route.spec.rules.iter().map(|r| r.name.as_deref()).collect());
            (RouteOrigin::HttpRoute(object), names)
        }
        (group, kind) => {
            let message = format!(
                "{group}/{kind} cannot be a target; use networking.istio.io/VirtualService or \
                 gateway.networking.k8s.io/HTTPRoute"
            );
            return Err(Refusal::invalid_rule("", message));
        }
    };
    match names {
        Some(names) => Ok((origin, names)),
        None => {
            let message = format!("there is no {origin}; create it, or fix the name");
            Err(Refusal::new(ProblemReason::RuleNotEffective, "name", message))
        }
    }
}

/// The indexes of the routes with the target's section name, or all.
fn sections(target: &TargetRef, origin: &RouteOrigin, names: &[Option<&str>]) -> Result<Vec<usize>, Refusal> {
    let Some(section) = &target.section_name else {
        return Ok((0..names.len()).collect());
    };
    let indexes = names.iter().enumerate().filter(|(_, name)| **name == Some(section));
    let indexes: Vec<_> = indexes.map(|(i, _)| i).collect();
    if !indexes.is_empty() {
        return Ok(indexes);
    }
    let (reason, message) = if names.contains(&None) {
        let message =
            format!("no route of {origin} is named {section:?}, and some have no name; name each route");
        (ProblemReason::RouteUnnamed, message)
    } else {
        let names: Vec<_> = names.iter().flatten().copied().collect();
        let message = format!("no route of {origin} is named {section:?}; it has [{}]", names.join(", "));
        (ProblemReason::RuleNotEffective, message)
    };
    Err(Refusal::new(reason, "sectionName", message))
}
