//! Namespace and port of a route's destination.

use super::hosts::{Host, Hosts};
use clovisor_objects::reason::ProblemReason;
use clovisor_objects::refusal::Refusal;

/// A refusal of what the mapping targets.
pub(super) fn refused(reason: ProblemReason, message: impl Into<String>) -> Refusal {
    Refusal::new(reason, "spec.targetRefs", message)
}

/// A refusal of a target that has no effect.
pub(super) fn not_effective(message: impl Into<String>) -> Refusal {
    refused(ProblemReason::RuleNotEffective, message)
}

/// The namespace of a host and the port that Istio takes: the named one, else the host's only one, else that of the
/// listener.
pub(super) fn resolve(
    hosts: &Hosts<'_>,
    host: &str,
    named: Option<u16>,
    listener: u16,
) -> Result<(String, u16), Refusal> {
    let Some(Host { namespace, ports }) = hosts.get(host) else {
        return Err(not_effective(format!(
            "no Service or ServiceEntry defines the destination {host}; create it, or fix the name"
        )));
    };
    let single = ports.keys().next().filter(|_| ports.len() == 1).copied();
    let port = named.or(single).unwrap_or(listener);
    if ports.contains_key(&port) {
        return Ok((namespace.clone(), port));
    }
    let known: Vec<_> = ports.keys().map(ToString::to_string).collect();
    Err(not_effective(format!("the destination {host} has no port {port}; it has {}", known.join(", "))))
}
