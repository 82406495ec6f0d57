//! What the kernel says of this node's network.
//!
//! **In**: rtnetlink dumps and events. **Out**: `watch<Arc<HostNet>>`. **Owns**: the netlink sockets.
//! **Never**: changes anything on the node.

mod driver;

pub mod net;

pub mod resolve;

pub mod watch;
