//! The listeners of a shard where a wildcard address has further ones per local address.

use std::net::{IpAddr, SocketAddr, UdpSocket};

/// A listener's socket of one shard.
#[derive(Debug)]
pub struct ListenerSocket {
    /// Which listen address of the configuration it belongs to, from 0.
    pub listen: u16,
    /// The local address it is for, with the scope of a link-local one. `None` for the socket of the
    /// address listened on itself: a specific one, or the wildcard, which takes what nothing else takes.
    pub local: Option<SocketAddr>,
    /// Whether what comes to it is its shard's ([`crate::ListenerGroup::is_steered`]).
    pub steered: bool,
    /// The bound socket.
    pub socket: UdpSocket,
}

/// What a shard's driver is told while it serves. All shards are told the same changes in one order.
#[derive(Debug)]
pub enum ListenerChange {
    /// A local address has listeners of its own from now on; this is the shard's. Datagrams may wait in it.
    Added(ListenerSocket),
    /// The host has lost the address: close the socket. An address that comes back is a new `Added`.
    Removed {
        /// Which listen address.
        listen: u16,
        /// The local address. One listen address never has two groups for one.
        ip: IpAddr,
    },
}
