//! Objects to the policy.

use super::allocation::{Allocation, Numbering};
use super::attachment::attachments;
use super::compiled::Compiled;
pub use super::compiled::Proxies;
use super::local::LocalNets;
use super::managed;
use super::mapping::{add_mappings, given, wanted};
use super::model::{NamespacePolicy, PodIdentity, Policy};
use super::objects::Objects;
use super::sidecar::services::services;
use super::{sidecar, traffic};
use clovisor_objects::identity::ObjectKey;
use clovisor_objects::pod::PodObject;
use clovisor_objects::snapshot::Snapshot;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// For whom objects are compiled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Purpose {
    pub proxies: Proxies,
    pub numbering: Numbering,
    /// Only namespaces with pods here: a node of a large cluster has few of them, and hears of a pod before it runs.
    pub local: bool,
}

/// Compiles the objects. Numbers of `before` stay with their owners; the returned ones are for the next time.
#[must_use]
pub fn compile(
    snapshot: &Snapshot,
    before: &Allocation,
    generation: u64,
    purpose: Purpose,
) -> (Compiled, Allocation) {
    let mut attachments = attachments(snapshot);
    let wanted = wanted(snapshot, &attachments);
    let allocation = match purpose.numbering {
        Numbering::Own => before.assign(&wanted),
        Numbering::Controller => before.adopt(given(snapshot)).assign(&wanted),
        Numbering::Status => before.with_classes(&wanted.into_keys().collect(), given(snapshot)),
    };
    let (mut problems, mut notes) = (snapshot.problems.clone(), Vec::new());
    let local = Arc::new(LocalNets::new(snapshot));
    let mut policy = Policy { pods: pods(snapshot), local, ..Policy::default() };
    let objects = Objects::new(snapshot);
    for name in namespaces(snapshot, purpose.local) {
        let mut namespace =
            NamespacePolicy { zone: allocation.zone(&name).unwrap_or(0), ..Default::default() };
        add_mappings(&mut namespace, &name, &mut attachments, &allocation, purpose.numbering);
        problems.extend(traffic::add(&mut namespace, &name, &attachments));
        problems.extend(traffic::unsteered(&namespace, &name, &policy.pods));
        if !purpose.local {
            problems.extend(traffic::unselected(&name, &attachments, &policy.pods));
            problems.extend(traffic::deserted(&name, &attachments, &policy.pods));
        }
        if purpose.proxies == Proxies::Managed {
            let managed = managed::compile(snapshot, &objects, &name, &attachments, &namespace);
            namespace.services = managed.services;
            problems.extend(managed.problems);
            notes.extend(managed.notes);
        }
        policy.namespaces.insert(name, namespace);
    }
    problems.append(&mut attachments.problems);
    let mut sidecars = Vec::new();
    if purpose.proxies == Proxies::Sidecars {
        let (plans, refused) = sidecar::compile::plan(snapshot, &attachments, &objects, &policy);
        sidecar::compile::add_destinations(&mut policy, snapshot, &plans);
        // Only for explanations, which nobody asks the controller for.
        if purpose.numbering != Numbering::Controller {
            for (name, namespace) in policy.namespaces.iter_mut().filter(|(_, ns)| !ns.mappings.is_empty()) {
                let clients = (name.as_str(), &*namespace);
                namespace.services = services(snapshot, &objects, &attachments, &plans, clients);
            }
        }
        problems.extend(refused);
        sidecars = plans;
    }
    for list in [&mut problems, &mut notes] {
        list.sort();
        list.dedup();
    }
    notes.retain(|note| problems.binary_search(note).is_err());
    let stale_since = snapshot.stale_since;
    let proxies = purpose.proxies;
    (
        Compiled { generation, proxies, policy: Arc::new(policy), problems, notes, sidecars, stale_since },
        allocation,
    )
}

/// Namespaces with clients; unless `local`, also those with mappings for clients to come.
fn namespaces(snapshot: &Snapshot, local: bool) -> BTreeSet<String> {
    let mappings = snapshot.mappings.keys().filter(|_| !local);
    snapshot.pods.keys().chain(mappings).map(|key| key.namespace.clone()).collect()
}

fn pods(snapshot: &Snapshot) -> BTreeMap<ObjectKey, PodIdentity> {
    let identity = |(key, pod): (&ObjectKey, &Arc<PodObject>)| {
        let addresses = pod.addresses.iter().copied().collect();
        let (labels, host_network) = (pod.labels.clone(), pod.host_network);
        let identity = PodIdentity { addresses, proxy_uid: pod.proxy_uid, labels, host_network };
        (key.clone(), identity)
    };
    snapshot.pods.iter().map(identity).collect()
}

#[cfg(test)]
mod tests;
