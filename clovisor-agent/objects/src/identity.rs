//! What names an object: kind, namespace and name.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A kind of object that Clovisor reads. In the order of the names.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ObjectKind {
    DestinationRule,
    #[serde(rename = "HTTPRoute")]
    HttpRoute,
    NetworkPolicy,
    Node,
    Pod,
    Service,
    ServiceEntry,
    VirtualService,
    WanLink,
    WanMapping,
    WanNode,
}

impl ObjectKind {
    /// The kind of a document; none: Clovisor does not read it.
    #[must_use]
    pub fn of(api_version: &str, kind: &str) -> Option<Self> {
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        match (group, kind) {
            ("clovisor.io", "WanLink") => Some(Self::WanLink),
            ("clovisor.io", "WanNode") => Some(Self::WanNode),
            ("clovisor.io", "WanMapping") => Some(Self::WanMapping),
            ("networking.istio.io", "VirtualService") => Some(Self::VirtualService),
            ("gateway.networking.k8s.io", "HTTPRoute") => Some(Self::HttpRoute),
            ("networking.istio.io", "DestinationRule") => Some(Self::DestinationRule),
            ("networking.istio.io", "ServiceEntry") => Some(Self::ServiceEntry),
            ("networking.k8s.io", "NetworkPolicy") => Some(Self::NetworkPolicy),
            ("", "Service") => Some(Self::Service),
            ("", "Node") => Some(Self::Node),
            ("", "Pod") => Some(Self::Pod),
            _ => None,
        }
    }

    /// `kind` of its objects.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::DestinationRule => "DestinationRule",
            Self::HttpRoute => "HTTPRoute",
            Self::NetworkPolicy => "NetworkPolicy",
            Self::Node => "Node",
            Self::Pod => "Pod",
            Self::Service => "Service",
            Self::ServiceEntry => "ServiceEntry",
            Self::VirtualService => "VirtualService",
            Self::WanLink => "WanLink",
            Self::WanMapping => "WanMapping",
            Self::WanNode => "WanNode",
        }
    }

    /// Whether its objects are in a namespace.
    #[must_use]
    pub const fn is_namespaced(self) -> bool {
        !matches!(self, Self::Node | Self::WanLink | Self::WanNode)
    }
}

impl fmt::Display for ObjectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Namespace and name of an object; the namespace of a cluster-scoped one is empty.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    pub namespace: String,
    pub name: String,
}

impl fmt::Display for ObjectKey {
    /// `NAMESPACE/NAME`, or the name alone where there is no namespace.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.namespace.as_str() {
            "" => f.write_str(&self.name),
            namespace => write!(f, "{namespace}/{}", self.name),
        }
    }
}

/// Kind, namespace and name: two documents with the same are one object.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Identity {
    pub kind: ObjectKind,
    pub key: ObjectKey,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_written_by_its_name() {
        let kinds = [
            ("clovisor.io/v1alpha1", "WanLink"),
            ("gateway.networking.k8s.io/v1", "HTTPRoute"),
            ("v1", "Pod"),
        ];
        for (version, name) in kinds {
            let kind = ObjectKind::of(version, name);
            assert_eq!(kind.map(ObjectKind::name), Some(name));
            assert_eq!(serde_json::to_value(kind).ok(), Some(name.into()));
        }
        assert_eq!(ObjectKind::of("apps/v1", "Pod"), None);
    }
}
