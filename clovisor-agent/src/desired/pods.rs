//! The host side device of each pod.

use crate::link::table::LinkTable;
use clovisor_datapath::host::net::HostNet;
use clovisor_datapath::host::resolve::{PodDevice, Unresolved, bridge_to_ask, resolve_pod};
use clovisor_objects::identity::ObjectKey;
use clovisor_policy::model::{PodIdentity, Policy};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// The host side device of each pod, or why it is not known.
pub type Pods = BTreeMap<ObjectKey, Result<PodDevice, Unresolved>>;

/// The device of every pod. One that was found stays while it exists: bridges and neighbour tables forget.
pub(super) fn resolve(policy: &Policy, host: &HostNet, uplinks: &BTreeSet<u32>, before: &Pods) -> Pods {
    let pods = policy.pods.iter();
    let mut all: Pods = pods
        .map(|(key, pod)| {
            let known = before.get(key).and_then(|old| old.ok());
            (key.clone(), device(pod, host, uplinks, known.filter(|old| old.holds(host, uplinks))))
        })
        .collect();
    for key in shared(policy, &all) {
        all.insert(key, Err(Unresolved::Shared));
    }
    all
}

/// The device of a pod. `known`: the one that was found before and is still there.
fn device(
    pod: &PodIdentity,
    host: &HostNet,
    uplinks: &BTreeSet<u32>,
    known: Option<PodDevice>,
) -> Result<PodDevice, Unresolved> {
    if pod.host_network {
        return Err(Unresolved::HostNetwork);
    }
    let found: Vec<_> = pod.addresses.iter().map(|a| resolve_pod(host, uplinks, *a)).collect();
    let first = found.iter().find_map(|r| r.as_ref().ok().copied());
    let reason = found.into_iter().find_map(Result::err).unwrap_or(Unresolved::NoAddress);
    let forgotten = is_hidden(&Err(reason));
    first.or(known.filter(|_| forgotten)).ok_or(reason)
}

/// Pods with other addresses than another pod behind the same device. (With the same: one of the two is about to go.)
fn shared(policy: &Policy, found: &Pods) -> Vec<ObjectKey> {
    let mut behind = BTreeMap::<PodDevice, Vec<(&ObjectKey, &PodIdentity)>>::new();
    for (key, pod) in &policy.pods {
        if let Some(Ok(device)) = found.get(key) {
            behind.entry(*device).or_default().push((key, pod));
        }
    }
    let others = |pods: &Vec<(&ObjectKey, &PodIdentity)>| {
        pods.iter().any(|(_, pod)| pods.iter().any(|(_, other)| pod.addresses.is_disjoint(&other.addresses)))
    };
    behind.values().filter(|pods| others(pods)).flatten().map(|(key, _)| (*key).clone()).collect()
}

/// The devices of links.
#[must_use]
pub fn uplinks(links: &LinkTable) -> BTreeSet<u32> {
    links.links.values().filter_map(|link| link.ifindex).collect()
}

pub(super) fn is_hidden(pod: &Result<PodDevice, Unresolved>) -> bool {
    matches!(pod, Err(Unresolved::NeighbourUnknown | Unresolved::PortUnknown))
}

/// Addresses of pods behind bridges that must show themselves, and the bridge of each.
pub(super) fn unseen(
    policy: &Policy,
    host: &HostNet,
    uplinks: &BTreeSet<u32>,
    pods: &Pods,
) -> Vec<(IpAddr, String)> {
    let hidden = policy.pods.iter().filter(|(key, _)| pods.get(key).is_some_and(is_hidden));
    let addresses = hidden.flat_map(|(_, pod)| pod.addresses.iter());
    addresses.filter_map(|a| bridge_to_ask(host, uplinks, *a).map(|bridge| (*a, bridge.to_owned()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clovisor_datapath::host::net::Device;
    use clovisor_datapath::host::routes::HostRoute;

    #[test]
    fn two_pods_behind_one_device_have_none() {
        let net = |pods: &[&str]| {
            let veth = Device { ifindex: 3, kind: "veth".into(), ..Device::default() };
            let route = |address: &&str| {
                let destination = address.parse().unwrap_or_else(|e| panic!("{e}"));
                HostRoute { destination, prefix: 32, gateway: None, ifindex: 3, metric: 0, source: None }
            };
            let routes = pods.iter().map(route).collect();
            HostNet { devices: [(3, veth)].into(), routes, ..HostNet::default() }
        };
        let policy = |pods: &[(&str, &str)]| {
            let pod = |(name, address): &(&str, &str)| {
                let key = ObjectKey { namespace: "shop".into(), name: (*name).into() };
                let addresses = [address.parse().unwrap_or_else(|e| panic!("{e}"))].into();
                let labels = BTreeMap::new();
                (key, PodIdentity { addresses, proxy_uid: 1337, labels, host_network: false })
            };
            Policy { pods: pods.iter().map(pod).collect(), ..Policy::default() }
        };
        let found = |pods: &[(&str, &str)]| {
            let net = net(&["10.1.0.5", "10.1.0.6"]);
            let all = resolve(&policy(pods), &net, &BTreeSet::new(), &Pods::new());
            all.into_values().map(|pod| pod.map(PodDevice::ifindex)).collect::<Vec<_>>()
        };
        assert_eq!(found(&[("a", "10.1.0.5")]), [Ok(3)]);
        assert_eq!(found(&[("a", "10.1.0.5"), ("b", "10.1.0.6")]), [Err(Unresolved::Shared); 2]);
        assert_eq!(
            found(&[("old", "10.1.0.5"), ("new", "10.1.0.5")]),
            [Ok(3); 2],
            "one of them is about to go"
        );
    }
}
