//! Listener groups on FreeBSD: `SO_REUSEPORT_LB` (`setsockopt(2)`, FreeBSD 12) divides the flows
//! by a hash of the kernel's own.

use std::net::SocketAddr;

use super::{Members, Steering};
use crate::socket::{bind as bind_socket, bound_address, open};
use crate::{BindError, SocketOptions};

/// Binds a group to a port that nobody has.
pub(super) fn bind(address: SocketAddr, shards: u16, options: &SocketOptions) -> Result<Members, BindError> {
    // The option cannot be added after the bind, so a socket without it looks whether the port
    // is free, chooses one for port 0, and makes way.
    let probe = open(address, options, &mut Vec::new())?;
    bind_socket(&probe, address)?;
    let local_addr = bound_address(&probe, address)?;
    drop(probe);
    bind_beside(local_addr, shards, options)
}

/// Binds a group that shares its port with others of this user.
pub(super) fn bind_beside(
    address: SocketAddr,
    shards: u16,
    options: &SocketOptions,
) -> Result<Members, BindError> {
    let mut warnings = Vec::new();
    let mut sockets = Vec::with_capacity(usize::from(shards));
    for shard in 0..shards {
        let mut noted = Vec::new();
        let socket = open(address, options, &mut noted)?;
        socket
            .set_reuse_port_lb(true)
            .map_err(|source| BindError::from_option("set SO_REUSEPORT_LB", address, source))?;
        bind_socket(&socket, address)?;
        sockets.push(socket);
        if shard == 0 {
            warnings = noted;
        }
    }
    let steering = Steering::Kernel { reason: "SO_REUSEPORT_LB takes no program".to_owned() };
    Ok(Members { local_addr: address, sockets, warnings, steering })
}
