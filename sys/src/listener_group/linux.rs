//! The options by which listeners share a port on Linux: `SO_REUSEPORT` (`socket(7)`, Linux 3.9) and a program.
//!
//! `SO_REUSEPORT` must normally be set on every socket of a group before its bind, and then the bind joins whatever
//! the same user already has on the port. So the plan binds its first socket without it, which fails if anybody has the
//! port, and sets it afterwards.
//!
//! Such a socket has no port group by itself: the kernel makes one at the bind, only with the option set. A lone
//! listener without a group makes unknown peers pay for every connected socket of the port (99 us at 9,000 of them), and
//! a program cannot be attached to it. So the group is founded **before** the bind: attaching a program to an unbound
//! socket with the option set creates the group with the program in it. From the first datagram on flows go where the
//! program says, and no second member has to be bound and closed for the group's sake.

use std::io;

use socket2::Socket;

use crate::steering;

pub(super) fn set_reuse_port(socket: &Socket, on: bool) -> io::Result<()> {
    socket.set_reuse_port(on)
}

pub(super) fn steer(socket: &Socket, ipv6: bool, shards: u16) -> io::Result<()> {
    steering::attach_flow_hash(socket, ipv6, shards)
}

/// No plan for Linux asks for it.
pub(super) fn set_reuse_port_balanced(_: &Socket) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
