//! Two documents, field by field.

use serde_json::Value;

/// Fields that are named, and values of a list that are.
const FIELDS: usize = 8;
const VALUES: usize = 8;
/// Characters of a value.
const LONGEST: usize = 60;

/// `links: s9,s8 -> s8; rules[crew].path.prefix: none -> /orders`
pub(super) fn differences(before: &Value, after: &Value) -> String {
    let mut found = Vec::new();
    compare("", before, after, &mut found);
    let more = found.len().saturating_sub(FIELDS);
    found.truncate(FIELDS);
    let mut text = found.join("; ");
    if more > 0 {
        text += &format!("; and {more} more");
    }
    text
}

fn compare(path: &str, before: &Value, after: &Value, found: &mut Vec<String>) {
    if before == after {
        return;
    }
    match (before, after) {
        (Value::Object(old), Value::Object(new)) => {
            let names = old.keys().chain(new.keys().filter(|name| !old.contains_key(*name)));
            for name in names {
                let value = |map: &serde_json::Map<String, Value>| map.get(name).cloned().unwrap_or_default();
                let dot = if path.is_empty() { "" } else { "." };
                compare(&format!("{path}{dot}{name}"), &value(old), &value(new), found);
            }
        }
        (Value::Array(old), Value::Array(new)) => lists(path, old, new, found),
        _ => found.push(format!("{path}: {} -> {}", shown(before), shown(after))),
    }
}

fn lists(path: &str, old: &[Value], new: &[Value], found: &mut Vec<String>) {
    let is_plain = |list: &[Value]| list.iter().all(|value| !value.is_object() && !value.is_array());
    if is_plain(old) && is_plain(new) {
        return found.push(format!("{path}: {}", plain(old, new)));
    }
    if let (Some(before), Some(after)) = (names(old), names(new)) {
        if before != after {
            found.push(format!("{path}: {}", plain(&before, &after)));
        }
        for (name, value) in before.iter().zip(old) {
            if let Some(now) = after.iter().position(|other| other == name).and_then(|at| new.get(at)) {
                compare(&format!("{path}[{}]", shown(name)), value, now, found);
            }
        }
    } else if old.len() == new.len() {
        for (i, (old, new)) in old.iter().zip(new).enumerate() {
            compare(&format!("{path}[{i}]"), old, new, found);
        }
    } else {
        found.push(format!("{path}: {} -> {} entries", old.len(), new.len()));
    }
}

/// The names of the entries, if each has one.
fn names(list: &[Value]) -> Option<Vec<Value>> {
    list.iter().map(|entry| entry.get("name").filter(|name| name.is_string()).cloned()).collect()
}

/// Lists of plain values: long ones (thousands of users) by their length.
fn plain(old: &[Value], new: &[Value]) -> String {
    if old.len().max(new.len()) > VALUES {
        return format!("{} -> {} values", old.len(), new.len());
    }
    let text = |list: &[Value]| match list {
        [] => "none".to_owned(),
        list => list.iter().map(shown).collect::<Vec<_>>().join(","),
    };
    format!("{} -> {}", text(old), text(new))
}

fn shown(value: &Value) -> String {
    let text = match value {
        Value::Null => "none".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(list) if list.len() > VALUES => format!("{} values", list.len()),
        other => other.to_string(),
    };
    if text.chars().count() <= LONGEST {
        return text;
    }
    format!("{}…", text.chars().take(LONGEST).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fields_are_named_with_both_values() {
        let many = |n: usize| (0..n).map(|i| format!("u{i}")).collect::<Vec<_>>();
        for (before, after, text) in [
            (json!({ "links": ["s9", "s8"] }), json!({ "links": ["s8"] }), "links: s9,s8 -> s8"),
            (json!({ "links": [] }), json!({ "links": ["s8"] }), "links: none -> s8"),
            (json!({ "dscp": null }), json!({ "dscp": 46 }), "dscp: none -> 46"),
            (
                json!({ "gateway": { "ipv4": "10.9.0.1" } }),
                json!({ "gateway": {} }),
                "gateway.ipv4: 10.9.0.1 -> none",
            ),
            (json!({ "in": many(10_000) }), json!({ "in": many(10_001) }), "in: 10000 -> 10001 values"),
            (
                json!({ "rules": [{ "name": "a", "x": 1 }, { "name": "b", "x": 1 }] }),
                json!({ "rules": [{ "name": "b", "x": 2 }] }),
                "rules: a,b -> b; rules[b].x: 1 -> 2",
            ),
            (
                json!({ "peers": [{ "port": 1 }] }),
                json!({ "peers": [{ "port": 2 }] }),
                "peers[0].port: 1 -> 2",
            ),
            (json!({ "peers": [{ "port": 1 }] }), json!({ "peers": [] }), "peers: 1 -> 0 entries"),
            (json!({ "a": 1 }), json!({ "a": 1 }), ""),
        ] {
            assert_eq!(differences(&before, &after), text);
        }
    }

    #[test]
    fn a_line_has_a_bound() {
        let document = |value: &str| {
            let fields = (0..100).map(|i| (format!("field{i}"), json!(value.repeat(1000))));
            Value::Object(fields.collect())
        };
        let text = differences(&document("a"), &document("b"));
        assert!(text.len() < 1200 && text.ends_with("; and 92 more"), "{text}");
    }
}
