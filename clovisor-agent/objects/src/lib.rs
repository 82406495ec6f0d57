//! The objects that Clovisor reads and writes.
//!
//! **In**: YAML or JSON documents, a folder of them. **Out**: typed objects, a consistent [`snapshot::Snapshot`],
//! problems by object and field. **Owns**: the CRDs of group `clovisor.io`. **Never**: decides what an object means for
//! traffic; waits, or talks to an API server.
#![forbid(unsafe_code)]

pub mod family;

pub mod printable;

pub mod identity;

pub mod reason;

pub mod refusal;

pub mod problem;

pub mod near;

pub mod node;

pub mod decode;

pub mod words;

pub mod wan_link;

pub mod istio;

pub mod gateway;

pub mod kube_node;

pub mod pod;

pub mod service;

pub mod network_policy;

pub mod wan_mapping;

pub mod wan_node;

pub mod condition;

pub mod snapshot;

/// What changed between two snapshots, for people.
pub mod change;

pub mod object;

pub mod tree;

pub mod limits;

/// Names, and the fields around a `spec`.
mod frame;

pub mod pieces;

pub mod kinds;

pub mod document;

pub mod last_good;

pub mod listing;

mod file;

pub mod folder;
