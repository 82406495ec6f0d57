//! The only door to BPF.
//!
//! **In**: `watch<Arc<Desired>>`. **Out**: attached programs, filled maps; flows and counters on demand.
//! **Owns**: every kernel map (each has one writing task), the pin folder.
//! **Never**: objects, policy, links, gRPC, Kubernetes, YAML.

pub mod image;

mod lookup;

pub mod diff;

pub mod expiry;

pub mod tables;

mod write;

pub mod flows;

pub mod teardown;

pub mod keepalive;

mod lost;

pub mod plan;

pub mod pins;

pub mod versions;

pub mod verifier;

pub mod attach;

pub mod state;

pub mod load;

pub mod cleanup;

pub mod run;

mod inject;

pub mod gc;
