//! Mappings of which a target has no effect: none of the requests that it means is ever seen.

use super::routing::Routed;
use super::service::Services;
use crate::attachment::targets::of_target;
use crate::attachment::{Attachments, of_mapping};
use crate::hosts::{ServiceName, qualify, visible};
use crate::origin::RouteOrigin;
use clovisor_objects::identity::ObjectKey;
use clovisor_objects::istio::VirtualService;
use clovisor_objects::problem::Problem;
use clovisor_objects::reason::ProblemReason;
use clovisor_objects::refusal::{FieldPath, Refusal};
use clovisor_objects::snapshot::Snapshot;

/// What a namespace has, to tell why something has no effect there.
pub(super) struct Unused<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) namespace: &'a str,
    pub(super) found: &'a Services,
    pub(super) routed: &'a Routed,
}

impl Unused<'_> {
    /// One problem for each target of a mapping none of whose routes is among those of a service. Targets that are
    /// refused for what they say have problems of their own.
    pub(super) fn problems(&self, attachments: &Attachments<'_>) -> Vec<Problem> {
        let mut problems = Vec::new();
        let here = attachments.accepted.iter().filter(|(key, _)| key.namespace == self.namespace);
        for (key, spec) in here {
            for (i, target) in spec.target_refs.iter().enumerate() {
                let Ok((origin, indexes)) = of_target(self.snapshot, key, target) else { continue };
                let is_used = |index: &usize| self.routed.effective.contains(&(origin.clone(), *index));
                if self.routed.refused.contains(&origin) || indexes.iter().any(is_used) {
                    continue;
                }
                let (reason, why) = self.why(&origin);
                let at = FieldPath::from("spec.targetRefs").index(i);
                problems.push(of_mapping(key, Refusal::new(reason, at, format!("{origin}: {why}"))));
            }
        }
        problems
    }

    fn why(&self, origin: &RouteOrigin) -> (ProblemReason, String) {
        let not_effective = |why: &str| (ProblemReason::RuleNotEffective, why.to_owned());
        let hosts = match origin {
            RouteOrigin::VirtualService(key) => {
                let Some(vs) = self.snapshot.virtual_services.get(key).map(|vs| &vs.spec) else {
                    return not_effective("it does not exist");
                };
                if let Some(why) = self.hidden(vs, key) {
                    return not_effective(&why);
                }
                vs.hosts.iter().map(|host| qualify(host, self.namespace)).collect()
            }
            RouteOrigin::HttpRoute(key) => self.parents(key),
        };
        if hosts.is_empty() {
            return not_effective(
                "its parentRefs name no Service, and requests inside the mesh do not pass gateways; name a Service",
            );
        }
        self.of_hosts(origin, &hosts)
    }

    /// Why no pod of the namespace sees the VirtualService.
    fn hidden(&self, vs: &VirtualService, key: &ObjectKey) -> Option<String> {
        if !vs.is_for_mesh() {
            return Some(format!(
                "it is bound to gateways only ([{}]), which requests inside the mesh do not pass; add mesh to its \
                 gateways",
                vs.gateways.join(", ")
            ));
        }
        let hidden = !visible(&vs.export_to, &key.namespace, self.namespace);
        hidden.then(|| "its exportTo hides it from its own namespace; add \".\"".to_owned())
    }

    fn parents(&self, key: &ObjectKey) -> Vec<String> {
        let route = self.snapshot.http_routes.get(key);
        let parents = route.into_iter().flat_map(|route| &route.spec.parent_refs).filter(|p| p.is_service());
        let host = |p: &clovisor_objects::gateway::ParentRef| {
            ServiceName { name: &p.name, namespace: p.namespace.as_deref().unwrap_or(&key.namespace) }.host()
        };
        parents.map(host).collect()
    }

    /// Why none of these hosts has the object's routes.
    fn of_hosts(&self, origin: &RouteOrigin, hosts: &[String]) -> (ProblemReason, String) {
        let named = |host: &str| hosts.iter().any(|named| covers(named, host));
        if self.found.http.keys().any(|(host, _)| named(host)) {
            let why = if self.routed.shadowed.contains(origin) {
                "another object defines the routes of its hosts, see its own problem"
            } else {
                "none of the routes that are meant is ever taken: they are for other ports, gateways or namespaces, or \
                 an earlier route takes every request; check match and the order of the list"
            };
            return (ProblemReason::RuleNotEffective, why.into());
        }
        if let Some((_, problem)) = self.found.unserved.iter().find(|(host, _)| named(host)) {
            let why = format!(
                "ServiceEntry {} is not served, {}: {}",
                problem.subject.name(),
                problem.field,
                problem.message
            );
            return (ProblemReason::RuleNotEffective, why);
        }
        if let Some((host, port)) = self.found.opaque.iter().find(|(host, _)| named(host)) {
            let why = match port.protocol.as_str() {
                "" => format!(
                    "port {} of {host} does not say what it speaks; set its protocol to HTTP",
                    port.number
                ),
                word => format!(
                    "port {} of {host} speaks {word}, in which the proxy sees no requests",
                    port.number
                ),
            };
            return (ProblemReason::EncryptedBeforeProxy, why);
        }
        let is_service = |host: &String| {
            ServiceName::of_host(host).is_some_and(|name| {
                let ServiceName { name, namespace } = name;
                let key = ObjectKey { namespace: namespace.to_owned(), name: name.to_owned() };
                self.snapshot.services.contains_key(&key)
            })
        };
        let why = if hosts.iter().any(is_service) {
            "managed proxies serve the hosts of ServiceEntries, and its host is a Kubernetes Service; write a \
             ServiceEntry with that host, or use sidecars"
        } else {
            "no ServiceEntry that the namespace sees defines its hosts; create one, or fix the names"
        };
        (ProblemReason::RuleNotEffective, why.into())
    }
}

/// Whether a name in an object is that of the host, or a wildcard around it.
fn covers(named: &str, host: &str) -> bool {
    let (named, host) = (named.to_ascii_lowercase(), host.to_ascii_lowercase());
    named == host || named.strip_prefix('*').is_some_and(|suffix| host.ends_with(suffix))
}
