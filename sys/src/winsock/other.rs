//! Every system but Windows: nothing to do.

use std::io;
use std::net::UdpSocket;

use socket2::Socket;

/// A port is nobody else's who does not share it by an option of its own.
#[cfg_attr(
    any(target_os = "linux", target_os = "freebsd"),
    allow(dead_code, reason = "groups of several sockets prove it in another way")
)]
pub(crate) fn set_exclusive(_: &Socket) -> io::Result<()> {
    Ok(())
}

/// Sockets that are not connected hear of none.
pub(crate) fn ignore_icmp_errors(_: &Socket) {}

/// The call and nothing else: what it sets is left alone.
#[cfg_attr(target_os = "linux", allow(dead_code, reason = "Linux has more to keep"))]
pub(crate) fn keeping_path_mtu<T>(_: &UdpSocket, call: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    call()
}
