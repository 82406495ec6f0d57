//! Where objects come from.
//!
//! **In**: a folder of YAML, or the API server. **Out**: `watch<Arc<Snapshot>>`. **Owns**: the watches, the last
//! good state of each object, the saved objects. **Never**: decides what an object means for traffic.

pub mod folder;

pub mod saved;

pub mod api;
