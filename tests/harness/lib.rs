//! Test sites: network namespaces with two WAN links, real Envoys, the agent, and a far end that tells
//! by which link each connection came.
//!
//! **In**: a site's shape, the objects to apply, the requests to send. **Out**: what the far end saw, judged.
//! **Owns**: namespaces, processes and folders of the sites it builds. **Never**: touches the host's own network.

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

/// The far end: an HTTP server that answers with the truth about its connection.
pub mod truth;

/// A real Kubernetes of two nodes.
pub mod cluster;

/// What Istio's control plane makes of Clovisor's objects.
pub mod istiod;

/// The load generator.
pub mod load;

/// One request by hand: any uid, any DSCP, any source address.
pub mod probe;

/// Observations to a verdict.
pub mod tally;

/// Envoy: where it is, and the configuration of the cloud's gateway.
pub mod envoy;

/// The agent as a child process, and its local API.
pub mod agent;

/// A real Kubernetes API server.
pub mod apiserver;

/// Objects that tests apply.
pub mod objects;

/// The kernel half's object without an agent.
pub mod programs;

/// The kernel half alone, between three namespaces.
pub mod wire;

/// What sockets say across that wire.
pub mod talk;

/// What passes devices.
pub mod capture;

/// The site builder.
pub mod site;
