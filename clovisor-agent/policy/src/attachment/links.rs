//! Links that a mapping names and cannot use. Its other links stay in use, so it stays accepted.

use clovisor_objects::identity::ObjectKey;
use clovisor_objects::near::remedy;
use clovisor_objects::reason::ProblemReason;
use clovisor_objects::refusal::{FieldPath, Refusal};
use clovisor_objects::snapshot::Snapshot;
use clovisor_objects::wan_mapping::WanMappingSpec;

/// One refusal for each unusable link.
pub(super) fn refusals(snapshot: &Snapshot, key: &ObjectKey, spec: &WanMappingSpec) -> Vec<Refusal> {
    let of_mapping = spec.links.iter().map(|link| (FieldPath::from("spec.links"), link));
    let of_rules = spec.rules.iter().enumerate().flat_map(|(i, rule)| {
        let field = move || FieldPath::from("spec.rules").index(i).field("links");
        rule.links.iter().map(move |link| (field(), link))
    });
    let refused = |(field, link): (FieldPath, &String)| refusal(snapshot, key, field, link);
    of_mapping.chain(of_rules).filter_map(refused).collect()
}

fn refusal(snapshot: &Snapshot, key: &ObjectKey, field: FieldPath, link: &str) -> Option<Refusal> {
    let Some(found) = snapshot.links.get(link) else {
        let near = remedy(link, snapshot.links.keys().map(String::as_str));
        let message = format!("there is no WanLink {link} ({near}); create it, or fix the name");
        return Some(Refusal::new(ProblemReason::LinkNotFound, field, message));
    };
    let allowed = &found.allowed_namespaces;
    if allowed.is_empty() || allowed.contains(&key.namespace) {
        return None;
    }
    let message =
        format!("WanLink {link} does not allow namespace {}; add it to its allowedNamespaces", key.namespace);
    Some(Refusal::new(ProblemReason::NotPermitted, field, message))
}
