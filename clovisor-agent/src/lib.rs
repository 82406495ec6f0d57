//! The node half of Clovisor in user space: everything but the kernel programs.
//!
//! The modules below form one list, and each may use only those above it. The documentation of each module
//! states its inputs and outputs, what it owns and what it never does.
#![forbid(unsafe_code)]

/// The log.
pub mod log;

/// Readiness.
pub mod ready;

/// Flags and environment.
pub mod config;

/// Connections with limits.
pub mod connection;

/// Where objects come from: a folder, or the API server.
pub mod source;

/// The node's WAN links.
pub mod link;

/// Policy, links and network to what the kernel half shall do.
pub mod desired;

/// The files of Envoys.
pub mod envoy;

/// Envoy's callout.
pub mod session;

/// The node's state, reported to the cluster.
pub mod status;

/// What one process of a cluster does for all nodes.
pub mod controller;

/// The local API, health and metrics.
pub mod admin;

/// `clovisor-agent cleanup`.
pub mod uninstall;

/// The running agent.
pub mod app;
