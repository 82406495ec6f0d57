//! What sidecars need for a mapping: data that the later stages write out.

use crate::cluster::snapshot::ObjectKey;
use crate::policy::class::ClassId;
use crate::policy::model::RouteDecision;
use serde_json::Value;
use std::collections::BTreeSet;

/// What the sidecars of a mapping's namespace need for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Sidecar {
    pub mapping: ObjectKey,
    pub decision: RouteDecision,
    /// The mapping would rather have no answer than the default route.
    pub refuses: bool,
    /// Headers that its rules look at, lower case.
    pub headers: BTreeSet<String>,
    pub switches: Vec<Switch>,
}

impl Sidecar {
    /// Every class that its requests can have.
    #[must_use]
    pub fn classes(&self) -> BTreeSet<ClassId> {
        self.decision.classes()
    }
}

/// An Envoy route whose requests get a class.
#[derive(Clone, Debug, PartialEq)]
pub struct Switch {
    /// Host of the virtual host `HOST:PORT`.
    pub host: String,
    pub port: u16,
    /// Envoy's name of the route; none: every route of the virtual host.
    pub route: Option<String>,
    /// Its destinations; several: by weight.
    pub to: Vec<Target>,
}

/// A destination of a route.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    pub host: String,
    pub port: u16,
    pub subset: Option<String>,
    /// Only looked at where there are several.
    pub weight: i32,
    /// `headers` of a weighted destination, as in a VirtualService.
    pub headers: Option<Value>,
    /// Namespace of the service.
    pub home: String,
}
