//! Where objects come from.
//!
//! **In**: a folder of YAML. **Out**: `watch<Arc<Snapshot>>`. **Owns**: the watch on the folder and the
//! last good state of each file. **Never**: decides what an object means for traffic.

pub mod wan_link;

pub mod istio;

pub mod pod;

pub mod wan_mapping;

pub mod snapshot;

pub mod document;

pub mod folder;
