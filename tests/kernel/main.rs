//! Packets through the real programs: packet and maps in, verdict, packet, entries and counters out.
//!
//! Needs root and the object of `cargo xtask ebpf`. All but `attached` need no network; nothing stays pinned.

mod admission;
mod answers;
mod attached;
mod datagrams;
mod devices;
mod ended;
mod established;
mod families;
mod fast_path;
mod features;
mod forbidden;
mod fragment;
mod frames;
mod fwmark;
mod held;
mod icmp_error;
mod keepalive;
mod limits;
mod loaded;
mod local;
mod machine;
mod observed;
mod paths;
mod reading;
mod replaced;
mod returning;
mod summed;
mod traffic;
mod translation;
mod unreplied;
mod versions;
