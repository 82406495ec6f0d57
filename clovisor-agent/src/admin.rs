//! The agent's state for people and for monitoring.
//!
//! **In**: the watch channels of the other stages, flow dumps. **Out**: the local API on a unix socket; health and
//! metrics over TCP. **Owns**: the API's socket. **Never**: changes anything.

/// The documents from what the other stages publish; pure.
pub mod view;

/// The state of this node for an explanation; pure.
pub mod node_view;

/// Counters and states as OpenMetrics; pure.
pub mod metrics;

/// Health and metrics over TCP.
pub mod listen;

/// The API on its socket.
pub mod serve;
