//! Policies as configuration of proxies: Envoy's files, or Istio's objects.
//!
//! **In**: a namespace's policy, or the plans for sidecars. **Out**: texts and JSON documents. **Owns**: nothing.
//! **Never**: reads or writes a file, waits.
#![forbid(unsafe_code)]

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

/// The documents of the local API, which `clovisorctl -o json` prints too.
pub mod api;

/// Problems as documents.
pub mod problems;

/// One request from its route to its link.
pub mod explain;

#[cfg(test)]
mod hostile;
