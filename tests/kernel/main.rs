//! Packets through the real programs: packet and maps in, verdict, packet, entries and counters out.
//!
//! Needs root and the object of `cargo xtask ebpf`. All but `attached` need no network; nothing stays pinned.

mod admission;
mod attached;
mod barred;
mod datagrams;
mod devices;
mod embryos;
mod errors;
mod established;
mod features;
mod fragments;
mod frames;
mod held;
mod keepalive;
mod limits;
mod loaded;
mod machine;
mod marked;
mod observed;
mod paths;
mod reading;
mod replaced;
mod returning;
mod summed;
mod traffic;
mod translation;
mod versions;
mod ways;
