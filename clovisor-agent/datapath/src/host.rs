//! The network of this node.
//!
//! **In**: rtnetlink events and dumps, `/proc/sys`, nf_tables. **Out**: `watch<Arc<HostNet>>`. **Owns**: the netlink
//! sockets, the reserved ports. **Never**: changes the node but in `change` (neighbours, a qdisc), `fwmark` (rules and
//! routes for marked packets), `reserved_ports` and `raw` (packets to pods).

mod driver;

mod firewall;

pub mod legacy;

pub mod routes;

pub mod net;

mod netlink;

pub mod change;

pub mod fwmark;

mod nftables;

mod forward_policy;

pub mod local_ports;

pub mod raw;

pub mod resolve;

mod sysctl;

mod route_set;

mod event;

mod event_socket;

mod state;

pub mod dump;

pub mod watch;

pub mod reserved_ports;
