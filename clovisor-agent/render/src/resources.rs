//! A discovery response as text, a resource a line: the configuration of a large mesh is in memory as text only.

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::Path;

/// The text of a file with these resources, each a JSON text.
pub fn response(resources: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    let mut text = String::from("{\"resources\":[");
    for (count, resource) in resources.into_iter().enumerate() {
        text.push_str(if count == 0 { "\n" } else { ",\n" });
        text.push_str(resource.as_ref());
    }
    text.push_str("\n]}\n");
    text
}

/// The text of an object with a further field, a list of JSON texts.
pub(crate) fn with_list(object: &Value, field: &str, items: &[String]) -> String {
    let object = object.to_string();
    let fields = object.strip_suffix('}').unwrap_or("{");
    let comma = if fields.len() > 1 { "," } else { "" };
    format!("{fields}{comma}{}:[{}]}}", Value::from(field), items.join(","))
}

/// The wanted resources, and after them the old ones whose names are not among them; an old text that is no
/// discovery response has none.
#[must_use]
pub fn union(old: &str, wanted: &str) -> String {
    let (old, new) = (named(old), named(wanted));
    let names: BTreeSet<&str> = new.iter().map(|(name, _)| name.as_ref()).collect();
    let mut kept = old.iter().filter(|(name, _)| !names.contains(name.as_ref())).peekable();
    if kept.peek().is_none() {
        return wanted.to_owned();
    }
    response(new.iter().chain(kept).map(|(_, text)| text))
}

/// A config source: one file of the folder, read again when something is moved into the folder.
pub(crate) fn watched_file(folder: &Path, file: &str) -> Value {
    json!({
        "resource_api_version": "V3",
        "path_config_source": {
            "path": folder.join(file),
            "watched_directory": { "path": folder },
        },
    })
}

/// The names and texts of the resources of a file.
fn named(text: &str) -> Vec<(Cow<'_, str>, &str)> {
    #[derive(Deserialize)]
    struct Response<'a> {
        #[serde(borrow)]
        resources: Vec<&'a RawValue>,
    }
    #[derive(Deserialize)]
    struct Resource<'a> {
        #[serde(borrow)]
        name: Cow<'a, str>,
    }
    let Ok(Response { resources }) = serde_json::from_str(text) else {
        return Vec::new();
    };
    let mut all = Vec::new();
    for resource in resources {
        if let Ok(Resource { name }) = serde_json::from_str(resource.get()) {
            all.push((name, resource.get()));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_added_to_any_object() {
        for (object, want) in [
            (json!({}), r#"{"l":["a",2]}"#),
            (json!({ "a": { "b": {} } }), r#"{"a":{"b":{}},"l":["a",2]}"#),
            (json!({ "a": 1, "b": "}" }), r#"{"a":1,"b":"}","l":["a",2]}"#),
        ] {
            assert_eq!(with_list(&object, "l", &["\"a\"".into(), "2".into()]), want);
        }
    }

    #[test]
    fn old_resources_stay_behind_the_wanted_ones() {
        let text = |names: &[&str]| response(names.iter().map(|name| json!({ "name": name }).to_string()));
        let (old, wanted) = (text(&["a", "b"]), text(&["c", "a"]));
        assert_eq!(union(&old, &wanted), text(&["c", "a", "b"]));
        assert_eq!(union(&wanted, &wanted), wanted);
        assert_eq!(union("{", &wanted), wanted);
        let pretty = "{ \"resources\": [ {\n \"name\": \"b\" } ] }";
        let both: Value = serde_json::from_str(&union(pretty, &wanted)).unwrap_or_default();
        assert_eq!(both["resources"][2]["name"], "b");
        assert!(serde_json::from_str::<Value>(&response([""; 0])).is_ok());
    }
}
