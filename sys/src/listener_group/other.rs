//! Listener groups where ports cannot be shared to balance load: one socket, whose receiver
//! passes datagrams on to the shards that own them.

use std::net::SocketAddr;

use super::{Members, Steering};
use crate::socket::{bind as bind_socket, bound_address, open};
use crate::{BindError, SocketOptions, winsock};

/// Binds one socket, without any reuse option, and on Windows with the one that keeps others off its port.
pub(super) fn bind(address: SocketAddr, _shards: u16, options: &SocketOptions) -> Result<Members, BindError> {
    let mut warnings = Vec::new();
    let socket = open(address, options, &mut warnings)?;
    winsock::set_exclusive(&socket)
        .map_err(|source| BindError::from_option("set SO_EXCLUSIVEADDRUSE", address, source))?;
    bind_socket(&socket, address)?;
    let local_addr = bound_address(&socket, address)?;
    let steering = Steering::Kernel { reason: "this system has one listener per address".to_owned() };
    Ok(Members { local_addr, sockets: vec![socket], warnings, steering })
}

/// Windows takes a specific address beside a wildcard without any option. The BSD family refuses
/// it, and the caller learns so: the wildcard group then serves that address too.
pub(super) fn bind_beside(
    address: SocketAddr,
    shards: u16,
    options: &SocketOptions,
) -> Result<Members, BindError> {
    bind(address, shards, options)
}
