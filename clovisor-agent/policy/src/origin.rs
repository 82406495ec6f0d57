//! Objects that define routes.

use clovisor_objects::identity::{ObjectKey, ObjectKind};
use clovisor_objects::problem::Subject;
use std::fmt;

/// An object that defines routes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RouteOrigin {
    VirtualService(ObjectKey),
    HttpRoute(ObjectKey),
}

impl RouteOrigin {
    /// Namespace and name of the object.
    #[must_use]
    pub const fn key(&self) -> &ObjectKey {
        match self {
            Self::VirtualService(key) | Self::HttpRoute(key) => key,
        }
    }

    /// Kind of the object.
    #[must_use]
    pub const fn kind(&self) -> ObjectKind {
        match self {
            Self::VirtualService(_) => ObjectKind::VirtualService,
            Self::HttpRoute(_) => ObjectKind::HttpRoute,
        }
    }

    /// The object as the subject of a problem.
    #[must_use]
    pub fn subject(&self) -> Subject {
        Subject::object(self.kind(), self.key())
    }
}

impl fmt::Display for RouteOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind(), self.key())
    }
}
