//! Constants of the object that the loader sets, some of them by tests only; the verifier removes the branches that they close.
#![allow(unsafe_code, reason = "symbols that the loader sets")]

/// Zero: every packet takes the slow path.
#[unsafe(no_mangle)]
static FAST_PATH: u8 = 1;

/// Not zero: rewriting a packet of a flow fails, as it may when the kernel is out of memory.
#[unsafe(no_mangle)]
static FAIL_REWRITES: u8 = 0;

/// The node's secret for the choice of source ports.
#[unsafe(no_mangle)]
static PORT_SECRET: u32 = 0;

/// See [`FAST_PATH`].
#[inline(always)]
pub(crate) fn fast_path() -> bool {
    // SAFETY: a plain byte; volatile, since the loader may write another value than the compiler saw.
    unsafe { core::ptr::read_volatile(&raw const FAST_PATH) != 0 }
}

/// See [`FAIL_REWRITES`].
#[inline(always)]
pub(crate) fn fail_rewrites() -> bool {
    // SAFETY: as in `fast_path`.
    unsafe { core::ptr::read_volatile(&raw const FAIL_REWRITES) != 0 }
}

/// See [`PORT_SECRET`].
#[inline(always)]
pub(crate) fn port_secret() -> u32 {
    // SAFETY: as in `fast_path`.
    unsafe { core::ptr::read_volatile(&raw const PORT_SECRET) }
}
