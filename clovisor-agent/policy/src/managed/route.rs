//! What routes of VirtualServices and of HTTPRoutes have in common.

use clovisor_objects::refusal::Refusal;
use jiff::SignedDuration;
use std::collections::BTreeMap;
use std::time::Duration;

/// For whom routes are made: pods of a namespace, and the hosts that they reach.
pub(crate) struct RouteScope<'a> {
    /// Namespace of the client pods.
    pub(crate) namespace: &'a str,
    /// Ports of each host, for destinations without a port.
    pub(crate) ports: &'a BTreeMap<String, Vec<u16>>,
}

/// Istio's duration: `1h30m`, `2s`, `250ms`; not negative.
pub(crate) fn duration(field: &str, text: &str) -> Result<Duration, Refusal> {
    let parsed: Option<SignedDuration> = text.parse().ok();
    parsed.and_then(|d| Duration::try_from(d).ok()).ok_or_else(|| {
        let message = format!("{text:?} is not a duration; write it like \"1.5s\", \"250ms\" or \"1m\"");
        Refusal::invalid_rule(field, message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_istios() {
        let parse = |text| duration("timeout", text).ok();
        assert_eq!(parse("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(parse("1.5s"), Some(Duration::from_millis(1500)));
        assert_eq!(parse("1h30m"), Some(Duration::from_secs(5400)));
        for bad in ["", "5", "-1s", "soon"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
