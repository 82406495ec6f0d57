//! Objects as the API server sends them.

use super::store::Raw;
use clovisor_objects::identity::{Identity, ObjectKey, ObjectKind};
use clovisor_objects::node::Node;
use clovisor_objects::object::{Metadata, decode};
use clovisor_objects::tree::Tree;
use kube::ResourceExt as _;
use kube::api::DynamicObject;

/// Namespace and name.
pub(super) fn key(object: &DynamicObject) -> ObjectKey {
    ObjectKey { namespace: object.namespace().unwrap_or_default(), name: object.name_any() }
}

/// The object, decoded as far as it is valid.
pub(super) fn raw(kind: ObjectKind, object: &DynamicObject) -> Raw {
    let metadata = Metadata {
        creation_timestamp: object.creation_timestamp().map(|time| time.0),
        uid: object.uid(),
        generation: object.metadata.generation,
        name: object.metadata.name.clone(),
        namespace: object.namespace(),
        labels: object.labels().clone(),
        annotations: object.annotations().clone(),
    };
    let identity = Identity { kind, key: key(object) };
    let node = Node::from(&object.data);
    let tree = Tree { node: &node, source: None, offset: 0 };
    Raw { identity, decoded: decode(kind, &tree, &metadata) }
}
