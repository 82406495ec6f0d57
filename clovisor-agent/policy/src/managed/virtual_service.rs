//! One VirtualService to the routes of one service, as Istio makes them for a sidecar.

use super::route::{RouteScope, duration};
use crate::conditions::virtual_service::matches;
use crate::hosts::qualify;
use crate::matcher::RouteMatch;
use crate::model::{Destination, RETRY_ON, Retries, Route, RouteDecision, Service};
use crate::origin::RouteOrigin;
use clovisor_objects::identity::ObjectKey;
use clovisor_objects::istio::{IstioHttpRoute, Retry, VirtualService};
use clovisor_objects::refusal::{FieldPath, Refusal};

/// Features that managed proxies do not support yet. A VirtualService with one is refused as a whole: a part of it
/// would send requests elsewhere than its author meant.
const UNSUPPORTED: [&str; 10] = [
    "fault",
    "redirect",
    "rewrite",
    "mirror",
    "mirrors",
    "mirrorPercentage",
    "delegate",
    "directResponse",
    "headers",
    "corsPolicy",
];

/// The routes of `service` that `key` defines, each with the index of its entry in the list; `decision` says what an
/// entry is mapped to. None where no entry holds for the port and the clients.
pub(crate) fn routes(
    key: &ObjectKey,
    source: &VirtualService,
    service: &Service,
    scope: &RouteScope<'_>,
    decision: impl Fn(usize) -> RouteDecision,
) -> Result<Vec<(usize, Route)>, Refusal> {
    let mut routes = Vec::new();
    let mut is_complete = false;
    for (i, http) in source.http.iter().enumerate() {
        let at = FieldPath::from("spec.http").index(i);
        let under = |refusal: Refusal| refusal.under(&at);
        if let Some(name) = UNSUPPORTED.into_iter().find(|name| http.other.contains_key(*name)) {
            let message = "is not supported by managed proxies yet; remove it or split the VirtualService";
            return Err(Refusal::invalid_rule(at.field(name), message));
        }
        let (matches, applies) = matches(http, service.port, scope.namespace).map_err(under)?;
        let destination = destination(http, &key.namespace, service, scope).map_err(under)?;
        let timeout = http.timeout.as_deref().map(|t| duration("timeout", t)).transpose().map_err(under)?;
        let retries = retries(http.retries.as_ref()).map_err(under)?;
        // As in Istio, what comes after a route for every request is none.
        if applies && !is_complete {
            is_complete = matches.is_empty() || matches.iter().any(RouteMatch::is_unconditional);
            let route = Route {
                name: http.name.clone(),
                origin: Some(RouteOrigin::VirtualService(key.clone())),
                matches,
                destination,
                timeout: timeout.filter(|t| !t.is_zero()),
                retries,
                decision: decision(i),
            };
            routes.push((i, route));
        }
    }
    Ok(routes)
}

/// The one destination: weights and subsets would need a class per destination.
fn destination(
    http: &IstioHttpRoute,
    namespace: &str,
    service: &Service,
    scope: &RouteScope<'_>,
) -> Result<Destination, Refusal> {
    let many = http.route.len() > 1;
    let weighted: Vec<_> = http.route.iter().filter(|d| !many || d.weight.unwrap_or(0) != 0).collect();
    let [only] = weighted.as_slice() else {
        let message =
            if weighted.is_empty() { "has no destination" } else { "several destinations are not supported" };
        return Err(Refusal::invalid_rule("route", format!("{message}; give the route one destination")));
    };
    let to = &only.destination;
    if to.subset.is_some() {
        let message = "subsets are not supported by managed proxies yet; use a host of its own";
        return Err(Refusal::invalid_rule("route[0].destination.subset", message));
    }
    if only.headers.is_some() {
        return Err(Refusal::invalid_rule(
            "route[0].headers",
            "is not supported by managed proxies yet; remove it",
        ));
    }
    let host = qualify(&to.host, namespace);
    let Some(ports) = scope.ports.get(&host) else {
        let message = format!("no ServiceEntry defines {host} with an HTTP port; create it or fix the name");
        return Err(Refusal::invalid_rule("route[0].destination.host", message));
    };
    let port = match (to.port.map(|p| p.number), ports.as_slice()) {
        (Some(port), _) => port,
        (None, [single]) => *single,
        (None, _) => service.port,
    };
    if !ports.contains(&port) {
        let known: Vec<_> = ports.iter().map(ToString::to_string).collect();
        let message = format!("{host} has no HTTP port {port}; it has {}", known.join(", "));
        return Err(Refusal::invalid_rule("route[0].destination.port", message));
    }
    Ok(Destination { host, port })
}

fn retries(source: Option<&Retry>) -> Result<Option<Retries>, Refusal> {
    let Some(retry) = source else {
        return Ok(Some(Retries::istio()));
    };
    let per_try =
        retry.per_try_timeout.as_deref().map(|t| duration("retries.perTryTimeout", t)).transpose()?;
    let retry_on = retry.retry_on.clone().unwrap_or_else(|| RETRY_ON.into());
    Ok((retry.attempts > 0).then_some(Retries {
        attempts: retry.attempts,
        per_try_timeout: per_try,
        retry_on,
    }))
}
