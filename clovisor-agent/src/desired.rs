//! What the kernel half shall do on this node.
//!
//! **In**: the policy, the links, the node's network. **Out**: `watch<Arc<Desired>>` for the kernel half,
//! `watch<Arc<Pods>>` for status. **Owns**: the devices of pods behind bridges, once found. **Never**: touches a kernel map.

pub mod image;

pub mod local;

pub mod pods;

pub mod run;
