//! This node's state, reported to the cluster.
//!
//! **In**: links, the kernel's state, readiness. **Out**: the status of the node's WanNode, Events. **Owns**: that
//! WanNode. **Never**: needed by steering; decides.

/// Writes Events.
pub mod events;

/// The state of a node as conditions; pure.
mod node;

/// When the next write may happen; pure.
mod pace;

/// Writes to the API server about this node.
mod writer;

/// The task.
pub mod run;
