//! Raw sockets as tests see them: the name of one, and what it receives.

use std::net::SocketAddr;

use shardgram_core::Ecn;

/// Names a raw socket of a test ([`crate::Sim::socket`]).
///
/// ```
/// let mut sim = shardgram_sim::Sim::new(1);
/// let socket = sim.socket("10.0.0.2:5000".parse().unwrap());
/// assert!(sim.receive(socket).is_none());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SocketKey(pub(crate) u32);

/// A datagram that reached a raw socket.
///
/// ```
/// fn answered(received: &shardgram_sim::Received, server: std::net::SocketAddr) -> bool {
///     received.from == server && !received.bytes.is_empty()
/// }
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Received {
    /// Who sent it.
    pub from: SocketAddr,
    /// The address it was sent to.
    pub to: SocketAddr,
    /// How it is marked.
    pub ecn: Ecn,
    /// Bytes of each datagram but the last, if it is a train, which comes only where
    /// [`Sim::receive_trains`](crate::Sim::receive_trains) asked for that.
    pub segment: Option<usize>,
    /// The bytes.
    pub bytes: Vec<u8>,
}
