//! What the kernel says of this node's network.
//!
//! **In**: rtnetlink dumps and events. **Out**: `watch<Arc<HostNet>>`. **Owns**: the netlink sockets.
//! **Never**: changes anything on the node but what its callers name: neighbours to ask or forget, a qdisc, rules and
//! routes of marks, reserved ports.

mod driver;

mod firewall;

pub mod legacy;

pub mod marked;

pub mod net;

mod nftables;

mod policy;

pub mod ports;

pub mod raw;

pub mod resolve;

mod sysctl;

pub mod watch;
