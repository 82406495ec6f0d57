//! Packets whose bytes the device has summed up (`CHECKSUM_COMPLETE`), as many network cards do: the sum must follow every
//! change, or the pod's stack takes the packet for broken. No virtual device makes such packets; a test run may (Linux
//! 6.11), and compares.
#![allow(unsafe_code, reason = "a system call that aya does not have")]

use anyhow::{Context as _, Result, ensure};
use clovisor_common::abi::LINK_UP;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _};

use crate::features::{report, version};
use crate::frames::{Shape, data};
use crate::machine::{Machine, PASS, REDIRECT, link};
use crate::returning::answered;

/// `enum bpf_cmd`.
const BPF_PROG_TEST_RUN: libc::c_long = 10;
/// `BPF_F_TEST_SKB_CHECKSUM_COMPLETE`, which the library has no word for.
const SUMMED: u32 = 1 << 2;

/// The part of `union bpf_attr` for test runs (`include/uapi/linux/bpf.h`).
#[repr(C)]
#[derive(Default)]
struct Attr {
    prog_fd: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    ctx_size_in: u32,
    ctx_size_out: u32,
    ctx_in: u64,
    ctx_out: u64,
    flags: u32,
    cpu: u32,
    batch_size: u32,
    pad: u32,
}

/// The verdict on a summed packet that is for this device; an error of kind EBADMSG where the sum is wrong afterwards.
fn summed(machine: &Machine, program: &str, shape: &Shape) -> Result<io::Result<i32>> {
    let mut frame = shape.frame()?;
    // The loopback device's address.
    frame.iter_mut().take(6).for_each(|byte| *byte = 0);
    let mut attr = Attr {
        prog_fd: machine.program(program)?.fd()?.as_fd().as_raw_fd() as u32,
        data_size_in: frame.len() as u32,
        data_in: frame.as_ptr() as u64,
        flags: SUMMED,
        ..Attr::default()
    };
    let (at, len) = (&raw mut attr, size_of::<Attr>());
    // SAFETY: `attr` has the kernel's layout for this command; the frame lives until the call returns, and nothing is
    // written but the fields of `attr`.
    let done = unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_TEST_RUN, at, len) };
    Ok(if done == 0 { Ok(attr.retval.cast_signed()) } else { Err(io::Error::last_os_error()) })
}

/// Both families, with and without translation of the pod's address, to a peer that is translated too.
#[test]
fn a_devices_sum_follows_what_is_translated() -> Result<()> {
    let has = version()? >= (6, 11);
    report("CHECKSUM_COMPLETE", has)?;
    if !has {
        println!("known skip: this kernel makes no summed packets in test runs (Linux 6.11)");
        return Ok(());
    }
    for (v6, flags) in [(false, link().flags), (false, LINK_UP), (true, link().flags), (true, LINK_UP)] {
        let (machine, reply) = answered(v6, flags)?;
        // The SYN-ACK with its MSS, then by the fast path.
        for shape in [reply.clone(), Shape { flags: "A", mss: None, payload: 33, ..reply.clone() }] {
            let ran = summed(&machine, "wan_in", &shape)?;
            let verdict = ran.with_context(|| format!("v6 {v6}, link flags {flags}: the sum is wrong"))?;
            ensure!(verdict == REDIRECT, "v6 {v6}, link flags {flags}: verdict {verdict}");
        }
        ensure!(summed(&machine, "wan_out", &reply)?? == PASS, "what is not touched");
    }
    // The control: a hop limit of IPv6 is in no checksum of the packet. Only what leaves is changed so, and nobody sums
    // that up.
    let (machine, _) = answered(true, LINK_UP)?;
    let wrong = summed(&machine, "pod_in", &data(true, 9))?.err().context("the kernel does not compare")?;
    ensure!(wrong.raw_os_error() == Some(libc::EBADMSG), "{wrong}");
    Ok(())
}
