//! The option by which listeners share a port on FreeBSD: `SO_REUSEPORT_LB` (`setsockopt(2)`, FreeBSD 12) divides the
//! flows by a hash of the kernel's own.

use std::io;

use socket2::Socket;

pub(super) fn set_reuse_port_balanced(socket: &Socket) -> io::Result<()> {
    socket.set_reuse_port_lb(true)
}

/// No plan for FreeBSD asks for it: that option divides nothing there.
pub(super) fn set_reuse_port(_: &Socket, _: bool) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// The option takes no program.
pub(super) fn steer(_: &Socket, _: bool, _: u16) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
