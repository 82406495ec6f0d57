//! The kernel half of Clovisor: TC programs that put each connection on its link.
//!
//! **In**: packets at the host side of pods' veths and at uplinks, maps that the agent writes. **Out**: packets on
//! the link of their class, delivered to their pod, or left to the stack; counters by reason. **Never**: a packet
//! of a pinned flow on another link.
//!
//! On the host this is an empty program, so that one workspace holds both halves; `cargo xtask ebpf` builds the object.

#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(target_arch = "bpf")]
mod deliver;
#[cfg(target_arch = "bpf")]
mod embryo;
#[cfg(target_arch = "bpf")]
mod error;
#[cfg(target_arch = "bpf")]
mod fragment;
#[cfg(target_arch = "bpf")]
mod guard;
#[cfg(target_arch = "bpf")]
mod maps;
#[cfg(target_arch = "bpf")]
mod open;
#[cfg(target_arch = "bpf")]
mod packet;
#[cfg(target_arch = "bpf")]
mod programs;
#[cfg(target_arch = "bpf")]
mod steady;
#[cfg(target_arch = "bpf")]
mod steer;
#[cfg(target_arch = "bpf")]
mod wire;

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}
