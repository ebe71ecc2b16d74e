//! Sockets and what waits in them.

use std::collections::VecDeque;

use shardgram_core::datagram::SocketId;

use crate::bindings::Place;

/// What the kernel charges a socket for a waiting datagram beside its bytes, roughly: its bookkeeping.
const OVERHEAD_BYTES: u64 = 512;

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
}

#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) owner: Owner,
    pub(crate) place: Place,
    /// What waits in it, against what may.
    pub(crate) charged_bytes: u64,
    pub(crate) limit_bytes: u64,
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

fn cost(len: usize) -> u64 {
    len as u64 + OVERHEAD_BYTES
}

/// What waits for one shard, from all its sockets, in the order of arrival.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    pub(crate) waiting: VecDeque<u32>,
    /// Datagrams that found their socket full.
    pub(crate) overflowed: u64,
    /// Longest datagram received whole, in bytes.
    pub(crate) capacity: usize,
}
