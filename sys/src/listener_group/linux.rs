//! Listener groups on Linux: an exclusive first bind, then a port group of one's own.
//!
//! `SO_REUSEPORT` (`socket(7)`, Linux 3.9) must normally be set on every socket of a group before
//! its bind, and then the bind joins whatever the same user already has on the port. Here the
//! first socket is bound without it, which fails if anybody has the port, and gets it afterwards.
//!
//! Such a socket has no port group by itself: the kernel makes one at the bind, only with the
//! option set. A lone listener without a group makes unknown peers pay for every connected socket
//! of the port (99 us at 9,000 of them), and a program cannot be attached to it. So the group is
//! founded **before** the bind: attaching a program to an unbound socket with the option set
//! creates the group with the program in it. From the first datagram on flows go where the
//! program says, and no second member has to be bound and closed for the group's sake.

use std::net::SocketAddr;

use socket2::Socket;

use super::{Members, Steering};
use crate::socket::{bind as bind_socket, bound_address, open};
use crate::{BindError, BufferWarning, SocketOptions, steering};

/// Binds a group to a port that nobody has.
pub(super) fn bind(address: SocketAddr, shards: u16, options: &SocketOptions) -> Result<Members, BindError> {
    let mut warnings = Vec::new();
    let first = open(address, options, &mut warnings)?;

    set_reuse(&first, true, address)?;
    let steering = attach(&first, address, shards);
    // With a program attached this kernel refuses to share the port anyway; where the program was
    // refused, it is the missing option alone that makes the bind exclusive.
    set_reuse(&first, false, address)?;

    bind_socket(&first, address)?;
    let local_addr = bound_address(&first, address)?;
    set_reuse(&first, true, address)?;

    let mut sockets = vec![first];
    if shards == 1 && steering != Steering::FlowHash {
        // Nothing founded the group before the bind, so a second member does, and the group
        // outlives it.
        drop(open_member(local_addr, options)?);
    }
    join(&mut sockets, local_addr, shards, options)?;
    Ok(Members { local_addr, sockets, warnings, steering })
}

/// Binds a group to a specific address of a port whose wildcard group is ours.
pub(super) fn bind_beside(
    address: SocketAddr,
    shards: u16,
    options: &SocketOptions,
) -> Result<Members, BindError> {
    let mut warnings = Vec::new();
    // The wildcard's sockets conflict with an exclusive bind, so every member has the option set
    // from the start; then the bind itself founds the group. A program that is attached before
    // such a bind makes the kernel refuse it (EADDRINUSE).
    let first = open(address, options, &mut warnings)?;
    set_reuse(&first, true, address)?;
    bind_socket(&first, address)?;
    let steering = attach(&first, address, shards);

    let mut sockets = vec![first];
    join(&mut sockets, address, shards, options)?;
    Ok(Members { local_addr: address, sockets, warnings, steering })
}

/// Adds members until there is one per shard. A socket's index in the group is the order of its
/// bind, and the program's answer is an index, so this order is the shards' order.
fn join(
    sockets: &mut Vec<Socket>,
    address: SocketAddr,
    shards: u16,
    options: &SocketOptions,
) -> Result<(), BindError> {
    while sockets.len() < usize::from(shards) {
        sockets.push(open_member(address, options)?);
    }
    Ok(())
}

fn open_member(address: SocketAddr, options: &SocketOptions) -> Result<Socket, BindError> {
    // All members are opened alike, so the first one's warnings speak for these too.
    let mut same_warnings: Vec<BufferWarning> = Vec::new();
    let socket = open(address, options, &mut same_warnings)?;
    set_reuse(&socket, true, address)?;
    bind_socket(&socket, address)?;
    Ok(socket)
}

/// Sets `SO_REUSEPORT` as wanted, and takes `SO_REUSEADDR` back in case the caller's hook set it:
/// on UDP that one lets any other socket of the host steal datagrams.
fn set_reuse(socket: &Socket, port: bool, address: SocketAddr) -> Result<(), BindError> {
    let option = |operation| move |source| BindError::from_option(operation, address, source);
    socket.set_reuse_address(false).map_err(option("clear SO_REUSEADDR"))?;
    socket.set_reuse_port(port).map_err(option("set SO_REUSEPORT"))
}

/// A refused program is no error: the kernel's own hash divides the flows, and user space passes
/// datagrams on.
fn attach(socket: &Socket, address: SocketAddr, shards: u16) -> Steering {
    match steering::attach_flow_hash(socket, address.is_ipv6(), shards) {
        Ok(()) => Steering::FlowHash,
        Err(error) => Steering::Kernel { reason: format!("the steering program was refused: {error}") },
    }
}
