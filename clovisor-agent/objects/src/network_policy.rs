//! The part of a `NetworkPolicy` that Clovisor reads: its pods, and whether it is for egress.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::{Selector, SelectorExt as _};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// `spec` of a `NetworkPolicy`.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct NetworkPolicy {
    /// Pods of its namespace; empty: all.
    #[serde(default)]
    pub pod_selector: LabelSelector,
    /// `Ingress`, `Egress`; the API server sets the default.
    #[serde(default)]
    pub policy_types: Vec<String>,
    /// The rules are not read.
    #[serde(default)]
    pub egress: Vec<serde_json::Value>,
}

impl NetworkPolicy {
    /// The policy is for egress: by `policyTypes` or, without it, by its egress rules.
    #[must_use]
    pub fn is_for_egress(&self) -> bool {
        match self.policy_types.is_empty() {
            true => !self.egress.is_empty(),
            false => self.policy_types.iter().any(|kind| kind == "Egress"),
        }
    }

    /// The policy selects a pod with these labels. An invalid selector selects every pod, to be on the safe side.
    #[must_use]
    pub fn selects_any<'a>(&self, mut pods: impl Iterator<Item = &'a BTreeMap<String, String>>) -> bool {
        let selector = Selector::try_from(self.pod_selector.clone()).unwrap_or_default();
        pods.any(|labels| selector.matches(labels))
    }
}
