//! The listeners of a shard where a wildcard address has further ones per local address.

use std::fmt;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;

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
    /// Of a local address: goes where the socket goes, and is dropped when that is closed.
    pub lease: Option<Lease>,
}

/// Held by every socket of a group, and dropped after it is closed: so that it is known when the last one is. Until then
/// a socket that is bound to the same address and port joins those that are left, and has another index than its shard.
///
/// ```
/// use std::sync::mpsc::channel;
/// use shardgram_sys::Lease;
/// let (tell, ended) = channel();
/// let first = Lease::new(move || tell.send("closed").unwrap_or(()));
/// let second = first.clone();
/// drop(first);
/// assert!(ended.try_recv().is_err());
/// drop(second);
/// assert_eq!(ended.try_recv(), Ok("closed"));
/// ```
#[derive(Clone, Debug)]
pub struct Lease {
    // Never read: what counts is who holds it.
    _held: Arc<Held>,
}

impl Lease {
    /// `ended` is called once, by whoever drops the last clone: it must not block.
    #[must_use]
    pub fn new(ended: impl FnMut() + Send + Sync + 'static) -> Self {
        Self { _held: Arc::new(Held(Box::new(ended))) }
    }
}

struct Held(Box<dyn FnMut() + Send + Sync>);

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Held")
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// What a shard's driver is told while it serves. All shards are told the same changes in one order.
#[derive(Debug)]
pub enum ListenerChange {
    /// A local address has listeners of its own from now on; this is the shard's. Datagrams may wait in it.
    Added(ListenerSocket),
    /// The host has lost the address, or it gave way to another: close the socket, within a bound whatever it holds. An
    /// address that comes back is a new `Added`, once every shard has closed what it had ([`Lease`]).
    Removed {
        /// Which listen address.
        listen: u16,
        /// The local address. One listen address never has two groups for one.
        ip: IpAddr,
        /// Whether the host has lost it. Otherwise the wildcard's listeners serve it, peers included.
        lost: bool,
    },
}
