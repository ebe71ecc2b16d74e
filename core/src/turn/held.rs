//! What waits until the outbox has room for what it may cause, or the turn has time.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::messages::mailbox::Forwarded;
use crate::stats::Stats;
use crate::types::datagram::{SocketId, datagrams_in};
use crate::types::error::PeerError;
use crate::types::ids::PeerId;

/// What was received, or taken out of the mailbox: the rest of a train, and what a driver hands over after it was told to
/// stop. And what befell peers.
#[derive(Debug)]
pub(crate) struct Held {
    arrivals: VecDeque<Forwarded>,
    errors: VecDeque<(PeerId, PeerError)>,
    stats: Arc<Stats>,
}

impl Held {
    pub(crate) fn new(stats: Arc<Stats>) -> Self {
        Self { arrivals: VecDeque::new(), errors: VecDeque::new(), stats }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.arrivals.is_empty() & self.errors.is_empty()
    }

    pub(crate) fn has_arrivals(&self) -> bool {
        !self.arrivals.is_empty()
    }

    pub(crate) fn push(&mut self, held: Forwarded) {
        let held_back = &self.stats.held_back;
        held_back.set(held_back.get() + datagrams_of(&held));
        self.arrivals.push_back(held);
    }

    /// Everything that arrived and waits. Each one taken out is to be said to wait [no more](Self::no_more).
    pub(crate) fn take_arrivals(&mut self) -> VecDeque<Forwarded> {
        std::mem::take(&mut self.arrivals)
    }

    /// Puts back what was not handed over: what was held meanwhile is older.
    pub(crate) fn put_back(&mut self, mut rest: VecDeque<Forwarded>) {
        self.arrivals.append(&mut rest);
    }

    /// This waits no more: how many datagrams that are.
    pub(crate) fn no_more(&mut self, held: &Forwarded) -> u64 {
        let datagrams = datagrams_of(held);
        let held_back = &self.stats.held_back;
        held_back.set(held_back.get() - datagrams);
        datagrams
    }

    /// Drops what had come by a socket that is closed: how many datagrams.
    pub(crate) fn drop_socket(&mut self, socket: SocketId) -> u64 {
        let (gone, rest) = self.take_arrivals().into_iter().partition(|held| held.path.socket == socket);
        self.arrivals = rest;
        let gone: VecDeque<Forwarded> = gone;
        gone.iter().map(|held| self.no_more(held)).sum()
    }

    /// Drops all that arrived: how many datagrams.
    pub(crate) fn drop_all(&mut self) -> u64 {
        self.take_arrivals().iter().map(|held| self.no_more(held)).sum()
    }

    /// Keeps what befell a peer, if not as many wait already. False if it has to be told at once.
    pub(crate) fn push_error(&mut self, peer: PeerId, error: PeerError, most: usize) -> bool {
        let room = self.errors.len() < most;
        if room {
            self.errors.push_back((peer, error));
        }
        room
    }

    pub(crate) fn next_error(&mut self) -> Option<(PeerId, PeerError)> {
        self.errors.pop_front()
    }
}

fn datagrams_of(held: &Forwarded) -> u64 {
    datagrams_in(held.bytes.len(), held.segment) as u64
}
