//! Virtual hosts and their routes, in the order of the user's list.

use super::matching::{self, Applies};
use super::names::{
    CALLOUT_FILTER, CLASS_HEADER, DEFAULT_ANSWER, MAPPING_KEY, NAMESPACE_KEY, PASSTHROUGH, cluster, seconds,
};
use super::resources::with_list;
use super::scope::Scope;
use clovisor_objects::problem::Problem;
use clovisor_objects::wan_mapping::Fallback;
use clovisor_policy::class::ClassId;
use clovisor_policy::model::{Retries, Route, RouteDecision, Service};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// The route configuration of a port, as JSON.
pub(crate) fn configuration(scope: &Scope<'_>, services: &[&Service]) -> (String, Vec<Problem>) {
    let mut problems = Vec::new();
    let mut taken = BTreeSet::new();
    let mut hosts = Vec::new();
    for service in services {
        let domains: Vec<String> =
            domains(service).into_iter().filter(|d| taken.insert(d.to_ascii_lowercase())).collect();
        let routes = routes(scope, service, &mut problems);
        if !domains.is_empty() {
            let name = format!("{}:{}", service.host, service.port);
            hosts.push(json!({ "name": name, "domains": domains, "routes": routes }).to_string());
        }
    }
    if taken.insert("*".to_owned()) {
        let route = json!({
            "name": "allow_any", "match": { "prefix": "/" },
            "route": { "cluster": PASSTHROUGH, "timeout": "0s" },
        });
        hosts.push(json!({ "name": "allow_any", "domains": ["*"], "routes": [route] }).to_string());
    }
    let head = json!({
        "@type": "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
        "name": scope.name(),
        // The class is between Envoy and this node; the far end must not see it.
        "request_headers_to_remove": [CLASS_HEADER],
    });
    (with_list(&head, "virtual_hosts", &hosts), problems)
}

/// What clients may write in `Host`: every name and address, with and without the port.
fn domains(service: &Service) -> Vec<String> {
    let addresses = service.addresses.iter().map(|address| match address {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("[{v6}]"),
    });
    let names = std::iter::once(service.host.clone()).chain(service.aliases.iter().cloned());
    let mut domains = Vec::new();
    for name in names.chain(addresses) {
        if name != "*" {
            domains.push(format!("{name}:{}", service.port));
        }
        domains.push(name);
    }
    domains
}

fn routes(scope: &Scope<'_>, service: &Service, problems: &mut Vec<Problem>) -> Vec<Value> {
    let every = json!({ "prefix": "/" });
    if let Some(closed) = &service.closed {
        return vec![unavailable("closed", &every, &format!("clovisor: {closed}\n"))];
    }
    let (mut all, mut is_for_every_pod) = (Vec::new(), false);
    for route in &service.routes {
        if route.matches.is_empty() {
            is_for_every_pod = true;
            all.extend(decided(scope, route, &every));
        }
        for block in &route.matches {
            let condition = matching::condition(block);
            match matching::applies(block, &scope.pods) {
                Applies::All => {
                    is_for_every_pod = true;
                    all.extend(decided(scope, route, &condition));
                }
                Applies::None => {}
                Applies::Some => {
                    all.push(forward(route, &condition, None));
                    problems.push(matching::separate_pods(scope.namespace, service, route));
                }
            }
        }
    }
    // Pods for which no route holds keep the service's own, as in Istio.
    if !is_for_every_pod {
        all.push(forward(&service.default_route(), &every, None));
    }
    all
}

