//! What changed between two snapshots, for people.

/// Two documents, field by field.
mod fields;

use super::identity::ObjectKind;
use super::snapshot::{MappingObject, Snapshot};
use fields::differences;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

/// Values of a set that are compared one by one.
const LARGE: usize = 8;

/// One object that is another one than before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectChange {
    pub kind: ObjectKind,
    /// `NAMESPACE/NAME`, or the name alone.
    pub object: String,
    pub event: ChangeEvent,
    /// `metadata.generation` now, where it is known.
    pub generation: Option<i64>,
    /// Fields with their values before and now; empty unless the object was changed.
    pub changes: String,
}

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeEvent {
    Added,
    Changed,
    Removed,
}

impl Display for ChangeEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Added => "added",
            Self::Changed => "changed",
            Self::Removed => "removed",
        })
    }
}

impl Display for ObjectChange {
    /// `mapping changed`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let thing = match self.kind {
            ObjectKind::WanLink => "link",
            ObjectKind::WanMapping => "mapping",
            ObjectKind::Pod => "pod",
            ObjectKind::Node => "node",
            _ => "object",
        };
        write!(f, "{thing} {}", self.event)
    }
}

/// Every object that was added, changed or removed, kind by kind; what the agents report of their nodes is left out.
#[must_use]
pub fn changes(before: &Snapshot, after: &Snapshot) -> Vec<ObjectChange> {
    use ObjectKind as Kind;
    let mut found = Vec::new();
    compare(Kind::WanLink, &before.links, &after.links, |_| None, document, &mut found);
    compare(
        Kind::WanMapping,
        &before.mappings,
        &after.mappings,
        |mapping| mapping.generation,
        brief,
        &mut found,
    );
    let (old, new) = (before, after);
    compare(
        Kind::VirtualService,
        &old.virtual_services,
        &new.virtual_services,
        |_| None,
        document,
        &mut found,
    );
    compare(Kind::HttpRoute, &old.http_routes, &new.http_routes, |_| None, document, &mut found);
    compare(
        Kind::DestinationRule,
        &old.destination_rules,
        &new.destination_rules,
        |_| None,
        document,
        &mut found,
    );
    compare(Kind::ServiceEntry, &old.service_entries, &new.service_entries, |_| None, document, &mut found);
    compare(Kind::Service, &old.services, &new.services, |_| None, document, &mut found);
    compare(
        Kind::NetworkPolicy,
        &old.network_policies,
        &new.network_policies,
        |_| None,
        document,
        &mut found,
    );
    compare(Kind::Pod, &old.pods, &new.pods, |_| None, document, &mut found);
    compare(Kind::Node, &old.kube_nodes, &new.kube_nodes, |_| None, document, &mut found);
    found
}

fn compare<K: Ord + Display, T: Serialize + PartialEq>(
    kind: ObjectKind,
    before: &BTreeMap<K, Arc<T>>,
    after: &BTreeMap<K, Arc<T>>,
    generation: impl Fn(&T) -> Option<i64>,
    document: impl Fn(&T) -> Value,
    found: &mut Vec<ObjectChange>,
) {
    let change = |key: &K, event, now: Option<&T>, changes| ObjectChange {
        kind,
        object: key.to_string(),
        event,
        generation: now.and_then(&generation),
        changes,
    };
    for (key, now) in after {
        match before.get(key) {
            None => found.push(change(key, ChangeEvent::Added, Some(now), String::new())),
            Some(old) if Arc::ptr_eq(old, now) || old == now => {}
            Some(old) => {
                let changes = differences(&document(old), &document(now));
                found.push(change(key, ChangeEvent::Changed, Some(now), changes));
            }
        }
    }
    let gone = before.keys().filter(|key| !after.contains_key(key));
    found.extend(gone.map(|key| change(key, ChangeEvent::Removed, None, String::new())));
}

