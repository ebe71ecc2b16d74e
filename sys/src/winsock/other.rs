//! Every system but Windows: nothing to do.

use std::io;

use socket2::Socket;

/// A port is nobody else's who does not share it by an option of its own.
pub(crate) fn set_exclusive(_: &Socket) -> io::Result<()> {
    Ok(())
}

/// Sockets that are not connected hear of none.
pub(crate) fn ignore_icmp_errors(_: &Socket) {}
