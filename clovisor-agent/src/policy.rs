//! What the objects mean for requests.
//!
//! **In**: `Snapshot`, the class allocation so far. **Out**: [`model::Policy`] and problems; the class of one
//! request. **Never**: I/O, clocks, randomness: the same input gives the same policy.

pub mod matcher;

pub mod rule;

pub mod model;

pub mod allocation;

pub(crate) mod hosts;

pub(crate) mod service;

mod route;

mod http_route;

pub(crate) mod claim;

pub(crate) mod objects;

mod traffic;

pub mod compile;

pub mod decide;

pub mod explain;

pub mod packet;

pub mod sidecar;
