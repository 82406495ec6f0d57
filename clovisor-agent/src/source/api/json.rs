//! Objects as the API server sends them.

use super::store::Raw;
use clovisor_objects::identity::{Identity, ObjectKey, ObjectKind};
use clovisor_objects::object::{Body, Metadata, decode};
use clovisor_objects::refusal::Refusal;
use kube::ResourceExt as _;
use kube::api::DynamicObject;
use serde::de::DeserializeOwned;
use serde_json::Value;

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
    Raw { identity, decoded: decode(kind, &Json(&object.data), &metadata) }
}

/// An object from the server; an error names the field path.
struct Json<'a>(&'a Value);

impl Json<'_> {
    fn part<S: DeserializeOwned>(&self, name: &str) -> Option<Result<S, Refusal>> {
        let part = self.0.get(name)?;
        Some(serde_path_to_error::deserialize(part).map_err(|error| {
            let path = error.path().to_string();
            let dot = if path.starts_with('[') || path == "." { "" } else { "." };
            let field = format!("{name}{dot}{}", path.trim_matches('.'));
            Refusal::invalid_object(field, error.into_inner().to_string())
        }))
    }
}

impl Body for Json<'_> {
    fn spec<S: DeserializeOwned>(&self) -> Result<S, Refusal> {
        self.part("spec").unwrap_or_else(|| Err(Refusal::invalid_object("spec", "is missing")))
    }

    fn spec_or_default<S: DeserializeOwned + Default>(&self) -> Result<S, Refusal> {
        self.part("spec").unwrap_or_else(|| Ok(S::default()))
    }

    fn status<S: DeserializeOwned + Default>(&self) -> Result<S, Refusal> {
        self.part("status").unwrap_or_else(|| Ok(S::default()))
    }
}
