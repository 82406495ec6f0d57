//! Test sites: network namespaces with two WAN links, real Envoys, the agent, and a far end that tells
//! by which link each connection came.
//!
//! **In**: a site's shape, the objects to apply, the requests to send. **Out**: what the far end saw, judged.
//! **Owns**: namespaces, processes and folders of the sites it builds. **Never**: touches the host's own network.
#![allow(clippy::missing_errors_doc, reason = "every error of the harness fails the test that asked")]
#![allow(clippy::must_use_candidate, reason = "tests use what they ask for")]

/// Namespaces and what is done inside them.
pub mod netns;

/// Waiting with a deadline.
pub mod eventually;

/// The checkout that the tests run in.
pub mod repository;

/// Child processes with a log file each.
pub mod process;

/// Certificates of the mesh.
pub mod certs;

/// Reading the SYN that the kernel kept of an accepted connection.
pub mod saved_syn;

/// The far end: an HTTP server that answers with the observed about its connection.
pub mod far_end;

/// A real Kubernetes of two nodes.
pub mod cluster;

/// What Istio's control plane makes of Clovisor's objects.
pub mod istiod;

/// The load generator.
pub mod load;

/// One request by hand: any uid, any DSCP, any source address.
pub mod probe;

/// Observations to a verdict.
pub mod summary;

/// Envoy: where it is, and the configuration of the cloud's gateway.
pub mod envoy;

/// The agent as a child process, and its local API.
pub mod agent;

/// A real Kubernetes API server.
pub mod apiserver;

/// Files as people write them.
pub mod corpus;

/// Objects that tests apply.
pub mod objects;

/// The kernel half's object without an agent.
pub mod programs;

/// The kernel half alone, between three namespaces.
pub mod datapath_site;

/// What sockets say across that wire.
pub mod sockets;

/// What passes devices.
pub mod capture;

/// The site builder.
pub mod site;
