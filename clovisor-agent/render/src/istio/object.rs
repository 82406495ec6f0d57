//! An Istio object that Clovisor writes: its kind, its labels, and when it may be written.

use clovisor_objects::identity::ObjectKey;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

/// API group and version of a DestinationRule.
pub const RULE_VERSION: &str = "networking.istio.io/v1";
/// API group and version of an EnvoyFilter.
pub const FILTER_VERSION: &str = "networking.istio.io/v1alpha3";
/// Namespace of the mappings that an object serves.
pub const NAMESPACE_LABEL: &str = "clovisor.io/namespace";
/// Mapping that an object serves, where it is one.
pub const MAPPING_LABEL: &str = "clovisor.io/mapping";

/// What sidecars need to know of the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IstioConfig {
    /// The agent's callout socket, as the sidecar sees it.
    pub callout: PathBuf,
    /// How long a request waits for the agent's answer.
    pub callout_timeout: Duration,
}

impl Default for IstioConfig {
    fn default() -> Self {
        Self {
            callout: PathBuf::from("/run/clovisor/callout/callout.sock"),
            callout_timeout: Duration::from_millis(50),
        }
    }
}

/// What must be in force at the proxies before the next is written; removed in reverse.
///
/// Clusters and routes in one push cost requests: Envoy may use a route before its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    Classes,
    Routes,
}

/// An object to be written.
#[derive(Clone, Debug, PartialEq)]
pub struct IstioObject {
    pub phase: Phase,
    pub kind: IstioKind,
    pub key: ObjectKey,
    /// The mappings that it serves; those of its own namespace own it.
    pub mappings: BTreeSet<ObjectKey>,
    pub spec: Value,
}

/// IstioKind of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum IstioKind {
    DestinationRule,
    EnvoyFilter,
}

impl IstioKind {
    /// `kind`, `apiVersion` and the resource's name in URLs.
    #[must_use]
    pub const fn names(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::DestinationRule => ("DestinationRule", RULE_VERSION, "destinationrules"),
            Self::EnvoyFilter => ("EnvoyFilter", FILTER_VERSION, "envoyfilters"),
        }
    }
}

impl IstioObject {
    /// The whole object, without owners.
    #[must_use]
    pub fn document(&self) -> Value {
        let (kind, version, _) = self.kind.names();
        let mut labels = BTreeMap::from([
            ("app.kubernetes.io/managed-by", "clovisor"),
            ("app.kubernetes.io/part-of", "clovisor"),
        ]);
        let mut mappings = self.mappings.iter();
        if let Some(first) = mappings.next() {
            labels.insert(NAMESPACE_LABEL, &first.namespace);
            if mappings.next().is_none() {
                labels.insert(MAPPING_LABEL, &first.name);
            }
        }
        let ObjectKey { namespace, name } = &self.key;
        let metadata = json!({ "name": name, "namespace": namespace, "labels": labels });
        json!({ "apiVersion": version, "kind": kind, "metadata": metadata, "spec": self.spec })
    }
}
