//! `WanNode`: the links of one node as its agent reports them. Status only; written on change.
#![allow(
    unreachable_pub,
    clippy::duplicated_attributes,
    reason = "KubeSchema repeats each struct inside a function"
)]

use super::family::IpFamily;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

/// The report of a node's agent; the object has the name of its node.
#[derive(CustomResource, Serialize, Deserialize, KubeSchema, Clone, Debug, Default, PartialEq, Eq)]
#[kube(
    group = "clovisor.io",
    version = "v1alpha1",
    kind = "WanNode",
    doc = "What a node's agent says of its links; the object has the name of its node and is written by its agent.",
    shortname = "wn",
    category = "clovisor",
    status = "WanNodeStatus",
    printcolumn(
        json_path = ".status.conditions[?(@.type=='Ready')].status",
        name = "Ready",
        type_ = "string"
    ),
    printcolumn(json_path = ".status.linksReady", name = "Links", type_ = "string"),
    printcolumn(
        json_path = ".status.conditions[?(@.type=='Ready')].reason",
        name = "Reason",
        type_ = "string"
    ),
    printcolumn(json_path = ".status.agentVersion", name = "Version", type_ = "string", priority = 1),
    printcolumn(json_path = ".metadata.creationTimestamp", name = "Age", type_ = "date")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WanNodeSpec {}

/// State of the agent and of the links of its node.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct WanNodeStatus {
    /// `Ready`: programs and maps are in place and every link that the node has is usable, for each address family that
    /// the link should have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// Usable links and all links, e.g. "1/2".
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub links_ready: String,
    /// Each WanLink on this node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub links: Vec<NodeLink>,
    /// Version of the agent.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub agent_version: String,
}

/// A WanLink on one node.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct NodeLink {
    /// Name of the WanLink.
    pub name: String,
    /// `Ready`: it takes traffic, with reason `Partial` if of one address family only though it should have both; the
    /// reason else. `IPv4Ready`, `IPv6Ready`: the same for each family that it has or should have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// The type of the condition that a link is usable for a family.
#[must_use]
pub const fn ready_kind(family: IpFamily) -> &'static str {
    match family {
        IpFamily::V4 => "IPv4Ready",
        IpFamily::V6 => "IPv6Ready",
    }
}

impl NodeLink {
    /// The families that are down although the link should have them, each with the reason.
    #[must_use]
    pub fn lacking(&self) -> Vec<(IpFamily, &str)> {
        let down = |family| {
            let condition = self.conditions.iter().find(|c| c.type_ == ready_kind(family))?;
            (condition.status != "True").then_some((family, condition.reason.as_str()))
        };
        IpFamily::BOTH.into_iter().filter_map(down).collect()
    }
}
