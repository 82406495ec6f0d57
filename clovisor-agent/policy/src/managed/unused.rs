//! Mappings whose routes no service of the namespace has: their requests are never seen.

use crate::attachment::{Attachments, of_mapping};
use crate::hosts::qualify;
use crate::origin::RouteOrigin;
use clovisor_objects::identity::ObjectKey;
use clovisor_objects::problem::Problem;
use clovisor_objects::reason::ProblemReason;
use clovisor_objects::refusal::Refusal;
use clovisor_objects::snapshot::Snapshot;
use std::collections::{BTreeMap, BTreeSet};

/// One problem for each attached route of an object that is not among the `effective` ones; `opaque`: hosts with a
/// port that does not speak HTTP, and the port's protocol.
pub(crate) fn unused(
    namespace: &str,
    attachments: &Attachments<'_>,
    effective: &BTreeSet<RouteOrigin>,
    opaque: &BTreeMap<String, String>,
    snapshot: &Snapshot,
) -> Vec<Problem> {
    let is_unused = |origin: &RouteOrigin| origin.key().namespace == namespace && !effective.contains(origin);
    let routes = attachments.by_route.iter().filter(|((origin, _), _)| is_unused(origin));
    let problem = |((origin, _), name): (&(RouteOrigin, usize), &String)| {
        let hosts = match origin {
            RouteOrigin::VirtualService(key) => {
                snapshot.virtual_services.get(key).map(|vs| &vs.spec.hosts[..])
            }
            RouteOrigin::HttpRoute(_) => None,
        };
        let hosts = hosts.unwrap_or_default().iter().map(|host| qualify(host, namespace));
        let (reason, why) = match hosts.into_iter().find_map(|host| opaque.get(&host)) {
            Some(protocol) => (
                ProblemReason::EncryptedBeforeProxy,
                format!("its service speaks {protocol}, in which the proxy sees no requests"),
            ),
            None => (
                ProblemReason::RuleNotEffective,
                "no service with an HTTP port in a ServiceEntry has its routes".to_owned(),
            ),
        };
        let message = format!("{origin}: {why}; check which hosts it names and the port's protocol");
        let key = ObjectKey { namespace: namespace.to_owned(), name: name.clone() };
        of_mapping(&key, Refusal::new(reason, "spec.targetRefs", message))
    };
    routes.map(problem).collect()
}
