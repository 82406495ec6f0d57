//! What Istio's sidecars need for a mapping.

use crate::class::ClassId;
use crate::model::RouteDecision;
use clovisor_objects::identity::ObjectKey;
use serde_json::Value;
use std::collections::BTreeSet;

/// What the sidecars of a mapping's namespace need for it.
#[derive(Clone, Debug, PartialEq)]
pub struct SidecarPlan {
    pub mapping: ObjectKey,
    pub decision: RouteDecision,
    /// The mapping prefers a failed request to the default route.
    pub refuses: bool,
    /// Headers that its rules read, in lower case.
    pub headers: BTreeSet<String>,
    pub patches: Vec<RoutePatch>,
}

impl SidecarPlan {
    /// Every class that the requests of the mapping can have.
    #[must_use]
    pub fn classes(&self) -> BTreeSet<ClassId> {
        self.decision.classes()
    }
}

/// An Envoy route whose requests get a class.
#[derive(Clone, Debug, PartialEq)]
pub struct RoutePatch {
    /// Host of the virtual host `HOST:PORT`.
    pub host: String,
    pub port: u16,
    /// Envoy's name of the route; none: every route of the virtual host.
    pub route: Option<String>,
    /// Several: the route is weighted.
    pub destinations: Vec<RouteDestination>,
}

/// A destination of a route.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteDestination {
    pub host: String,
    pub port: u16,
    pub subset: Option<String>,
    /// Its share of the requests, where there are several destinations.
    pub weight: i32,
    /// `headers` of a weighted destination, as in a VirtualService.
    pub headers: Option<Value>,
    /// Namespace of the host.
    pub namespace: String,
}