/// A mapping whose large sets are a word each: their values would take hundreds of megabytes as a document.
fn brief(mapping: &MappingObject) -> Value {
    let mut mapping = mapping.clone();
    for rule in &mut mapping.spec.rules {
        let of_headers = rule.headers.iter_mut().map(|header| &mut header.one_of);
        let of_path = rule.path.iter_mut().map(|path| &mut path.one_of);
        for set in of_headers.chain(of_path).filter(|set| set.len() > LARGE) {
            let mut hasher = DefaultHasher::new();
            set.iter().for_each(|word| word.hash(&mut hasher));
            *set = std::iter::once(format!("{} values #{:08x}", set.len(), hasher.finish() as u32)).collect();
        }
    }
    document(&mapping)
}

/// An object as its user wrote it: the fields of its `spec` stand at the top.
fn document(object: &impl Serialize) -> Value {
    let Ok(mut document) = serde_json::to_value(object) else { return Value::Null };
    if let Some(map) = document.as_object_mut()
        && let Some(Value::Object(spec)) = map.remove("spec")
    {
        for metadata in ["created", "uid", "generation"] {
            map.remove(metadata);
        }
        map.extend(spec);
    }
    document
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::read_all;

    const MAPPING: &str = "apiVersion: clovisor.io/v1alpha1\nkind: WanMapping\n\
        metadata: {name: crew, namespace: shop, generation: GEN}\n\
        spec: {targetRefs: [{group: networking.istio.io, kind: VirtualService, name: reviews}], links: LINKS}\n---\n";
    const LINK: &str =
        "apiVersion: clovisor.io/v1alpha1\nkind: WanLink\nmetadata: {name: s9}\nspec: {device: s9}\n---\n";

    fn mapping(generation: &str, links: &str) -> String {
        MAPPING.replace("GEN", generation).replace("LINKS", links)
    }

    fn between(before: &str, after: &str) -> Vec<(String, String, Option<i64>, String)> {
        let (before, after) = (read_all("f", before), read_all("f", after));
        assert_eq!((&before.problems, &after.problems), (&Vec::new(), &Vec::new()));
        let found = changes(&before, &after);
        found.into_iter().map(|c| (c.to_string(), c.object.clone(), c.generation, c.changes)).collect()
    }

    #[test]
    fn a_change_names_the_object_its_generation_and_the_fields() {
        let found = between(&mapping("3", "[s9, s8]"), &mapping("4", "[s8]"));
        let wanted = ("mapping changed".into(), "shop/crew".into(), Some(4), "links: s9,s8 -> s8".into());
        assert_eq!(found, [wanted]);
    }

    #[test]
    fn a_large_set_is_told_by_its_size_and_whether_it_is_another() {
        let set = |from: usize, to: usize| {
            let users: Vec<_> = (from..to).map(|n| format!("u{n}")).collect();
            let rules = format!(
                "[s8], rules: [{{name: crew, links: [s9], headers: [{{name: user, in: [{}]}}]}}]",
                users.join(", ")
            );
            mapping("1", &rules)
        };
        let told = |after: &str| between(&set(0, 1000), after).pop().unwrap_or_default().3;
        let text = told(&set(0, 1001));
        assert!(
            text.starts_with("rules[crew].headers[user].in: 1000 values #") && text.contains("1001 values"),
            "{text}"
        );
        let (before, after) = {
            let text = told(&set(1, 1001));
            let (before, after) = text.split_once(" -> ").unwrap_or_default();
            (
                before.rsplit_once('#').unwrap_or_default().1.to_owned(),
                after.rsplit_once('#').unwrap_or_default().1.to_owned(),
            )
        };
        assert!(!before.is_empty() && before != after, "as many others: {before} {after}");
    }

    #[test]
    fn objects_come_and_go_and_those_that_stay_are_not_named() {
        let (one, both) = (mapping("1", "[s8]"), mapping("1", "[s8]") + LINK);
        assert_eq!(between(&one, &both), [("link added".into(), "s9".into(), None, String::new())]);
        assert_eq!(between(&both, &one), [("link removed".into(), "s9".into(), None, String::new())]);
        assert_eq!(between(&both, &both), []);
    }
}
