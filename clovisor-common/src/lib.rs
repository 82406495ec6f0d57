//! What the kernel half and the agent share.
//!
//! **In**: nothing. **Out**: the layout of every BPF map ([`abi`]) and, as plain functions that also run
//! in host tests, the forwarding rule. **Never**: allocates, panics or depends on where it runs.
#![no_std]

/// Keys and values of the kernel maps, with sizes asserted and a version.
pub mod abi;

/// Reading TCP packets of both IP families; checksum arithmetic.
pub mod packet;

/// The forwarding rule: admission, links of pinned flows, translation.
pub mod rule;

/// The packets that the kernel half sends back to a pod: RST, ICMP "too big".
pub mod reply;
