//! What listeners and endpoints need on Windows, beyond what socket2 has.

use std::io;
use std::mem::size_of;
use std::net::{SocketAddr, UdpSocket};
use std::os::windows::io::{AsRawSocket, AsSocket, BorrowedSocket};
use std::ptr;

use socket2::Socket;
use windows_sys::Win32::Networking::WinSock::{
    IP_DONTFRAGMENT, IPPROTO_IP, IPPROTO_IPV6, IPV6_DONTFRAG, SIO_UDP_CONNRESET, SIO_UDP_NETRESET,
    SO_EXCLUSIVEADDRUSE, SOCKET, SOL_SOCKET, WSAIoctl, getsockopt, setsockopt,
};

/// Has the port to itself, once it is bound. Without that, any process that sets `SO_REUSEADDR` takes the
/// port over ("Using SO_REUSEADDR and SO_EXCLUSIVEADDRUSE" in the Winsock documentation).
///
/// # Errors
///
/// `WSAEINVAL` if the socket is bound, or has `SO_REUSEADDR`.
pub(crate) fn set_exclusive(socket: &Socket) -> io::Result<()> {
    set_int(socket.as_socket(), SOL_SOCKET, SO_EXCLUSIVEADDRUSE, 1)
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

/// Keeps the "don't fragment" bit as it is over a call that changes it (`IP_DONTFRAGMENT`, "IPPROTO_IP Socket Options",
/// and `IPV6_DONTFRAG`, "IPPROTO_IPV6 Socket Options"); left alone where the system does not tell it.
///
/// # Errors
///
/// Those of the call, of reading the socket's name and of setting the option.
pub(crate) fn keeping_path_mtu<T>(socket: &UdpSocket, call: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let (level, name) = match socket.local_addr()? {
        SocketAddr::V4(_) => (IPPROTO_IP, IP_DONTFRAGMENT),
        SocketAddr::V6(_) => (IPPROTO_IPV6, IPV6_DONTFRAG),
    };
    let before = get_int(socket.as_socket(), level, name);
    let result = call();
    if let Ok(before) = before {
        set_int(socket.as_socket(), level, name, before)?;
    }
    result
}

/// Sets an option whose value is a `DWORD` or a `BOOL`.
fn set_int(socket: BorrowedSocket<'_>, level: i32, name: i32, value: i32) -> io::Result<()> {
    // SAFETY: the socket is open for the borrow, and the four bytes of a live i32 are read.
    let code = unsafe {
        setsockopt(number(socket), level, name, (&raw const value).cast(), size_of::<i32>() as i32)
    };
    if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Reads such an option. Bytes that the system does not write are 0.
fn get_int(socket: BorrowedSocket<'_>, level: i32, name: i32) -> io::Result<i32> {
    let (mut value, mut len) = (0_i32, size_of::<i32>() as i32);
    // SAFETY: the socket is open for the borrow; at most `len` bytes are written into a live i32, which is that long.
    let code = unsafe { getsockopt(number(socket), level, name, (&raw mut value).cast(), &raw mut len) };
    if code == 0 { Ok(value) } else { Err(io::Error::last_os_error()) }
}

fn number(socket: BorrowedSocket<'_>) -> SOCKET {
    socket.as_raw_socket() as SOCKET
}
