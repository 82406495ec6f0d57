//! Files for the Envoys that Clovisor configures.
//!
//! **In**: `Policy`. **Out**: bootstrap, listener, cluster and route files per namespace, written in an order
//! that never names a cluster that is not there. **Owns**: the folder of these files.
//! **Never**: sockets.

/// One namespace's policy to the text of its files; pure.
pub mod render;

/// Plans for sidecars to the objects that Istio's control plane turns into their configuration; pure.
pub mod istio;

/// Old and new files to an ordered list of writes; pure.
pub mod steps;

/// The folder on disk: what is there, and one write at a time.
pub mod folder;

/// The task that keeps the folder like the policy.
pub mod run;

mod bootstrap;
mod cluster;
mod listener;
mod matching;
mod names;
mod resources;
mod route;
mod scope;

#[cfg(test)]
mod hostile;
