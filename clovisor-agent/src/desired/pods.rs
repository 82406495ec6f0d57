//! The host side device of each pod.

use clovisor_datapath::host::net::HostNet;
use clovisor_datapath::host::resolve::{Unresolved, bridge_to_ask, resolve_pod};
use clovisor_objects::identity::ObjectKey;
use clovisor_policy::model::Policy;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// The host side device of each pod, or why it is not known.
pub type Pods = BTreeMap<ObjectKey, Result<u32, Unresolved>>;

/// The device of every pod. One that was found stays while it exists: bridges and neighbour tables forget.
pub(super) fn resolve(policy: &Policy, host: &HostNet, before: &Pods) -> Pods {
    let pods = policy.pods.iter();
    pods.map(|(key, pod)| {
        let found: Vec<_> = pod.addresses.iter().map(|a| resolve_pod(host, *a)).collect();
        let first = found.iter().find_map(|r| r.as_ref().ok().copied());
        let reason = found.into_iter().find_map(Result::err).unwrap_or(Unresolved::NoAddress);
        let forgotten = is_hidden(&Err(reason));
        let known = before.get(key).and_then(|old| old.ok()).filter(|old| host.devices.contains_key(old));
        (key.clone(), first.or(known.filter(|_| forgotten)).ok_or(reason))
    })
    .collect()
}

pub(super) fn is_hidden(pod: &Result<u32, Unresolved>) -> bool {
    matches!(pod, Err(Unresolved::NeighbourUnknown | Unresolved::PortUnknown))
}

/// Addresses of pods behind bridges that must show themselves, and the bridge of each.
pub(super) fn unseen(policy: &Policy, host: &HostNet, pods: &Pods) -> Vec<(IpAddr, String)> {
    let hidden = policy.pods.iter().filter(|(key, _)| pods.get(key).is_some_and(is_hidden));
    let addresses = hidden.flat_map(|(_, pod)| pod.addresses.iter());
    addresses.filter_map(|a| bridge_to_ask(host, *a).map(|bridge| (*a, bridge.to_owned()))).collect()
}
