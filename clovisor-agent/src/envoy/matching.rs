//! One match block of a route as Envoy says it.

use super::super::policy::matcher::RouteMatch;
use crate::cluster::snapshot::Problem;
use crate::policy::model::{Route, Service};
use crate::policy::rule::Rule;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Which pods of the namespace a match block is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Applies {
    ToAll,
    ToNone,
    ToSome,
}

pub(crate) fn applies(_block: &RouteMatch, _pods: &[&BTreeMap<String, String>]) -> Applies {
    Applies::ToAll
}

pub(crate) fn condition(_block: &RouteMatch) -> Value {
    json!({ "prefix": "/" })
}

pub(crate) fn headers_of_rule(_rule: &Rule) -> Vec<String> {
    Vec::new()
}

/// The files are per namespace: a match that holds for some of its pods only cannot be said in them.
pub(crate) fn separate_pods(namespace: &str, service: &Service, route: &Route) -> Problem {
    let (kind, object) = match &route.origin {
        Some(origin) => ("VirtualService", origin.to_string()),
        None => ("Service", format!("{namespace}/{}", service.host)),
    };
    let name = route.name.as_deref().unwrap_or("default");
    Problem {
        reason: "ClassNotSeparable",
        kind: kind.into(),
        object,
        field: format!("spec.http[name={name}].match.sourceLabels"),
        message: "some pods of the namespace have these labels and others do not, and they share one Envoy \
                  configuration: requests of this match go by the default route; give the pods a namespace each"
            .into(),
    }
}
