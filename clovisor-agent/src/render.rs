//! Policies as configuration of proxies: Envoy's files, or Istio's objects.
//!
//! **In**: a namespace's policy, or the plans for sidecars. **Out**: texts and JSON documents. **Owns**: nothing.
//! **Never**: reads or writes a file, waits.

/// Settings that all files of a namespace share.
pub mod proxy;

/// Names that several resources, files or their readers share.
pub mod names;

/// Discovery responses as text.
pub mod resources;

mod scope;

mod matching;

mod route;

mod cluster;

mod listener;

mod bootstrap;

/// A namespace's policy to the files of its Envoys.
pub mod namespace;

/// Plans for sidecars to the objects that Istio's control plane turns into their configuration.
pub mod istio;

#[cfg(test)]
mod hostile;
