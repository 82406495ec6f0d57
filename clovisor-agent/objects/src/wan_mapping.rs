//! `WanMapping`: which links the requests of a route may use.
#![allow(unreachable_pub, reason = "KubeSchema repeats each struct inside a function")]

/// Packets by their destination.
pub mod traffic;

use super::words::Words;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;
use traffic::TrafficSelector;

/// For the requests of some routes: an ordered list of links and what to do when they fail.
#[derive(CustomResource, Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Eq)]
#[kube(
    group = "clovisor.io",
    version = "v1alpha1",
    kind = "WanMapping",
    doc = "For the requests of some routes: an ordered list of links and what to do when they fail.",
    namespaced,
    shortname = "wm",
    category = "clovisor",
    status = "WanMappingStatus",
    validation = Rule::new("self.metadata.name.size() <= 63").message("the name must have at most 63 characters"),
    printcolumn(json_path = ".spec.targetRefs[*].name", name = "Target", type_ = "string"),
    printcolumn(json_path = ".spec.links", name = "Links", type_ = "string"),
    printcolumn(json_path = ".status.conditions[?(@.type=='Accepted')].status", name = "Accepted", type_ = "string"),
    printcolumn(json_path = ".status.conditions[?(@.type=='Ready')].status", name = "Ready", type_ = "string"),
    printcolumn(json_path = ".status.conditions[?(@.type=='Accepted')].reason", name = "Reason", type_ = "string"),
    printcolumn(json_path = ".spec.onLinksDown", name = "OnLinksDown", type_ = "string", priority = 1),
    printcolumn(json_path = ".spec.onAgentLoss", name = "OnAgentLoss", type_ = "string", priority = 1),
    printcolumn(json_path = ".metadata.creationTimestamp", name = "Age", type_ = "date")
)]
#[x_kube(
    validation = Rule::new(
        "(has(self.links) && size(self.links) > 0) || (has(self.rules) && size(self.rules) > 0)"
    ).message("name links, or rules with links"),
    validation = Rule::new(
        "(has(self.targetRefs) && size(self.targetRefs) > 0) != has(self.traffic)"
    ).message("give either targetRefs or traffic"),
    validation = Rule::new("!has(self.traffic) || !has(self.rules) || size(self.rules) == 0")
        .message("traffic has no requests: rules need targetRefs")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WanMappingSpec {
    /// Routes whose requests this mapping governs, in its own namespace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub target_refs: Vec<TargetRef>,
    /// Instead of routes: packets of pods by their destination. No proxy is needed; a connection is decided once, by
    /// its first packet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic: Option<TrafficSelector>,
    /// Links in order of preference. Empty: the default route (only useful with `rules`). Connections on a link that is
    /// taken out leave it at once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub links: Vec<String>,
    /// Finer decisions that a route cannot express; the first that matches wins, else `links` hold.
    /// The proxy asks the agent for each request of the targeted routes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub rules: Vec<MappingRule>,
    /// What established connections do when a better link comes up.
    #[serde(default)]
    pub established: Established,
    /// What requests do when none of their links is usable.
    #[serde(default)]
    pub on_links_down: Fallback,
    /// What requests that need the agent's decision do when it does not answer.
    #[serde(default)]
    pub on_agent_loss: Fallback,
    /// DSCP 0..=63 that steered packets carry on the link. Default: 0; with `traffic`, what the application sets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 63))]
    pub dscp: Option<i32>,
}

/// The state of the mapping, written by the controller.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct WanMappingStatus {
    /// `Accepted`: its requests can be told apart and steered; the reason of the refusal else. `Programmed`: what
    /// proxies need is written. `Degraded`: some of its links cannot be used. `Ready`: all in all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// The numbers of its classes in its namespace: one of `links` (without a name) and one of each rule. A number
    /// stays while its owner exists; node agents and proxies use it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 33))]
    pub classes: Vec<ClassNumber>,
}

