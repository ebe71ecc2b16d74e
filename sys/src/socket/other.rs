//! Socket options where the kernel is not Linux.
//!
//! The fallback driver serves these systems through quinn-udp, which turns packet info and
//! congestion bits on by itself; what is left to do here is the buffers,
//! and on macOS keeping to an interface.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};
use std::sync::OnceLock;

use shardgram_core::{Interface, PathMtu};
use socket2::Socket;

use crate::winsock;

/// The BSD family and macOS cap both buffers by one setting. Windows has no cap that is set so.
pub(super) const RECEIVE_BUFFER_CAP: &str = "kern.ipc.maxsockbuf";
pub(super) const SEND_BUFFER_CAP: &str = RECEIVE_BUFFER_CAP;

/// Halvings before giving up: from any size down to what every system grants.
const MAX_HALVINGS: u32 = 16;

/// Sets the receive buffer and returns what was granted, in bytes.
pub(super) fn set_receive_buffer(socket: &Socket, bytes: usize) -> io::Result<usize> {
    set_buffer(bytes, |bytes| socket.set_recv_buffer_size(bytes))?;
    socket.recv_buffer_size()
}

/// Sets the send buffer and returns what was granted, in bytes.
pub(super) fn set_send_buffer(socket: &Socket, bytes: usize) -> io::Result<usize> {
    set_buffer(bytes, |bytes| socket.set_send_buffer_size(bytes))?;
    socket.send_buffer_size()
}

/// setsockopt(2) on these systems refuses a size above the cap with ENOBUFS instead of granting
/// the cap, so smaller ones are tried.
fn set_buffer(bytes: usize, set: impl Fn(usize) -> io::Result<()>) -> io::Result<()> {
    let mut result = set(bytes);
    for halvings in 1..=MAX_HALVINGS {
        if result.is_ok() {
            break;
        }
        result = set(bytes >> halvings);
    }
    result
}

/// Has a socket send and receive by one interface alone (`IP_BOUND_IF` and `IPV6_BOUND_IF`, of which macOS has the
/// manual in its header netinet/in.h; they take indexes).
#[cfg(target_vendor = "apple")]
pub(super) fn bind_to_interface(socket: &Socket, ipv6: bool, interface: Interface) -> io::Result<()> {
    // An interface without any address is not found by its name; nothing could leave by it.
    let index = crate::interfaces::index_of(interface).ok().and_then(std::num::NonZeroU32::new);
    let index = index.ok_or_else(|| io::Error::from_raw_os_error(libc::ENXIO))?;
    if ipv6 {
        socket.bind_device_by_index_v6(Some(index))
    } else {
        socket.bind_device_by_index_v4(Some(index))
    }
}

/// Not on these systems.
#[cfg(not(target_vendor = "apple"))]
pub(super) fn bind_to_interface(_socket: &Socket, _ipv6: bool, _interface: Interface) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Does nothing here: quinn-udp turns packet info on where the system has it.
///
/// # Errors
///
/// None.
pub fn set_packet_info<S>(_socket: &S, _ipv6: bool) -> io::Result<()> {
    Ok(())
}

/// Does nothing here: datagrams are received as trains on Linux only.
///
/// # Errors
///
/// None.
pub fn set_receive_trains<S>(_socket: &S, _on: bool) -> io::Result<()> {
    Ok(())
}

/// Always unsupported here: no counter per socket is known.
///
/// # Errors
///
/// [`io::ErrorKind::Unsupported`].
pub fn drop_count<S>(_socket: &S) -> io::Result<u64> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Does nothing here: quinn-udp turns it on where the system has it.
///
/// # Errors
///
/// None.
pub fn set_receive_ecn<S>(_socket: &S, _ipv6: bool, _on: bool) -> io::Result<()> {
    Ok(())
}

/// Does nothing here: times are reported on Linux only.
///
/// # Errors
///
/// None.
pub fn set_receive_timestamps<S>(_socket: &S, _on: bool) -> io::Result<()> {
    Ok(())
}

/// Does nothing here: what quinn-udp sets on these systems is left alone.
///
/// # Errors
///
/// None.
pub fn set_path_mtu<S>(_socket: &S, _ipv6: bool, _mode: PathMtu) -> io::Result<()> {
    Ok(())
}

/// Has a library, quinn-udp, set up what it needs of a socket. Path-MTU handling is kept as it is on Windows; elsewhere
/// what quinn-udp sets is left alone: it forbids fragmentation. The call is made for each socket: `known` is for Linux.
///
/// # Errors
///
/// Those of the call; on Windows also of reading the socket's name and of setting the option.
pub fn keeping_options<T: Clone>(
    socket: &UdpSocket,
    _known: &OnceLock<T>,
    call: impl FnOnce(&UdpSocket) -> io::Result<T>,
) -> io::Result<T> {
    winsock::keeping_path_mtu(socket, || call(socket))
}

/// A socket to try options out on, of this family. It is bound, to a free port that nobody else reaches: Windows says
/// nothing of one that is not.
///
/// # Errors
///
/// The system has no such family, no descriptor, or no port left.
pub fn stand_in(ipv6: bool) -> io::Result<UdpSocket> {
    if ipv6 { UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)) } else { UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)) }
}
