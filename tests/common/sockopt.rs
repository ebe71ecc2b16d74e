//! Options of sockets that socket2 does not have.
#![cfg(target_os = "linux")]
#![allow(unsafe_code, reason = "setsockopt(2) has no safe wrapper among the dependencies")]

use std::io;
use std::os::fd::AsRawFd;

/// Destination options of 1,024 bytes (RFC 8200 section 4.6): a header of that length in units of eight bytes beyond the
/// first, and experimental options that a host passes over if it does not know them (RFC 4727 section 3.2).
pub const DESTINATION_OPTIONS: [u8; 1_024] = {
    let mut bytes = [0; 1_024];
    bytes[1] = 127;
    let mut at = 2;
    while at < 1_024 {
        let len = if 1_024 - at > 257 { 255 } else { 1_024 - at - 2 };
        bytes[at] = 0x1e;
        bytes[at + 1] = len as u8;
        at += 2 + len;
    }
    bytes
};

/// Sets an option that is an `int`.
pub fn set_int(socket: &impl AsRawFd, level: i32, name: i32, value: i32) -> io::Result<()> {
    set(socket, level, name, &value.to_ne_bytes())
}

/// Sets an option that is bytes.
pub fn set(socket: &impl AsRawFd, level: i32, name: i32, value: &[u8]) -> io::Result<()> {
    let len = value.len() as libc::socklen_t;
    // SAFETY: the socket is open for the borrow, and the kernel reads the bytes of a live slice.
    let code = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, value.as_ptr().cast(), len) };
    if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
