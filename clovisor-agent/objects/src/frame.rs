//! What the API server checks of an object besides its `spec`, for objects that it has not seen: names, and the fields around
//! the `spec` of Clovisor's own kinds.

use super::identity::{Identity, ObjectKind};
use super::near::remedy;
use super::node::{Content, Node};
use super::reason::ProblemReason;
use super::refusal::{FieldPath, Refusal};

const FIELDS: [&str; 5] = ["apiVersion", "kind", "metadata", "spec", "status"];
const METADATA: [&str; 15] = [
    "annotations",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "labels",
    "managedFields",
    "name",
    "namespace",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];
/// Characters of a name, and of a namespace.
const NAME: usize = 253;
const NAMESPACE: usize = 63;

/// The fields of one of Clovisor's own objects that do not exist, outside its `spec`; it is in force without them.
pub(super) fn unknown(kind: ObjectKind, object: &Node<'_>) -> Vec<Refusal> {
    if !matches!(kind, ObjectKind::WanLink | ObjectKind::WanMapping | ObjectKind::WanNode) {
        return Vec::new();
    }
    let mut found = besides(kind, object, &FIELDS, &FieldPath::default());
    let metadata = object.get("metadata");
    found
        .extend(metadata.into_iter().flat_map(|m| besides(kind, m, &METADATA, &FieldPath::from("metadata"))));
    found
}

/// Checks name and namespace.
///
/// # Errors
/// The first that is wrong.
pub(super) fn check(identity: &Identity) -> Result<(), Refusal> {
    let key = &identity.key;
    named("metadata.name", &key.name, NAME, true)?;
    if key.namespace.is_empty() {
        Ok(())
    } else {
        named("metadata.namespace", &key.namespace, NAMESPACE, false)
    }
}

fn besides(kind: ObjectKind, node: &Node<'_>, fields: &[&'static str], at: &FieldPath) -> Vec<Refusal> {
    let Content::Fields(found) = &node.content else { return Vec::new() };
    let names = found.iter().filter(|(_, value)| !value.is_null()).filter_map(|(name, _)| name.text());
    let refusal = |name: &str| {
        let message = if name.starts_with(char::is_whitespace) {
            format!("is no field of a {kind}: a no-break space stands before it; indent by plain spaces")
        } else {
            format!("is no field of a {kind}; {}", remedy(name, fields.iter().copied()))
        };
        Refusal::new(ProblemReason::NoEffect, FieldPath::from(name).under(at), message)
    };
    names.filter(|name| !fields.contains(name)).map(refusal).collect()
}

/// The name is one of RFC 1123, of several labels if `dots`: names become those of files and hosts.
fn named(field: &str, name: &str, most: usize, dots: bool) -> Result<(), Refusal> {
    let ends = |part: &str| !part.is_empty() && !part.starts_with('-') && !part.ends_with('-');
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let is_label = |part: &str| ends(part) && part.chars().all(plain);
    let is_name = if dots { name.split('.').all(is_label) } else { is_label(name) };
    if name.chars().count() > most {
        return Err(Refusal::invalid_object(field, format!("has more than {most} characters")));
    }
    if is_name {
        return Ok(());
    }
    let signs = if dots { "-, ." } else { "-" };
    let shown: String = name.chars().take(most).collect();
    let message = format!(
        "\"{}\" is no name: lower-case letters, digits and {signs} are taken, a letter or digit first and last",
        shown.escape_debug()
    );
    Err(Refusal::invalid_object(field, message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::ObjectKey;

    fn fields(kind: ObjectKind, text: &str) -> Vec<(String, String)> {
        let node = Node::parse(text).unwrap_or_else(|e| panic!("{e:?}"));
        unknown(kind, &node).into_iter().map(|r| (r.field.to_string(), r.message)).collect()
    }

    fn said(namespace: &str, name: &str) -> Option<(String, String)> {
        let key = ObjectKey { namespace: namespace.into(), name: name.into() };
        let checked = check(&Identity { kind: ObjectKind::Pod, key });
        checked.err().map(|refusal| (refusal.field.to_string(), refusal.message))
    }

    #[test]
    fn fields_around_the_spec_are_known_ones() {
        let known = "{apiVersion: a, kind: b, metadata: {name: c, labels: {}, managedFields: [], selfLink: x}, spec: {}, status: {}}";
        assert_eq!(fields(ObjectKind::WanLink, known), []);
        assert_eq!(fields(ObjectKind::WanLink, "{spce: null}"), []);
        for (text, field, words) in [
            ("{spce: {}}", "spce", "is no field of a WanLink; did you mean spec?"),
            ("{Spec: {}}", "Spec", "did you mean spec?"),
            ("{device: s9}", "device", "there is apiVersion, kind, metadata, spec, status"),
            ("{metadata: {lables: {}}}", "metadata.lables", "did you mean labels?"),
        ] {
            let found = fields(ObjectKind::WanLink, text);
            assert!(
                found.len() == 1 && found[0].0 == field && found[0].1.contains(words),
                "{text}: {found:?}"
            );
            assert_eq!(fields(ObjectKind::VirtualService, text), [], "not ours to judge");
        }
    }

    #[test]
    fn names_are_those_that_the_api_server_takes() {
        for name in ["a", "8", "s9", "store-17.eu", &"a".repeat(253)] {
            assert_eq!(said("shop", name), None, "{name}");
        }
        let long = "a".repeat(254);
        for name in ["S9", "a_b", "-a", "a-", "a..b", ".", "..", "../../etc", "a b", "ä", "a\nb", &long] {
            let (field, message) = said("shop", name).unwrap_or_default();
            assert_eq!(field, "metadata.name", "{name}");
            assert!(!message.contains('\n') && message.len() < 400, "{message}");
            assert!(said(name, "a").is_some(), "namespace {name}");
        }
        assert!(said("a.b", "a").is_some(), "a namespace has no dots");
    }
}
