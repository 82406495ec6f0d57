//! Packets through the real programs: packet and maps in, verdict, packet, entries and counters out.
//!
//! Needs root and the object of `cargo xtask ebpf`; no network, no namespace, nothing stays pinned.

mod admission;
mod datagrams;
mod established;
mod frames;
mod limits;
mod loaded;
mod machine;
mod returning;
mod traffic;
mod translation;
