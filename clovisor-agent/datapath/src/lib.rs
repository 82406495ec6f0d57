//! All that needs a capability, and nothing else: the kernel half and the network of the node.
//!
//! **In**: what the kernel half shall do, as `watch<Arc<Desired>>`. **Out**: the state of the node's network and of the
//! kernel half. **Owns**: the kernel maps, the pin folder, the netlink sockets. **Never**: objects, policy, links.
//!
//! The modules below form one list, and each may use only those above it.
#![deny(unsafe_code)]

/// Files, folders and sockets that a reader never finds half made.
pub mod files;

/// An error with its causes, in one line.
pub mod causes;

/// Reading whole BPF maps by batches.
#[allow(unsafe_code, reason = "one system call that aya does not have")]
pub mod batch;

/// The network of this node.
pub mod host;

/// The kernel half: programs, maps, flows.
pub mod kernel;
