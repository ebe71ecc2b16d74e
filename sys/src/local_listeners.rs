//! The listeners of a shard where a wildcard address has further ones per local address.

use std::fmt;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

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
    /// Of a local address: where its shard counts what comes by the socket, and by those of the peers that came by it.
    pub usage: Option<Usage>,
}

/// Counts what comes to one local address by one shard. Only that shard counts, and anybody may look.
///
/// ```
/// let usage = shardgram_sys::Usage::default();
/// let shards = usage.clone();
/// shards.count();
/// assert_eq!(usage.total(), 1);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Usage(Arc<Line>);

/// Not beside that of another shard in one line of the cache, nor in the next, which is fetched with it.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Line(AtomicU64);

impl Usage {
    /// One more has come: a datagram, or a train. A load and a store, since nobody else counts.
    #[inline]
    pub fn count(&self) {
        let Line(count) = &*self.0;
        count.store(count.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    /// How many have come.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.0.load(Ordering::Relaxed)
    }
}

/// A shard asks for listeners of an address, to which something was sent that came by the wildcard's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WantedAddress {
    /// Which listen address that is.
    pub listen: u16,
    /// The address.
    pub ip: IpAddr,
    /// Whether much comes for it. Otherwise it is the first in a while.
    pub often: bool,
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
