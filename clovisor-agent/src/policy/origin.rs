//! Objects that routes come from.

use crate::cluster::snapshot::ObjectKey;
use std::fmt;

/// An object with routes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    VirtualService(ObjectKey),
    HttpRoute(ObjectKey),
}

impl Origin {
    /// Namespace and name of the object.
    #[must_use]
    pub const fn key(&self) -> &ObjectKey {
        match self {
            Self::VirtualService(key) | Self::HttpRoute(key) => key,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::VirtualService(key) => write!(f, "VirtualService {key}"),
            Self::HttpRoute(key) => write!(f, "HTTPRoute {key}"),
        }
    }
}
