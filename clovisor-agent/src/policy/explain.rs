//! How one request is decided, step by step, for people.

use super::class::ClassId;
use super::matcher::{Request, RouteMatch};
use super::model::{Mapping, NamespacePolicy, Policy, Route, RouteDecision, Service};
use super::rule::Verdict;
use crate::cluster::identity::ObjectKey;
use std::collections::BTreeMap;

/// The way of one request through the policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// `HOST:PORT`; none: no service has this name.
    pub service: Option<String>,
    /// Routes in order, up to the one taken.
    pub routes: Vec<Step>,
    /// Rules in order, up to the one that holds, where the route asks the agent.
    pub rules: Vec<Step>,
    pub mapping: Option<String>,
    pub class: Option<ClassId>,
    /// Why this class, or why none, as one sentence.
    pub reason: String,
}

/// A route or a rule that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub name: String,
    pub taken: bool,
    pub reason: String,
}

/// Traces a request of a pod of `namespace` with these labels.
#[must_use]
pub fn explain(
    policy: &Policy,
    pod: &ObjectKey,
    labels: &BTreeMap<String, String>,
    request: &Request<'_>,
) -> Trace {
    let mut trace = Trace::default();
    let Some(own) = policy.namespaces.get(&pod.namespace) else {
        trace.reason = format!("namespace {} has no pod and no WanMapping here", pod.namespace);
        return trace;
    };
    let Some(service) = service(own, request.authority) else {
        trace.reason = format!(
            "no ServiceEntry with an HTTP port has the host {}; the request passes by the default route",
            request.authority
        );
        return trace;
    };
    trace.service = Some(format!("{}:{}", service.host, service.port));
    let taken = service.routes.iter().find(|route| {
        let (taken, reason) = judge(route, request, labels);
        let name = route.name.clone().unwrap_or_else(|| "(unnamed)".into());
        trace.routes.push(Step { name, taken, reason });
        taken
    });
    match taken {
        None => trace.reason = "no route matches; the proxy answers 404".into(),
        Some(route) => decided(&mut trace, own, route, request),
    }
    trace
}

/// The service that `Host` names; without a port: the one on 80, else the first.
fn service<'a>(own: &'a NamespacePolicy, authority: &str) -> Option<&'a Service> {
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
    let named: Vec<_> = own.services.iter().filter(is_named).collect();
    match port {
        Some(port) => named.into_iter().find(|s| s.port == port),
        None => named.iter().find(|s| s.port == 80).or(named.first()).copied(),
    }
}

fn judge(route: &Route, request: &Request<'_>, labels: &BTreeMap<String, String>) -> (bool, String) {
    if route.matches.is_empty() {
        return (true, "matches every request".into());
    }
    let failures: Vec<_> = route.matches.iter().map(|m| RouteMatch::failure(m, request, labels)).collect();
    match failures.iter().position(Option::is_none) {
        Some(i) => (true, format!("match[{i}] holds")),
        None => (false, failures.into_iter().flatten().collect::<Vec<_>>().join("; ")),
    }
}

fn decided(trace: &mut Trace, own: &NamespacePolicy, route: &Route, request: &Request<'_>) {
    match &route.decision {
        RouteDecision::Unmapped => trace.reason = "no WanMapping targets this route".into(),
        RouteDecision::Class { mapping, class } => {
            trace.mapping = Some(mapping.clone());
            trace.class = Some(*class);
            trace.reason = format!("WanMapping {mapping} targets this route");
        }
        RouteDecision::Callout { mapping, .. } => {
            trace.mapping = Some(mapping.clone());
            if let Some(mapping) = own.mappings.get(mapping) {
                asked(trace, mapping, request);
            }
        }
    }
}

fn asked(trace: &mut Trace, mapping: &Mapping, request: &Request<'_>) {
    for rule in &mapping.rules {
        let (taken, reason) = match rule.judge(request) {
            Verdict::Matches => (true, "all its conditions hold".to_owned()),
            Verdict::Fails(reason) => (false, reason),
            Verdict::Undecidable(header) => {
                let reason = format!("header {header} comes more than once or is no text");
                trace.rules.push(Step { name: rule.name.clone(), taken: false, reason: reason.clone() });
                trace.class = mapping.class;
                trace.reason = format!("{reason}: not decided on, the mapping's own links hold");
                return;
            }
        };
        trace.rules.push(Step { name: rule.name.clone(), taken, reason });
        if taken {
            trace.class = Some(rule.class);
            trace.reason = format!("rule {} of WanMapping {}", rule.name, mapping.name);
            return;
        }
    }
    trace.class = mapping.class;
    trace.reason = match mapping.class {
        Some(_) => format!("no rule of WanMapping {} matches: its own links hold", mapping.name),
        None => format!("no rule of WanMapping {} matches, and it has no links of its own", mapping.name),
    };
}
