//! Reading the SYN that the kernel kept of an accepted connection. The only unsafe code of the tests:
//! no crate wraps `TCP_SAVE_SYN` and `TCP_SAVED_SYN`.
#![allow(unsafe_code, reason = "socket options that no safe crate has")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Asks a listener to keep the SYN of every connection, link layer header included.
pub fn keep(listener: BorrowedFd<'_>) -> io::Result<()> {
    let with_link_layer: libc::c_int = 2;
    // SAFETY: the descriptor is open for the length of the borrow; the pointer and length describe one c_int.
    let result = unsafe {
        libc::setsockopt(
            listener.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_SAVE_SYN,
            (&raw const with_link_layer).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The SYN of an accepted connection, from its Ethernet header on. The kernel gives it out once.
pub fn take(connection: BorrowedFd<'_>) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0_u8; 256];
    let mut length: libc::socklen_t = 256;
    // SAFETY: the descriptor is open for the length of the borrow; the kernel writes at most `length`
    // bytes, which is the size of the buffer, and stores how many it wrote.
    let result = unsafe {
        libc::getsockopt(
            connection.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_SAVED_SYN,
            bytes.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    bytes.truncate(length as usize);
    Ok(bytes)
}
