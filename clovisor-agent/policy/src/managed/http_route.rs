//! HTTPRoutes of a mesh to the routes of one service, in the order that the Gateway API gives to matches.

use super::route::{RouteScope, duration};
use crate::conditions::http_route::ranked;
use crate::hosts::qualify;
use crate::matcher::RouteMatch;
use crate::model::{Destination, Retries, Route, RouteDecision};
use crate::objects::NamedHttpRoute;
use crate::origin::RouteOrigin;
use clovisor_objects::gateway::RouteRule;
use clovisor_objects::identity::ObjectKey;
use clovisor_objects::refusal::{FieldPath, Refusal};

/// A route, with its HTTPRoute and the index of its rule.
pub(crate) type OfRule<'a> = (&'a ObjectKey, usize, Route);

/// The routes, each with its HTTPRoute and the index of its rule; `decision` says what a rule is mapped to. A refusal
/// names the HTTPRoute.
pub(crate) fn routes<'a>(
    sources: &[NamedHttpRoute<'a>],
    scope: &RouteScope<'_>,
    decision: impl Fn(&ObjectKey, usize) -> RouteDecision,
) -> Result<Vec<OfRule<'a>>, (&'a ObjectKey, Refusal)> {
    let mut routes = Vec::new();
    for (key, i, block) in ranked(sources)? {
        let at = FieldPath::from("spec.rules").index(i);
        let Some(rule) = sources.iter().find(|(k, _)| *k == key).and_then(|(_, s)| s.spec.rules.get(i))
        else {
            continue;
        };
        let route = route(key, rule, block, scope, decision(key, i));
        routes.push((key, i, route.map_err(|refusal| (key, refusal.under(&at)))?));
    }
    Ok(routes)
}

fn route(
    key: &ObjectKey,
    rule: &RouteRule,
    block: RouteMatch,
    scope: &RouteScope<'_>,
    decision: RouteDecision,
) -> Result<Route, Refusal> {
    if !rule.filters.is_empty() {
        return Err(Refusal::invalid_rule(
            "filters",
            "are not supported by managed proxies yet; remove them",
        ));
    }
    let timeout = rule.timeouts.as_ref().and_then(|t| t.request.as_deref());
    let timeout = timeout.map(|text| duration("timeouts.request", text)).transpose()?;
    Ok(Route {
        name: rule.name.clone(),
        origin: Some(RouteOrigin::HttpRoute(key.clone())),
        matches: vec![block],
        destination: destination(key, rule, scope)?,
        timeout: timeout.filter(|t| !t.is_zero()),
        retries: Some(Retries::istio()),
        decision,
    })
}

/// The one backend: several would need a class each.
fn destination(key: &ObjectKey, rule: &RouteRule, scope: &RouteScope<'_>) -> Result<Destination, Refusal> {
    let used: Vec<_> = rule.backend_refs.iter().filter(|b| b.weight != Some(0)).collect();
    let [only] = used.as_slice() else {
        let message = format!("has {} backends in use; give the rule one", used.len());
        return Err(Refusal::invalid_rule("backendRefs", message));
    };
    let refused = |message: &str| Err(Refusal::invalid_rule("backendRefs[0]", message));
    if !only.is_service() || !only.filters.is_empty() {
        return refused("is not a plain Service; managed proxies support Services without filters only");
    }
    let Some(port) = only.port else {
        return refused("has no port; name the Service's port");
    };
    let namespace = only.namespace.as_deref().unwrap_or(&key.namespace);
    let host = qualify(&only.name, namespace);
    if !scope.ports.get(&host).is_some_and(|ports| ports.contains(&port)) {
        return refused(&format!(
            "no ServiceEntry defines {host} with an HTTP port {port}; create it or fix the name"
        ));
    }
    Ok(Destination { host, port })
}
