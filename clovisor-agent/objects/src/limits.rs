//! What the schemas of Clovisor's own kinds allow, for objects that no API server has checked.

use super::identity::ObjectKind;
use super::node::{Content, Node};
use super::refusal::{FieldPath, Refusal};
use super::wan_link::WanLink;
use super::wan_mapping::WanMapping;
use kube::CustomResourceExt as _;
use serde_json::Value;
use std::sync::LazyLock;

/// Characters of an object's name.
const MAX_NAME: usize = 63;

static LINK: LazyLock<Value> = LazyLock::new(|| serde_json::to_value(WanLink::crd()).unwrap_or_default());
static MAPPING: LazyLock<Value> =
    LazyLock::new(|| serde_json::to_value(WanMapping::crd()).unwrap_or_default());

/// Checks numbers, lengths and counts of an object. A set of a rule (`in`) may be larger than the API server takes one.
///
/// # Errors
/// The first value that is outside.
pub fn check(kind: ObjectKind, object: &Node<'_>) -> Result<(), Refusal> {
    let crd: &Value = match kind {
        ObjectKind::WanLink => &LINK,
        ObjectKind::WanMapping => &MAPPING,
        _ => return Ok(()),
    };
    let name = object.find("metadata.name").and_then(Node::text).unwrap_or_default();
    if name.chars().count() > MAX_NAME {
        return refused(FieldPath::from("metadata.name"), format!("has more than {MAX_NAME} characters"));
    }
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    let spec = object.get("spec");
    spec.map_or(Ok(()), |spec| value(schema, spec, &FieldPath::from("spec")))
}

fn value(schema: &Value, node: &Node<'_>, at: &FieldPath) -> Result<(), Refusal> {
    match &node.content {
        Content::Whole(number) => {
            let limits = (schema["minimum"].as_f64(), schema["maximum"].as_f64());
            if let (Some(least), Some(most)) = limits
                && !(least..=most).contains(&(*number as f64))
            {
                return refused(at.clone(), format!("is {number}; {least} to {most} is needed"));
            }
            Ok(())
        }
        Content::Text(text) => count(
            text.chars().count(),
            [&schema["minLength"], &schema["maxLength"]],
            ["character", "characters"],
            at,
        ),
        Content::List(list) => {
            let most = if at.as_str().ends_with(".in") { &Value::Null } else { &schema["maxItems"] };
            count(list.len(), [&schema["minItems"], most], ["entry", "entries"], at)?;
            list.iter()
                .enumerate()
                .try_for_each(|(i, node)| value(&schema["items"], node, &at.clone().index(i)))
        }
        Content::Fields(fields) => {
            fields.iter().filter(|(_, node)| !node.is_null()).try_for_each(|(key, node)| {
                let name = key.text().unwrap_or_default();
                value(&schema["properties"][name], node, &at.clone().field(name))
            })
        }
        Content::Null | Content::Bool(_) | Content::Fraction(_) => Ok(()),
    }
}

fn count(count: usize, [least, most]: [&Value; 2], what: [&str; 2], at: &FieldPath) -> Result<(), Refusal> {
    let count = count as u64;
    if let Some(least) = least.as_u64().filter(|least| count < *least) {
        let verb = if least == 1 { "is" } else { "are" };
        return refused(at.clone(), format!("has {}; at least {least} {verb} needed", counted(count, what)));
    }
    match most.as_u64().filter(|most| count > *most) {
        Some(most) => refused(at.clone(), format!("has {}; at most {most} are taken", counted(count, what))),
        None => Ok(()),
    }
}

fn counted(count: u64, [one, many]: [&str; 2]) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

fn refused(field: FieldPath, message: String) -> Result<(), Refusal> {
    Err(Refusal::invalid_object(field, message))
}
