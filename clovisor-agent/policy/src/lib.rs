//! What the objects mean for requests.
//!
//! **In**: `Snapshot`, the class allocation so far. **Out**: [`model::Policy`] and problems; the class of one
//! request. **Never**: I/O, clocks, randomness: the same input gives the same policy.
#![forbid(unsafe_code)]

pub mod class;

pub mod matcher;

pub mod rule;

pub mod origin;

pub mod local;

pub mod model;

pub mod allocation;

pub mod hosts;

mod protocol;

mod objects;

mod conditions;

mod attachment;

mod mapping;

mod traffic;

mod managed;

pub mod sidecar;

pub mod compiled;

pub mod compile;

pub mod callout;

pub mod decide;

pub mod trace;

pub mod explain;

pub mod packet;
