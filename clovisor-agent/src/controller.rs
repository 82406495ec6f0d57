//! What one process of a cluster does for all: class numbers, status, Istio's objects.
//!
//! **In**: a snapshot without pods, the agents' WanNodes. **Out**: status of WanMappings and WanLinks, Clovisor's own
//! DestinationRules and EnvoyFilters, Events. **Owns**: the Lease `clovisor-controller`.
//! **Never**: needed by steering: nodes go on by what the statuses say; the user's objects are not written.

/// Problems and nodes to the status of each object; pure.
mod status;

/// Istio objects that are there and that are wanted, to stages of writes; pure.
mod stages;

/// Every write to the API server.
mod write;

/// The loop, while this process holds the Lease.
pub mod run;
