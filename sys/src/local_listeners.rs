//! What a shard's driver is given to listen on, and what it is told while it serves.

use std::net::{IpAddr, SocketAddr, UdpSocket};

/// A listener's socket of one shard.
#[derive(Debug)]
pub struct ListenerSocket {
    /// Which address of the configuration it serves, by index.
    pub listen: u16,
    /// The local address it is bound to, if the address of the configuration is a wildcard and this is one of
    /// the host's addresses under it. `None` for the address of the configuration itself.
    pub local: Option<SocketAddr>,
    /// The socket.
    pub socket: UdpSocket,
}

/// A change of the host's addresses under a wildcard.
#[derive(Debug)]
pub enum ListenerChange {
    /// There is a socket for one more address.
    Added(ListenerSocket),
    /// An address is the host's no longer.
    Removed {
        /// Which address of the configuration it stood under, by index.
        listen: u16,
        /// The address that went.
        ip: IpAddr,
    },
}
