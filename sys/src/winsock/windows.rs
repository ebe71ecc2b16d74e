//! What listeners and endpoints need on Windows, beyond what socket2 has.

use std::io;
use std::mem::size_of;
use std::os::windows::io::{AsRawSocket, AsSocket, BorrowedSocket};
use std::ptr;

use socket2::Socket;
use windows_sys::Win32::Networking::WinSock::{
    SIO_UDP_CONNRESET, SIO_UDP_NETRESET, SO_EXCLUSIVEADDRUSE, SOCKET, SOL_SOCKET, WSAIoctl, setsockopt,
};

/// Has the port to itself, once it is bound. Without that, any process that sets `SO_REUSEADDR` takes the
/// port over ("Using SO_REUSEADDR and SO_EXCLUSIVEADDRUSE" in the Winsock documentation).
///
/// # Errors
///
/// `WSAEINVAL` if the socket is bound, or has `SO_REUSEADDR`.
pub(crate) fn set_exclusive(socket: &Socket) -> io::Result<()> {
    let on: i32 = 1;
    // SAFETY: the socket is open for the borrow, and the four bytes of a live i32, the option's BOOL, are read.
    let code = unsafe {
        let value = (&raw const on).cast();
        setsockopt(
            number(socket.as_socket()),
            SOL_SOCKET,
            SO_EXCLUSIVEADDRUSE,
            value,
            size_of::<i32>() as i32,
        )
    };
    if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Has receives say nothing of ICMP errors about datagrams sent earlier, which would fail with
/// `WSAECONNRESET` and `WSAENETRESET` and name no peer (`SIO_UDP_CONNRESET`, Windows 2000;
/// `SIO_UDP_NETRESET`, Windows Vista; "Winsock IOCTLs"). Where the system does not know one of the two, receivers see
/// such errors and go on all the same.
pub(crate) fn ignore_icmp_errors(socket: &Socket) {
    for (code, name) in [(SIO_UDP_CONNRESET, "SIO_UDP_CONNRESET"), (SIO_UDP_NETRESET, "SIO_UDP_NETRESET")] {
        if let Err(error) = switch_off(socket.as_socket(), code) {
            tracing::debug!(%error, "{name} cannot be turned off");
        }
    }
}

fn switch_off(socket: BorrowedSocket<'_>, code: u32) -> io::Result<()> {
    let off: i32 = 0;
    let mut written = 0;
    // SAFETY: the socket is open for the borrow; the four bytes of a live i32, a BOOL, are read, nothing is written
    // but the length, and without an overlapped structure the call is over when it returns.
    let code = unsafe {
        WSAIoctl(
            number(socket),
            code,
            (&raw const off).cast(),
            size_of::<i32>() as u32,
            ptr::null_mut(),
            0,
            &raw mut written,
            ptr::null_mut(),
            None,
        )
    };
    if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn number(socket: BorrowedSocket<'_>) -> SOCKET {
    socket.as_raw_socket() as SOCKET
}
