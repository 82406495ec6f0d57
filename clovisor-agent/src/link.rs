//! The links of this node and which of them a class uses.
//!
//! **In**: `HostNet`, the WanLinks of the snapshot. **Out**: `watch<Arc<LinkTable>>`; the link of a class.
//! **Owns**: the rules and routes of links in mode `Mark`. **Never**: touches a kernel map.

pub mod table;

mod reason;

mod device;

mod source_address;

mod way;

pub mod marks;

pub mod health;

pub mod choose;

mod told;

pub mod past;

pub mod watch;
