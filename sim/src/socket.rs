//! Sockets and what waits in them.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use shardgram_core::PeerError;
use shardgram_core::datagram::SocketId;

use crate::bindings::Place;
use crate::pipe::SendBuffer;

/// What the kernel charges a socket for a waiting datagram beside its bytes, roughly: its bookkeeping.
const OVERHEAD_BYTES: u64 = 512;

/// What a shard is told beside arrivals.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum News {
    /// The network told a socket of a peer's own of an error.
    Error(SocketId, PeerError),
    /// A local address of a listener for every address is gone.
    AddressGone(SocketId, IpAddr),
}

/// Whose a socket is.
#[derive(Debug)]
pub(crate) enum Owner {
    Closed,
    /// A test's, with what waits in it, and whether trains come to it as they are.
    Raw {
        waiting: VecDeque<u32>,
        trains: bool,
    },
    /// A shard's, by its number in the simulation.
    Shard {
        shard: u32,
        id: SocketId,
        /// Whether arrivals must say which local address they were sent to.
        reports_local: bool,
    },
    /// A peer's own.
    Own(Own),
}

/// A socket of a peer's own. Arrivals wait in it, not among those of the shard's other sockets: a real shard
/// has them from the kernel in any order, too.
#[derive(Debug)]
pub(crate) struct Own {
    pub(crate) shard: u32,
    pub(crate) id: SocketId,
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
    pub(crate) waiting: VecDeque<u32>,
    /// Arrivals of this peer that wait at its listener since before, and have to be handed over first.
    pub(crate) held: u32,
    /// Whether it stands among the sockets that have something for the shard.
    pub(crate) ready: bool,
    /// The listener has its path again.
    pub(crate) turned_away: bool,
}

impl Own {
    /// Something arrived at it.
    pub(crate) fn put(&mut self, at: u32, flight: u32, inbox: &mut Inbox) {
        self.waiting.push_back(flight);
        if self.held == 0 && !self.ready {
            self.ready = true;
            inbox.make_ready(at);
        }
    }

    /// Nothing older of this peer is left elsewhere.
    pub(crate) fn is_let_in(&mut self, at: u32, inbox: &mut Inbox) {
        inbox.held -= 1;
        self.ready = !self.waiting.is_empty();
        if self.ready {
            inbox.make_ready(at);
        }
    }
}

#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) owner: Owner,
    pub(crate) place: Place,
    /// What waits in it, against what may.
    pub(crate) charged_bytes: u64,
    pub(crate) limit_bytes: u64,
    /// What it sent and has not left the host, against what may be.
    pub(crate) send_buffer: SendBuffer,
    pub(crate) send_limit_bytes: u64,
}

impl Socket {
    /// Makes room for an arrival, or says that there is none. An empty socket takes anything, as Linux
    /// does.
    pub(crate) fn charge(&mut self, len: usize) -> bool {
        let fits = self.charged_bytes == 0 || self.charged_bytes + cost(len) <= self.limit_bytes;
        if fits {
            self.charged_bytes += cost(len);
        }
        fits
    }

    pub(crate) fn discharge(&mut self, len: usize) {
        self.charged_bytes -= cost(len);
    }
}

pub(crate) fn cost(len: usize) -> u64 {
    len as u64 + OVERHEAD_BYTES
}

/// What waits for one shard, from all its sockets but those of peers' own, in the order of arrival.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    pub(crate) waiting: VecDeque<u32>,
    /// Sockets of peers' own that have something for it.
    pub(crate) ready: VecDeque<u32>,
    /// How many sockets of peers' own wait for what the listeners hold.
    pub(crate) held: u32,
    /// What it is to be told beside arrivals.
    pub(crate) news: VecDeque<News>,
    /// How many stand in these two, which are empty most of the time.
    pub(crate) others: u32,
    /// Datagrams that found their socket full.
    pub(crate) overflowed: u64,
    /// Whether trains come as they are.
    pub(crate) trains: bool,
}

impl Inbox {
    /// A socket of a peer's own has something for it.
    pub(crate) fn make_ready(&mut self, socket: u32) {
        self.ready.push_back(socket);
        self.others += 1;
    }
}
