//! `WanMapping`: which links the requests of a route may use.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// For the requests of some routes: an ordered list of links and what to do when they fail.
#[derive(CustomResource, Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[kube(
    group = "clovisor.io",
    version = "v1alpha1",
    kind = "WanMapping",
    namespaced,
    shortname = "wm",
    category = "clovisor"
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WanMappingSpec {
    /// Routes whose requests this mapping governs, in its own namespace.
    pub target_refs: Vec<TargetRef>,
    /// Links in order of preference. Empty: the default route (only useful with `rules`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<String>,
    /// Finer decisions that a route cannot express; the first that matches wins, else `links` hold.
    /// The proxy asks the agent for each request of the targeted routes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Rule>,
    /// What established connections do when a better link comes up.
    #[serde(default)]
    pub established: Established,
    /// What requests do when none of their links is usable.
    #[serde(default)]
    pub on_links_down: Fallback,
    /// What requests that need the agent's decision do when it does not answer.
    #[serde(default)]
    pub on_agent_loss: Fallback,
    /// DSCP 0..=63 that steered packets carry on the link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 63))]
    pub dscp: Option<i32>,
}

/// A route: an object and the name of one of its sections (GEP-713).
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TargetRef {
    /// API group, e.g. "networking.istio.io".
    pub group: String,
    /// Kind, e.g. "VirtualService".
    pub kind: String,
    /// Name of the object.
    pub name: String,
    /// Name of the route inside the object (`http[].name`). Default: all its routes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub section_name: Option<String>,
}

/// One decision of the callout: all conditions must hold.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rule {
    /// Name, unique in the mapping; shown by `explain`.
    pub name: String,
    /// Conditions on request headers; all must hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<HeaderRule>,
    /// Condition on the path without the query.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<ValueMatch>,
    /// Request methods, e.g. "GET"; any of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
    /// Links in order of preference.
    pub links: Vec<String>,
}

/// A condition on one header.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
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
    #[serde(default, rename = "in", skip_serializing_if = "Vec::is_empty")]
    pub one_of: Vec<String>,
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
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
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
    #[serde(default, rename = "in", skip_serializing_if = "Vec::is_empty")]
    pub one_of: Vec<String>,
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