/// The Envoy routes of one match of one route.
fn decided(scope: &Scope<'_>, route: &Route, condition: &Value) -> Vec<Value> {
    match &route.decision {
        RouteDecision::Unmapped => vec![forward(route, condition, None)],
        RouteDecision::Class { class, .. } => {
            vec![forward(route, condition, Some(*class))]
        }
        RouteDecision::Callout { mapping, classes, fallback, on_agent_loss } => {
            let answers: BTreeSet<ClassId> = classes.iter().chain(fallback).copied().collect();
            let mut all: Vec<Value> = answers
                .into_iter()
                .map(|class| {
                    let answered = answered(condition, &class.0.to_string());
                    forward(route, &answered, Some(class))
                })
                .collect();
            all.push(forward(route, &answered(condition, DEFAULT_ANSWER), None));
            let mut undecided = match on_agent_loss {
                Fallback::Default => forward(route, condition, *fallback),
                Fallback::Refuse => {
                    // An answer that these routes do not know yet, or no longer, is still an answer.
                    let other = with_answer(condition, &json!({ "present_match": true }));
                    all.push(forward(route, &other, *fallback));
                    refuse(scope.namespace, mapping, route, condition)
                }
            };
            undecided["typed_per_filter_config"] = ask(CALLOUT_FILTER, scope.namespace, mapping);
            all.push(undecided);
            all
        }
    }
}

/// The same condition, once the agent has answered this.
fn answered(condition: &Value, answer: &str) -> Value {
    with_answer(condition, &json!({ "string_match": { "exact": answer } }))
}

fn with_answer(condition: &Value, answer: &Value) -> Value {
    let mut condition = condition.clone();
    let headers = condition.get("headers").and_then(Value::as_array);
    let mut headers = headers.cloned().unwrap_or_default();
    let mut answer = answer.clone();
    answer["name"] = json!(CLASS_HEADER);
    headers.push(answer);
    condition["headers"] = Value::Array(headers);
    condition
}

fn forward(route: &Route, condition: &Value, class: Option<ClassId>) -> Value {
    let mut action = json!({
        "cluster": cluster(&route.destination.host, route.destination.port, class),
        "timeout": seconds(route.timeout.unwrap_or_default()),
    });
    if let Some(retries) = route.retries.as_ref().filter(|r| r.attempts > 0) {
        action["retry_policy"] = retry_policy(retries);
    }
    json!({ "name": name(route), "match": condition, "route": action })
}

fn refuse(namespace: &str, mapping: &str, route: &Route, condition: &Value) -> Value {
    let body = format!(
        "clovisor: no decision of the node's agent, and WanMapping {namespace}/{mapping} refuses such requests; \
         see that the agent of this node runs\n"
    );
    unavailable(name(route), condition, &body)
}

fn unavailable(name: &str, condition: &Value, body: &str) -> Value {
    json!({
        "name": name, "match": condition,
        "direct_response": { "status": 503, "body": { "inline_string": body } },
    })
}

/// Enables the callout, with the namespace and mapping of the route.
pub(crate) fn ask(filter: &str, namespace: &str, mapping: &str) -> Value {
    json!({ filter: {
        "@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig",
        "config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.ext_proc.v3.ExtProcPerRoute",
            "overrides": { "grpc_initial_metadata": [
                { "key": NAMESPACE_KEY, "value": namespace },
                { "key": MAPPING_KEY, "value": mapping },
            ] },
        },
    } })
}

fn name(route: &Route) -> &str {
    route.name.as_deref().unwrap_or("default")
}

/// Status codes in the list become Envoy's own list of codes, as Istio does it.
fn retry_policy(retries: &Retries) -> Value {
    let words = retries.retry_on.split(',').map(str::trim).filter(|w| !w.is_empty());
    let (codes, mut conditions): (Vec<&str>, Vec<&str>) = words.partition(|word| word.parse::<u16>().is_ok());
    let codes: Vec<u16> = codes.iter().filter_map(|code| code.parse().ok()).collect();
    if !codes.is_empty() && !conditions.contains(&"retriable-status-codes") {
        conditions.push("retriable-status-codes");
    }
    let mut policy = json!({
        "retry_on": conditions.join(","), "num_retries": retries.attempts,
        "host_selection_retry_max_attempts": "5",
        "retry_host_predicate": [{ "name": "envoy.retry_host_predicates.previous_hosts", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate",
        } }],
    });
    if !codes.is_empty() {
        policy["retriable_status_codes"] = json!(codes);
    }
    if let Some(limit) = retries.per_try_timeout {
        policy["per_try_timeout"] = json!(seconds(limit));
    }
    policy
}
