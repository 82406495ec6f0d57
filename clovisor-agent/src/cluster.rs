//! Where objects come from.
//!
//! **In**: a folder of YAML, or the API server. **Out**: `watch<Arc<Snapshot>>`. **Owns**: the watches, the last
//! good state of each object, the saved objects. **Never**: decides what an object means for traffic.

pub mod identity;

pub mod reason;

pub mod refusal;

pub mod problem;

pub mod wan_link;

pub mod istio;

pub mod gateway;

pub mod pod;

pub mod service;

pub mod network_policy;

pub mod wan_mapping;

pub mod wan_node;

pub mod condition;

pub mod snapshot;

pub mod object;

pub mod document;

mod last_good;

pub mod folder;

pub mod folder_watch;

pub mod saved;

pub mod api;
