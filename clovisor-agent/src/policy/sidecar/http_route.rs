//! Rules of HTTPRoutes with a Service as parent to the routes that Istio makes of them.

use super::hosts::Reach;
use super::place::{Refusal, TARGET, place};
use super::plan::{Switch, Target};
use crate::cluster::gateway::RouteRule;
use crate::cluster::snapshot::ObjectKey;
use crate::policy::hosts::qualify;

/// A rule has its own name, or `NAMESPACE.NAME.INDEX`.
pub(super) fn of_http_route(
    reach: &Reach<'_>,
    key: &ObjectKey,
    governed: &[usize],
) -> Result<Vec<Switch>, Refusal> {
    let Some(source) = reach.snapshot.http_routes.get(key).map(|route| &route.spec) else {
        return Ok(Vec::new());
    };
    let mut all = Vec::new();
    for (host, only) in reach.parents(key) {
        let Some(known) = reach.host(&host).filter(|_| reach.ruler(&host).is_none()) else { continue };
        let ports = known.ports.iter().filter(|(port, http)| **http && only.is_none_or(|o| o == **port));
        for (port, _) in ports {
            for i in governed {
                let Some(rule) = source.rules.get(*i) else { continue };
                let name = rule.name.clone().filter(|name| !name.is_empty());
                let route = name.unwrap_or_else(|| format!("{}.{}.{i}", key.namespace, key.name));
                let to = backends(reach, key, rule)?;
                if !to.is_empty() {
                    all.push(Switch { host: host.clone(), port: *port, route: Some(route), to });
                }
            }
        }
    }
    Ok(all)
}

fn backends(reach: &Reach<'_>, key: &ObjectKey, rule: &RouteRule) -> Result<Vec<Target>, Refusal> {
    let used = rule.backend_refs.iter().filter(|backend| backend.weight != Some(0));
    used.map(|backend| {
        let refuse = |message: String| ("RuleNotEffective", TARGET.to_owned(), message);
        if !backend.is_service() {
            return Err(refuse(format!(
                "backend {} is no Service; only Services can be classed",
                backend.name
            )));
        }
        if !backend.filters.is_empty() {
            return Err(refuse(format!(
                "backend {} has filters of its own; use those of the rule",
                backend.name
            )));
        }
        let namespace = backend.namespace.as_deref().unwrap_or(&key.namespace);
        let host = qualify(&backend.name, namespace);
        let Some(named) = backend.port else {
            return Err(refuse(format!("backend {} has no port; name the Service's port", backend.name)));
        };
        let (home, port) = place(reach, &host, Some(named), named)?;
        Ok(Target { host, port, subset: None, weight: backend.weight.unwrap_or(1), headers: None, home })
    })
    .collect()
}