/// A class and its number.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ClassNumber {
    /// Name of the rule; none: the mapping's own `links`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// The number, 1..=16.
    #[schemars(range(min = 1, max = 16))]
    pub number: i32,
}

/// A route: an object and the name of one of its sections (GEP-713).
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new(
        "(self.group == 'networking.istio.io' && self.kind == 'VirtualService') || \
         (self.group == 'gateway.networking.k8s.io' && self.kind == 'HTTPRoute')"
    ).message("only networking.istio.io/VirtualService and gateway.networking.k8s.io/HTTPRoute can be targets")
)]
pub struct TargetRef {
    /// API group, e.g. "networking.istio.io".
    #[schemars(length(max = 253))]
    pub group: String,
    /// Kind, e.g. "VirtualService".
    #[schemars(length(max = 63))]
    pub kind: String,
    /// Name of the object.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Name of the route inside the object (`http[].name`). Default: all its routes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub section_name: Option<String>,
}

/// One decision of the callout: all conditions must hold.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new(
        "(has(self.headers) && size(self.headers) > 0) || has(self.path) || (has(self.methods) && size(self.methods) > 0)"
    ).message("give at least one condition: headers, path or methods")
)]
pub struct MappingRule {
    /// Name, unique in the mapping; shown by `explain`.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Conditions on request headers; all must hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub headers: Vec<HeaderRule>,
    /// Condition on the path without the query.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<ValueMatch>,
    /// Request methods, e.g. "GET"; any of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub methods: Vec<String>,
    /// Links in order of preference.
    #[schemars(length(min = 1, max = 16))]
    pub links: Vec<String>,
}

/// A condition on one header.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new(
        "[has(self.exact), has(self.prefix), has(self.regex), has(self.__in__)].filter(one, one).size() == 1"
    ).message("set exactly one of exact, prefix, regex, in")
)]
pub struct HeaderRule {
    /// Header name, any case.
    pub name: String,
    /// The whole value, case-sensitive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exact: Option<String>,
    /// Its beginning, case-sensitive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// RE2 syntax, matched against the whole value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regex: Option<String>,
    /// One of these values, case-sensitive; thousands are fine.
    #[serde(default, rename = "in", skip_serializing_if = "Words::is_empty")]
    #[schemars(with = "Vec<String>", length(max = 50_000))]
    pub one_of: Words,
}

impl HeaderRule {
    /// The condition on the value.
    #[must_use]
    pub fn value(&self) -> ValueMatch {
        ValueMatch {
            exact: self.exact.clone(),
            prefix: self.prefix.clone(),
            regex: self.regex.clone(),
            one_of: self.one_of.clone(),
        }
    }
}

/// A condition on a value: exactly one of the fields.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new(
        "[has(self.exact), has(self.prefix), has(self.regex), has(self.__in__)].filter(one, one).size() == 1"
    ).message("set exactly one of exact, prefix, regex, in")
)]
pub struct ValueMatch {
    /// The whole value, case-sensitive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exact: Option<String>,
    /// Its beginning, case-sensitive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// RE2 syntax, matched against the whole value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regex: Option<String>,
    /// One of these values, case-sensitive; thousands are fine.
    #[serde(default, rename = "in", skip_serializing_if = "Words::is_empty")]
    #[schemars(with = "Vec<String>", length(max = 50_000))]
    pub one_of: Words,
}

/// Established connections and a change of link.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Established {
    /// They move where the link allows it (no NAT).
    Follow,
    /// They keep their link while it is up.
    #[default]
    Stay,
}

/// What to do when the wanted way is gone.
#[derive(
    Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord,
)]
pub enum Fallback {
    /// Go on by the default route, unsteered.
    #[default]
    Default,
    /// Fail the request.
    Refuse,
}

impl fmt::Display for Fallback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Default => "Default",
            Self::Refuse => "Refuse",
        })
    }
}
