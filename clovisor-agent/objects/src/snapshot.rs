//! All objects of one moment.

use super::gateway::HttpRoute;
use super::identity::ObjectKey;
use super::istio::{DestinationRule, ServiceEntry, VirtualService};
use super::kube_node::NodeObject;
use super::network_policy::NetworkPolicy;
use super::pod::PodObject;
use super::problem::Problem;
use super::service::ServiceObject;
use super::wan_link::WanLinkSpec;
use super::wan_mapping::{ClassNumber, WanMappingSpec};
use super::wan_node::WanNodeStatus;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Everything that was known at one moment; never changed after it is published.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// By name.
    pub links: BTreeMap<String, Arc<WanLinkSpec>>,
    pub mappings: BTreeMap<ObjectKey, Arc<MappingObject>>,
    pub virtual_services: BTreeMap<ObjectKey, Arc<Dated<VirtualService>>>,
    pub http_routes: BTreeMap<ObjectKey, Arc<Dated<HttpRoute>>>,
    pub destination_rules: BTreeMap<ObjectKey, Arc<DestinationRule>>,
    pub service_entries: BTreeMap<ObjectKey, Arc<ServiceEntry>>,
    pub services: BTreeMap<ObjectKey, Arc<ServiceObject>>,
    pub network_policies: BTreeMap<ObjectKey, Arc<NetworkPolicy>>,
    /// What the agents say, by node.
    pub nodes: BTreeMap<String, Arc<WanNodeStatus>>,
    /// Kubernetes' own, by name.
    pub kube_nodes: BTreeMap<String, Arc<NodeObject>>,
    /// The name of this node among them; none where there is no API server.
    pub this_node: Option<String>,
    pub pods: BTreeMap<ObjectKey, Arc<PodObject>>,
    /// Since when the API server is unreachable, while objects come from disk.
    pub stale_since: Option<jiff::Timestamp>,
    /// What was refused while reading; the last good state of the same object, if any, is kept above.
    pub problems: Vec<Problem>,
}

impl Snapshot {
    /// The links that this node has, by their selectors.
    #[must_use]
    pub fn links_here(&self) -> BTreeMap<String, Arc<WanLinkSpec>> {
        // Without a name: the only one that is known.
        let only = || self.kube_nodes.values().next().filter(|_| self.kube_nodes.len() == 1);
        let node = self.this_node.as_ref().map_or_else(only, |name| self.kube_nodes.get(name));
        let is_here = |link: &WanLinkSpec| match node {
            Some(node) => link.node_selector.iter().all(|(key, value)| node.labels.get(key) == Some(value)),
            None => true,
        };
        self.links
            .iter()
            .filter(|(_, link)| is_here(link))
            .map(|(name, link)| (name.clone(), link.clone()))
            .collect()
    }

    /// Namespaces with a NetworkPolicy for egress that selects a pod of the snapshot, each with the name of one.
    #[must_use]
    pub fn egress_policies(&self) -> BTreeMap<String, String> {
        let judges = |(key, policy): &(&ObjectKey, &Arc<NetworkPolicy>)| {
            let pods = self.pods.iter().filter(|(pod, _)| pod.namespace == key.namespace);
            policy.is_for_egress() && policy.selects_any(pods.map(|(_, pod)| &pod.labels))
        };
        // In reverse order: the alphabetically first policy's name wins.
        let found = self.network_policies.iter().rev().filter(judges);
        found.map(|(key, _)| (key.namespace.clone(), key.name.clone())).collect()
    }
}

/// A `spec` of a kind where the older of two objects wins.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct Dated<S> {
    /// `metadata.creationTimestamp`; none: unknown, taken for older than any that is known.
    pub created: Option<jiff::Timestamp>,
    pub spec: S,
}

/// A WanMapping with the class numbers of its status.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct MappingObject {
    /// As of [`Dated`].
    pub created: Option<jiff::Timestamp>,
    /// Of the API server; none in a folder.
    pub uid: Option<String>,
    /// `metadata.generation`.
    pub generation: Option<i64>,
    pub spec: WanMappingSpec,
    #[serde(default)]
    pub classes: Vec<ClassNumber>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::read_all;

    fn snapshot(policies: &str) -> Snapshot {
        let pods = "---\napiVersion: v1\nkind: Pod\nmetadata: {name: till-1, namespace: shop, labels: {app: till}}\n\
                    status: {podIP: 10.1.0.5}\n---\napiVersion: v1\nkind: Pod\n\
                    metadata: {name: b, namespace: bank}\nstatus: {podIP: 10.1.0.6}\n";
        let snapshot = read_all("f", &format!("{pods}{policies}"));
        assert_eq!(snapshot.problems, []);
        snapshot
    }

    #[test]
    fn a_policy_for_what_pods_of_the_node_send_closes_their_namespace() {
        for (spec, closed) in [
            ("{podSelector: {}, policyTypes: [Egress]}", true),
            ("{podSelector: {matchLabels: {app: till}}, policyTypes: [Ingress, Egress], egress: []}", true),
            (
                "{podSelector: {matchExpressions: [{key: app, operator: In, values: [till]}]}, policyTypes: [Egress]}",
                true,
            ),
            (
                "{podSelector: {matchExpressions: [{key: app, operator: Nonsense}]}, policyTypes: [Egress]}",
                true,
            ),
            ("{podSelector: {}, egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8}}]}]}", true),
            ("{podSelector: {}, policyTypes: [Ingress]}", false),
            ("{podSelector: {}, ingress: []}", false),
            ("{podSelector: {matchLabels: {app: other}}, policyTypes: [Egress]}", false),
        ] {
            let head = "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n";
            let one =
                |name: &str| format!("{head}metadata: {{name: {name}, namespace: shop}}\nspec: {spec}\n");
            let found = snapshot(&(one("b") + &one("a"))).egress_policies();
            let wanted = closed.then(|| ("shop".to_owned(), "a".to_owned()));
            assert_eq!(found, wanted.into_iter().collect(), "{spec}");
        }
    }
}
