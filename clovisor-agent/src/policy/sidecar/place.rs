//! Where a destination is: the namespace of its host, and its port.

use super::hosts::{Host, Reach};

/// Reason, field of the mapping, and what is wrong there.
pub(super) type Refusal = (&'static str, String, String);

pub(super) const TARGET: &str = "spec.targetRefs";

/// As Istio: the port that is named, else the service's only one, else that of the listener.
pub(super) fn place(
    reach: &Reach<'_>,
    host: &str,
    named: Option<u16>,
    listener: u16,
) -> Result<(String, u16), Refusal> {
    let Some(Host { home, ports }) = reach.host(host) else {
        let message =
            format!("no Service or ServiceEntry defines the destination {host}; create it, or fix the name");
        return Err(("RuleNotEffective", TARGET.into(), message));
    };
    let single = ports.keys().next().filter(|_| ports.len() == 1).copied();
    let port = named.or(single).unwrap_or(listener);
    if ports.contains_key(&port) {
        return Ok((home.clone(), port));
    }
    let message = format!("the destination {host} has no port {port}; name one of {:?}", ports.keys());
    Err(("RuleNotEffective", TARGET.into(), message))
}
