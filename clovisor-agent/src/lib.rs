//! The node half of Clovisor in user space: everything but the kernel programs.
//!
//! The modules below form one list, and each may use only those above it.
#![forbid(unsafe_code)]

/// Files, folders and sockets that a reader never finds half made.
pub mod files;

/// An error with its causes, in one line.
pub mod causes;

/// Flags and environment, checked, as one value per module.
pub mod config;

/// Folder of YAML (later the API server) to consistent snapshots of typed objects.
pub mod cluster;

/// Snapshot to policy: classes, routes, problems; one request to its class.
pub mod policy;

/// Policies as configuration of proxies: Envoy's files, or Istio's objects.
pub mod render;

/// What netlink says of this node: devices, addresses, routes, neighbours.
pub mod host;

/// The only door to BPF: load, pin, adopt, image, diff, flows, counters.
pub mod kernel;

/// The node's links: health, and which of a mapping's links to use.
pub mod link;

/// Policy, links and network to what the kernel half shall do.
pub mod desired;

/// The files of the Envoys that Clovisor configures, kept like the policy.
pub mod envoy;

/// What one process of a cluster does for all nodes.
pub mod controller;

/// Envoy's callout: one request in, one class out.
pub mod session;

/// The local API and what it shows.
pub mod admin;

/// `clovisorctl`: asks the local API, prints tables.
pub mod ctl;

/// `clovisor-agent cleanup`: removes what is ours from the kernel.
pub mod uninstall;

/// Builds the stages, connects them, drains them in reverse.
pub mod app;
