//! Objects as the API server sends them.

use super::store::Raw;
use crate::cluster::object::{Body, Failure, Identity, Metadata, Object, decode};
use crate::cluster::snapshot::ObjectKey;
use kube::ResourceExt as _;
use kube::api::DynamicObject;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Namespace and name.
pub(super) fn key(object: &DynamicObject) -> ObjectKey {
    ObjectKey { namespace: object.namespace().unwrap_or_default(), name: object.name_any() }
}

/// The object, decoded as far as it is valid.
pub(super) fn raw(kind: &'static str, object: &DynamicObject) -> Raw {
    let metadata = Metadata {
        creation_timestamp: object.creation_timestamp().map(|time| time.0),
        uid: object.uid(),
        generation: object.metadata.generation,
        name: object.metadata.name.clone(),
        namespace: object.namespace(),
        labels: object.labels().clone(),
        annotations: object.annotations().clone(),
    };
    let identity = Identity { kind: kind.to_owned(), key: key(object) };
    Raw { identity, decoded: decode(kind, &Json(&object.data), &metadata) as Result<Object, Failure> }
}

/// An object from the server; an error names the field path.
struct Json<'a>(&'a Value);

impl Json<'_> {
    fn part<S: DeserializeOwned>(&self, name: &str) -> Option<Result<S, Failure>> {
        let part = self.0.get(name)?;
        Some(serde_path_to_error::deserialize(part).map_err(|error| {
            let path = error.path().to_string();
            let dot = if path.starts_with('[') || path == "." { "" } else { "." };
            (format!("{name}{dot}{}", path.trim_matches('.')), error.into_inner().to_string())
        }))
    }
}

impl Body for Json<'_> {
    fn spec<S: DeserializeOwned>(&self) -> Result<S, Failure> {
        self.part("spec").unwrap_or_else(|| Err(("spec".into(), "is missing".into())))
    }

    fn status<S: DeserializeOwned + Default>(&self) -> Result<S, Failure> {
        self.part("status").unwrap_or_else(|| Ok(S::default()))
    }
}
