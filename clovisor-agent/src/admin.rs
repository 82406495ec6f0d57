//! What the agent tells about itself.
//!
//! **In**: the watch channels of the other stages, flow dumps. **Out**: the local API on a unix socket.
//! **Never**: changes anything.

/// The documents of the API, which `clovisorctl -o json` prints too.
pub mod api;

/// What readiness still waits for.
pub mod ready;

/// Problems as documents; pure.
pub mod problems;

/// The documents from what the other stages publish; pure.
pub mod view;

/// One request from the route to the link; pure.
pub mod explain;

/// The state of this node for an explanation; pure.
pub mod node_view;

/// The node's own object in the cluster.
pub mod node;

/// Counters and states as OpenMetrics; pure.
pub mod metrics;

/// Health and metrics over TCP.
pub mod listen;

/// The API on its socket.
pub mod serve;
