//! Constants of the object that tests set before loading; the verifier removes the branches that they close.
#![allow(unsafe_code, reason = "symbols that the loader sets")]

/// Zero: every packet takes the slow path.
#[unsafe(no_mangle)]
static FAST_PATH: u8 = 1;

/// Not zero: rewriting a packet of a flow fails, as it may when the kernel is out of memory.
#[unsafe(no_mangle)]
static FAIL_REWRITES: u8 = 0;

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
