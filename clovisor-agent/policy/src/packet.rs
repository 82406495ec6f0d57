//! How the class of a packet that no proxy sees is decided, for people.

use super::model::{NamespacePolicy, Policy, PortClass, PrefixRules};
use super::trace::{Trace, TraceStep};
use clovisor_objects::family::IpFamily;
use clovisor_objects::identity::ObjectKey;
use clovisor_objects::wan_mapping::traffic::TrafficProtocol;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// The address in what the user writes, with port 0 where it names none.
#[must_use]
pub fn target(to: &str) -> Option<SocketAddr> {
    let bare = to.trim_start_matches('[').trim_end_matches(']');
    to.parse().ok().or_else(|| Some(SocketAddr::new(bare.parse().ok()?, 0)))
}

/// Traces the first packet of a pod with these labels to `to`: an address, with a port where the protocol has one. `local`:
/// why an address is local, if it is.
#[must_use]
pub fn packet(
    policy: &Policy,
    pod: &ObjectKey,
    labels: &BTreeMap<String, String>,
    to: &str,
    protocol: TrafficProtocol,
    local: impl FnOnce(IpAddr) -> Option<String>,
) -> Trace {
    let mut trace = Trace::default();
    let Some(target) = target(to) else {
        trace.reason = format!("{to} is no address; packets are governed by address, e.g. 203.0.113.10:5060");
        return trace;
    };
    trace.families.insert(IpFamily::of(target.ip()));
    if let Some(reason) = local(target.ip()) {
        trace.reason = format!("{} is local ({reason}): no mapping of traffic takes it", target.ip());
        trace.local = true;
        return trace;
    }
    match policy.namespaces.get(&pod.namespace) {
        None => trace.reason = format!("namespace {} has no WanMapping here", pod.namespace),
        Some(namespace) => trace_rules(&mut trace, namespace, labels, (target.ip(), target.port()), protocol),
    }
    trace
}

/// As the kernel half decides: the longest prefix, then its first rule with the port and a class that the pod may have.
fn trace_rules(
    trace: &mut Trace,
    namespace: &NamespacePolicy,
    labels: &BTreeMap<String, String>,
    (address, port): (IpAddr, u16),
    protocol: TrafficProtocol,
) {
    let around = |p: &&PrefixRules| p.protocol == protocol && p.net.contains(&address);
    let Some(prefix) = namespace.traffic.iter().filter(around).max_by_key(|p| p.net.prefix_len()) else {
        trace.reason = "no destination of a WanMapping covers it; the packet takes the default route".into();
        return;
    };
    let allowed = namespace.traffic_of(labels);
    for rule in &prefix.rules {
        let name =
            namespace.classes.get(&rule.class).map_or_else(|| "?".to_owned(), |class| class.key.to_string());
        let failure = if !(rule.min..=rule.max).contains(&port) {
            Some(match port {
                0 => format!("the packet names no port of {}", ports(rule)),
                port => format!("port {port} is not in {}-{}", rule.min, rule.max),
            })
        } else if !allowed.contains(&rule.class) {
            Some("spec.traffic.pods does not select the pod".to_owned())
        } else {
            None
        };
        let taken = failure.is_none();
        let reason = failure.unwrap_or_else(|| format!("{} {}", prefix.net, ports(rule)));
        trace.rules.push(TraceStep { name: name.clone(), taken, reason });
        if taken {
            trace.reason = format!("WanMapping {name} covers {} {}", prefix.net, ports(rule));
            (trace.mapping, trace.class) = (Some(name), Some(rule.class));
            return;
        }
    }
    let cause = if prefix.rules.is_empty() {
        "is an exception of its destinations"
    } else {
        "has no rule that holds"
    };
    trace.reason = format!("{} {cause}; the packet takes the default route", prefix.net);
}

fn ports(rule: &PortClass) -> String {
    match (rule.min, rule.max) {
        (0, u16::MAX) => "all ports".to_owned(),
        (min, max) if min == max => format!("port {min}"),
        (min, max) => format!("ports {min}-{max}"),
    }
}
