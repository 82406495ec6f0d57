//! The routes that a mapping targets.

use crate::origin::RouteOrigin;
use clovisor_objects::identity::ObjectKey;
use clovisor_objects::istio::VirtualService;
use clovisor_objects::near::remedy;
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
        let (origin, indexes) = of_target(snapshot, key, target).map_err(|refusal| refusal.under(&at))?;
        routes.extend(indexes.into_iter().map(|index| (origin.clone(), index)));
    }
    Ok(routes)
}

/// The object of a target of the mapping `key`, and the indexes of the routes that it means.
pub(crate) fn of_target(
    snapshot: &Snapshot,
    key: &ObjectKey,
    target: &TargetRef,
) -> Result<(RouteOrigin, Vec<usize>), Refusal> {
    let (origin, entries) = entries(snapshot, key, target)?;
    let indexes = sections(target, &origin, &entries)?;
    Ok((origin, indexes))
}

/// An entry of an object's list of routes.
struct RouteEntry<'a> {
    name: Option<&'a str>,
    /// Some request inside the mesh can take it.
    is_for_mesh: bool,
}

/// The object of a target, and its routes.
fn entries<'a>(
    snapshot: &'a Snapshot,
    key: &ObjectKey,
    target: &TargetRef,
) -> Result<(RouteOrigin, Vec<RouteEntry<'a>>), Refusal> {
    let object = ObjectKey { namespace: key.namespace.clone(), name: target.name.clone() };
    let named = |name: &'a Option<String>, is_for_mesh| RouteEntry {
        name: name.as_deref().filter(|name| !name.is_empty()),
        is_for_mesh,
    };
    let (origin, entries) = match (target.group.as_str(), target.kind.as_str()) {
        ("networking.istio.io", "VirtualService") => {
            let found = snapshot.virtual_services.get(&object).map(|vs| &vs.spec);
            let entries = found.map(|vs| vs.http.iter().map(|h| named(&h.name, h.is_for_mesh())).collect());
            let origin = RouteOrigin::VirtualService(object);
            if let Some(vs) = found.filter(|vs| vs.http.is_empty()) {
                return Err(without_http(&origin, vs));
            }
            (origin, entries)
        }
        ("gateway.networking.k8s.io", "HTTPRoute") => {
            let found = snapshot.http_routes.get(&object);
            let entries = found.map(|route| route.spec.rules.iter().map(|r| named(&r.name, true)).collect());
            let origin = RouteOrigin::HttpRoute(object);
            if found.is_some_and(|route| route.spec.rules.is_empty()) {
                let message = format!("{origin} has no rules; give it one with a backend");
                return Err(Refusal::new(ProblemReason::RuleNotEffective, "name", message));
            }
            (origin, entries)
        }
        (group, kind) => {
            let message = format!(
                "{group}/{kind} cannot be a target; use networking.istio.io/VirtualService or \
                 gateway.networking.k8s.io/HTTPRoute"
            );
            return Err(Refusal::invalid_rule("", message));
        }
    };
    match entries {
        Some(entries) => Ok((origin, entries)),
        None => {
            let near = remedy(&target.name, names_beside(snapshot, &origin));
            let message = format!("there is no {origin} ({near}); create it, or fix the name");
            Err(Refusal::new(ProblemReason::RuleNotEffective, "name", message))
        }
    }
}

/// The names of objects of the same kind in the same namespace.
fn names_beside<'a>(snapshot: &'a Snapshot, origin: &'a RouteOrigin) -> Vec<&'a str> {
    let keys: Vec<&ObjectKey> = match origin {
        RouteOrigin::VirtualService(_) => snapshot.virtual_services.keys().collect(),
        RouteOrigin::HttpRoute(_) => snapshot.http_routes.keys().collect(),
    };
    let here = keys.into_iter().filter(|key| key.namespace == origin.key().namespace);
    here.map(|key| key.name.as_str()).collect()
}

/// Why a VirtualService without `http` cannot be a target.
fn without_http(origin: &RouteOrigin, vs: &VirtualService) -> Refusal {
    let only = match (vs.tls.is_empty(), vs.tcp.is_empty()) {
        (true, true) => {
            let message = format!("{origin} has no http routes; give it one, with a name");
            return Refusal::new(ProblemReason::RuleNotEffective, "name", message);
        }
        (false, true) => "tls",
        (true, false) => "tcp",
        (false, false) => "tls and tcp",
    };
    let message = format!(
        "{origin} has {only} routes only, and of such connections the proxy sees no requests; map them by their \
         destination instead (spec.traffic)"
    );
    Refusal::new(ProblemReason::EncryptedBeforeProxy, "name", message)
}

/// The indexes of the routes with the target's section name, or all. Entries for gateways only count where there is
/// nothing else.
fn sections(
    target: &TargetRef,
    origin: &RouteOrigin,
    entries: &[RouteEntry<'_>],
) -> Result<Vec<usize>, Refusal> {
    let indexes = |wanted: &dyn Fn(&RouteEntry<'_>) -> bool| -> Vec<usize> {
        entries.iter().enumerate().filter(|(_, entry)| wanted(entry)).map(|(i, _)| i).collect()
    };
    let Some(section) = &target.section_name else {
        let for_mesh = indexes(&|entry| entry.is_for_mesh);
        return Ok(if for_mesh.is_empty() { indexes(&|_| true) } else { for_mesh });
    };
    let found = indexes(&|entry| entry.name == Some(section));
    if !found.is_empty() {
        return Ok(found);
    }
    let (reason, message) = if entries.iter().any(|entry| entry.is_for_mesh && entry.name.is_none()) {
        let message =
            format!("no route of {origin} is named {section:?}, and some have no name; name each route");
        (ProblemReason::RouteUnnamed, message)
    } else {
        let near = remedy(section, entries.iter().filter_map(|entry| entry.name));
        let message = format!("no route of {origin} is named {section:?}; {near}");
        (ProblemReason::RuleNotEffective, message)
    };
    Err(Refusal::new(reason, "sectionName", message))
}
