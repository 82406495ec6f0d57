//! How a packet that no proxy sees is decided, for people.

use super::explain::{Step, Trace};
use super::model::{NamespacePolicy, Policy};
use crate::cluster::identity::ObjectKey;
use crate::cluster::wan_mapping::traffic::TrafficProtocol;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// Traces the first packet of a pod with these labels to `to`: an address, with a port where the protocol has one.
#[must_use]
pub fn packet(
    policy: &Policy,
    pod: &ObjectKey,
    labels: &BTreeMap<String, String>,
    to: &str,
    protocol: TrafficProtocol,
) -> Trace {
    let bare = to.trim_start_matches('[').trim_end_matches(']');
    let target = to.parse().ok().or_else(|| Some(SocketAddr::new(bare.parse().ok()?, 0)));
    let mut trace = Trace::default();
    let Some(target) = target else {
        trace.reason = format!("{to} is no address; packets are governed by address, e.g. 203.0.113.10:5060");
        return trace;
    };
    match policy.namespaces.get(&pod.namespace) {
        None => trace.reason = format!("namespace {} has no WanMapping here", pod.namespace),
        Some(own) => decided(&mut trace, own, labels, (target.ip(), target.port()), protocol),
    }
    trace
}

/// As the kernel does it: the longest prefix, then its first rule that holds and whose class the pod may have.
fn decided(
    trace: &mut Trace,
    own: &NamespacePolicy,
    labels: &BTreeMap<String, String>,
    (address, port): (IpAddr, u16),
    protocol: TrafficProtocol,
) {
    let around = |p: &&super::model::PrefixRules| p.protocol == protocol && p.net.contains(&address);
    let Some(prefix) = own.traffic.iter().filter(around).max_by_key(|p| p.net.prefix_len()) else {
        trace.reason = "no destination of a WanMapping covers it; the packet takes the default route".into();
        return;
    };
    let may = own.traffic_of(labels);
    for rule in &prefix.rules {
        let name = own.classes.get(&rule.class).map_or_else(|| "?".to_owned(), |class| class.key.to_string());
        let against = if !(rule.min..=rule.max).contains(&port) {
            Some(format!("port {port} is not in {}-{}", rule.min, rule.max))
        } else if !may.contains(&rule.class) {
            Some("spec.traffic.pods does not select the pod".to_owned())
        } else {
            None
        };
        let taken = against.is_none();
        let reason = against.unwrap_or_else(|| format!("{} ports {}-{}", prefix.net, rule.min, rule.max));
        trace.rules.push(Step { name: name.clone(), taken, reason });
        if taken {
            trace.reason = format!("WanMapping {name} covers {} ports {}-{}", prefix.net, rule.min, rule.max);
            (trace.mapping, trace.class) = (Some(name), Some(rule.class));
            return;
        }
    }
    trace.reason = format!("no rule around {} holds; the packet takes the default route", prefix.net);
}
