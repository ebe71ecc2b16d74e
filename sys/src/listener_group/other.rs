//! Where ports cannot be shared to balance load there is one listener, and no plan asks for any of this.

use std::io;

use socket2::Socket;

/// It divides nothing there.
pub(super) fn set_reuse_port(_: &Socket, _: bool) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// There is none.
pub(super) fn set_reuse_port_balanced(_: &Socket) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// There is none.
pub(super) fn steer(_: &Socket, _: bool, _: u16) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
