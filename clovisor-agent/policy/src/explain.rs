//! How one request is decided, step by step, for people.

use super::decide::{DecisionReason, decide};
use super::matcher::{Request, RouteMatch};
use super::model::{Destination, Mapping, NamespacePolicy, Policy, Route, RouteDecision, Service};
use super::trace::{Trace, TraceStep};
use clovisor_objects::family::IpFamily;
use clovisor_objects::identity::ObjectKey;
use std::collections::{BTreeMap, BTreeSet};

/// Traces a request of a pod of `namespace` with these labels.
#[must_use]
pub fn explain(
    policy: &Policy,
    pod: &ObjectKey,
    labels: &BTreeMap<String, String>,
    request: &Request<'_>,
) -> Trace {
    let mut trace = Trace::default();
    let Some(namespace) = policy.namespaces.get(&pod.namespace) else {
        trace.reason = format!("namespace {} has no pod and no WanMapping here", pod.namespace);
        return trace;
    };
    let Some(service) = service(namespace, request.authority) else {
        trace.reason = format!(
            "no service with an HTTP port has the host {} (of a ServiceEntry; with sidecars of a Service too); the request \
             passes by the default route",
            request.authority
        );
        return trace;
    };
    trace.service = Some(format!("{}:{}", service.host, service.port));
    if let Some(closed) = &service.closed {
        trace.reason = format!("the proxy answers 503: {closed}");
        return trace;
    }
    let routes = service.routes_of(labels);
    let taken = routes.iter().find(|route| {
        let (taken, reason) = evaluate(route, request, labels);
        let name = route.name.clone().unwrap_or_else(|| "(unnamed)".into());
        trace.routes.push(step(&name, taken, reason));
        taken
    });
    match taken {
        None => trace.reason = "no route matches; the proxy answers 404".into(),
        Some(route) => {
            trace.families = families(namespace, &route.destination);
            trace_decision(&mut trace, namespace, route, request);
        }
    }
    trace
}

/// The service that `Host` names; without a port: the one on 80, else the first.
fn service<'a>(namespace: &'a NamespacePolicy, authority: &str) -> Option<&'a Service> {
    let split = authority.rsplit_once(':').filter(|(name, _)| name.ends_with(']') || !name.contains(':'));
    let (name, port) = match split.and_then(|(name, port)| Some((name, port.parse::<u16>().ok()?))) {
        Some((name, port)) => (name, Some(port)),
        None => (authority, None),
    };
    let is_named = |s: &&Service| {
        let address = name.trim_start_matches('[').trim_end_matches(']').parse().ok();
        s.host.eq_ignore_ascii_case(name)
            || s.aliases.iter().any(|alias| alias.eq_ignore_ascii_case(name))
            || address.is_some_and(|a| s.addresses.contains(&a))
    };
    let named: Vec<_> = namespace.services.iter().filter(is_named).collect();
    match port {
        Some(port) => named.into_iter().find(|s| s.port == port),
        None => named.iter().find(|s| s.port == 80).or(named.first()).copied(),
    }
}

/// The address families of a destination's endpoints.
fn families(namespace: &NamespacePolicy, destination: &Destination) -> BTreeSet<IpFamily> {
    let is_it = |s: &&Service| s.host == destination.host && s.port == destination.port;
    let service = namespace.services.iter().find(is_it);
    service.into_iter().flat_map(|s| &s.endpoints).map(|endpoint| IpFamily::of(endpoint.ip())).collect()
}

fn evaluate(route: &Route, request: &Request<'_>, labels: &BTreeMap<String, String>) -> (bool, String) {
    if route.matches.is_empty() {
        return (true, "matches every request".into());
    }
    let failures: Vec<_> = route.matches.iter().map(|m| RouteMatch::failure(m, request, labels)).collect();
    match failures.iter().position(Option::is_none) {
        Some(i) => (true, format!("match[{i}] holds")),
        None => (false, failures.into_iter().flatten().collect::<Vec<_>>().join("; ")),
    }
}

fn trace_decision(trace: &mut Trace, namespace: &NamespacePolicy, route: &Route, request: &Request<'_>) {
    match &route.decision {
        RouteDecision::Unmapped => trace.reason = "no WanMapping targets this route".into(),
        RouteDecision::Class { mapping, class } => {
            trace.mapping = Some(mapping.clone());
            trace.class = Some(*class);
            trace.reason = format!("WanMapping {mapping} targets this route");
        }
        RouteDecision::Callout { mapping, .. } => {
            trace.mapping = Some(mapping.clone());
            if let Some(mapping) = namespace.mappings.get(mapping) {
                trace_rules(trace, mapping, request);
            }
        }
    }
}

/// The answer that the agent gives the proxy.
fn trace_rules(trace: &mut Trace, mapping: &Mapping, request: &Request<'_>) {
    let decision = decide(mapping, request);
    let passed = decision.passed_over.into_iter();
    let mut steps: Vec<_> = passed.map(|passed| step(passed.rule, false, passed.reason)).collect();
    trace.class = decision.class;
    trace.reason = match decision.reason {
        DecisionReason::Rule(rule) => {
            steps.push(step(rule, true, "all its conditions hold".to_owned()));
            format!("rule {rule} of WanMapping {}", mapping.name)
        }
        DecisionReason::Undecidable { rule, header } => {
            let reason = format!("header {header} is repeated or not text");
            steps.push(step(rule, false, reason.clone()));
            format!("{reason}: no rule decides, the mapping's own links apply")
        }
        DecisionReason::NoRuleMatches => match mapping.class {
            Some(_) => format!("no rule of WanMapping {} matches: its own links apply", mapping.name),
            None => format!("no rule of WanMapping {} matches, and it has no links of its own", mapping.name),
        },
    };
    trace.rules = steps;
}

fn step(name: &str, taken: bool, reason: String) -> TraceStep {
    TraceStep { name: name.to_owned(), taken, reason }
}

#[cfg(test)]
mod tests;
