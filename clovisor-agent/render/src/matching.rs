//! One match block of a route as Envoy configuration, equivalent to `policy::matcher`.

use clovisor_objects::identity::{ObjectKey, ObjectKind};
use clovisor_objects::problem::{Problem, Subject};
use clovisor_objects::reason::ProblemReason;
use clovisor_objects::refusal::Refusal;
use clovisor_policy::matcher::{RouteMatch, StringMatch};
use clovisor_policy::model::{Route, Service};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Which pods of the namespace a match block is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Applies {
    All,
    None,
    Some,
}

/// Whether the block's source labels are on all, some or none of these pods.
pub(crate) fn applies(block: &RouteMatch, pods: &[&BTreeMap<String, String>]) -> Applies {
    let wanted = &block.source_labels;
    let has = |labels: &BTreeMap<String, String>| wanted.iter().all(|(k, v)| labels.get(k) == Some(v));
    match pods.iter().filter(|labels| has(labels)).count() {
        _ if wanted.is_empty() => Applies::All,
        0 => Applies::None,
        matching if matching == pods.len() => Applies::All,
        _ => Applies::Some,
    }
}

/// The block's conditions on the request.
pub(crate) fn condition(block: &RouteMatch) -> Value {
    let mut condition = path(block.uri.as_ref(), block.ignore_uri_case);
    let pseudo = [(":method", &block.method), (":authority", &block.authority), (":scheme", &block.scheme)];
    let pseudo = pseudo.into_iter().filter_map(|(name, value)| Some(header(name, value.as_ref()?)));
    let headers = block.headers.iter().map(|(name, value)| header(name, value));
    let without = block.without_headers.iter().map(|(name, value)| no_header(name, value));
    let headers: Vec<Value> = pseudo.chain(headers).chain(without).collect();
    if !headers.is_empty() {
        condition["headers"] = json!(headers);
    }
    let query = block.query_params.iter().map(|(name, value)| match text(value) {
        Some(value) => json!({ "name": name, "string_match": value }),
        None => json!({ "name": name, "present_match": true }),
    });
    let query: Vec<Value> = query.collect();
    if !query.is_empty() {
        condition["query_parameters"] = json!(query);
    }
    condition
}

/// Path without the query; Envoy's path matchers leave the query out themselves.
fn path(uri: Option<&StringMatch>, ignore_case: bool) -> Value {
    let mut path = match uri {
        None | Some(StringMatch::Present) => return json!({ "prefix": "/" }),
        Some(StringMatch::Exact(path)) => json!({ "path": path }),
        Some(StringMatch::Prefix(prefix)) => json!({ "prefix": prefix }),
        Some(StringMatch::Segments(path)) => return json!({ "path_separated_prefix": path }),
        // As in Istio, case counts in a regex whatever the flag says; and Envoy refuses both together.
        Some(StringMatch::Regex(pattern)) => return json!({ "safe_regex": { "regex": pattern.source() } }),
    };
    if ignore_case {
        path["case_sensitive"] = json!(false);
    }
    path
}

/// Envoy's matcher of a text; none: it must only be there.
fn text(value: &StringMatch) -> Option<Value> {
    match value {
        StringMatch::Exact(exact) => Some(json!({ "exact": exact })),
        // Envoy knows no empty prefix; every value has it.
        StringMatch::Prefix(prefix) if prefix.is_empty() => None,
        // Only paths have segments.
        StringMatch::Prefix(prefix) | StringMatch::Segments(prefix) => Some(json!({ "prefix": prefix })),
        StringMatch::Regex(pattern) => Some(json!({ "safe_regex": { "regex": pattern.source() } })),
        StringMatch::Present => None,
    }
}

fn header(name: &str, value: &StringMatch) -> Value {
    match text(value) {
        Some(value) => json!({ "name": name, "string_match": value }),
        None => json!({ "name": name, "present_match": true }),
    }
}

/// A header that must not be like this; an absent one counts as empty, as in Istio.
fn no_header(name: &str, value: &StringMatch) -> Value {
    let mut matcher = header(name, value);
    matcher["invert_match"] = json!(true);
    if text(value).is_some() {
        matcher["treat_missing_header_as_empty"] = json!(true);
    }
    matcher
}

/// The files are per namespace: a match for some of its pods only cannot be expressed.
pub(crate) fn separate_pods(namespace: &str, service: &Service, route: &Route) -> Problem {
    let subject = match &route.origin {
        Some(origin) => origin.subject(),
        None => {
            let key = ObjectKey { namespace: namespace.to_owned(), name: service.host.clone() };
            Subject::object(ObjectKind::Service, &key)
        }
    };
    let name = route.name.as_deref().unwrap_or("default");
    let field = format!("spec.http[name={name}].match.sourceLabels");
    let message = "some pods of the namespace have these labels and others do not, and they share one Envoy \
                   configuration: requests of this match go by the default route; give the pods a namespace each";
    Problem::new(subject, Refusal::new(ProblemReason::ClassNotSeparable, field, message))
}
