//! The Envoy routes of a mapping, from all the objects that it targets.

use super::hosts::Reach;
use super::http_route::of_http_route;
use super::place::{Refusal, TARGET};
use super::plan::Switch;
use super::virtual_service::of_virtual_service;
use crate::policy::hosts::qualify;
use crate::policy::model::RouteDecision;
use crate::policy::origin::Origin;
use std::collections::BTreeSet;

/// Every Envoy route of the places of a mapping.
pub(super) fn switches(
    reach: &Reach<'_>,
    places: &[(&Origin, usize)],
    decision: &RouteDecision,
) -> Result<Vec<Switch>, Refusal> {
    let mut all = Vec::new();
    let origins: BTreeSet<&Origin> = places.iter().map(|(origin, _)| *origin).collect();
    for origin in origins {
        let governed: Vec<_> = places.iter().filter(|(o, _)| *o == origin).map(|(_, i)| *i).collect();
        let found = match origin {
            Origin::VirtualService(key) => of_virtual_service(reach, key, &governed)?,
            Origin::HttpRoute(key) => of_http_route(reach, key, &governed)?,
        };
        if found.is_empty() {
            return Err(ineffective(reach, origin));
        }
        all.extend(found);
    }
    let weighted = all.iter().find(|switch| switch.to.len() > 1);
    if let (RouteDecision::Callout { .. }, Some(switch)) = (decision, weighted) {
        let message = format!(
            "route {} of {} is weighted, and the agent's answer to a rule would replace the weights; move the \
             requests of the rules to a route of their own",
            switch.route.as_deref().unwrap_or_default(),
            switch.host
        );
        return Err(("ClassNotSeparable", "spec.rules".into(), message));
    }
    Ok(all)
}

/// Why an object has no routes in the sidecars.
fn ineffective(reach: &Reach<'_>, origin: &Origin) -> Refusal {
    let hosts = match origin {
        Origin::VirtualService(key) => {
            let vs = reach.snapshot.virtual_services.get(key);
            let names = vs.into_iter().flat_map(|vs| &vs.spec.hosts);
            names.map(|name| qualify(name, &key.namespace)).collect::<Vec<_>>()
        }
        Origin::HttpRoute(key) => reach.parents(key).into_iter().map(|(host, _)| host).collect(),
    };
    let known: Vec<_> = hosts.iter().flat_map(|host| reach.covered(host)).collect();
    let (reason, why) = if known.is_empty() {
        (
            "RuleNotEffective",
            "no Service or ServiceEntry defines its hosts; create it, or fix the names".into(),
        )
    } else if known.iter().all(|(_, host)| host.ports.values().all(|http| !http)) {
        let why = "its hosts speak TLS or TCP, in which the proxy sees no requests; name an HTTP port";
        ("EncryptedBeforeProxy", why.into())
    } else if let Some(other) = known.iter().find_map(|(host, _)| reach.ruler(host)).filter(|o| o != origin) {
        ("RuleNotEffective", format!("its hosts are ruled by {other}; they are not merged: join the two"))
    } else {
        let why =
            "none of its routes holds on an HTTP port of its hosts; check match.port and match.gateways";
        ("RuleNotEffective", why.into())
    };
    (reason, TARGET.into(), format!("{origin}: {why}"))
}
