//! What the kernel half and the agent share.
//!
//! **In**: nothing. **Out**: the layout of every BPF map ([`abi`]) and, as plain functions that also run
//! in host tests, the forwarding rule. **Never**: allocates, panics or depends on where it runs.
#![no_std]

/// Keys and values of the kernel maps, with sizes asserted and a version.
pub mod abi;
