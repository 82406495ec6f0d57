//! The links of this node and which of them a class uses.
//!
//! **In**: `HostNet`, the WanLinks of the snapshot. **Out**: `watch<Arc<LinkTable>>`; the link of a class.
//! **Never**: touches a kernel map.

pub mod table;

mod device;

pub mod health;

pub mod choose;

pub mod watch;
