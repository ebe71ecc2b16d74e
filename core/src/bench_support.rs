//! The peer table, the outbox and the timer wheel, for micro benches (`benches/benches/` of the workspace).
//!
//! They are private, and stay so: this module is there with the feature `bench` only, which nothing but those benches
//! asks for, and it promises nothing. Benches that took the files in by `#[path]` would need half of this crate
//! around them, and would measure a copy of it. Each function is one call of what it is named after.

use std::time::Instant;

use crate::peers::routes::Routes;
use crate::peers::standing::Standing;
use crate::peers::states::Peers;
use crate::send::outbox::{Outbox, Source, TrainLimits};
use crate::time::timers::{TimerId, TimerWheel};
use crate::types::datagram::{Path, RxSlice};
use crate::types::ids::PeerId;

/// The peer table, with handler states of no size.
pub struct PeerTable {
    peers: Peers<()>,
    routes: Routes,
}

impl std::fmt::Debug for PeerTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PeerTable").field("len", &self.peers.len()).finish_non_exhaustive()
    }
}

impl PeerTable {
    /// Room for so many peers of one path each.
    pub fn new(max_peers: usize) -> Self {
        Self { peers: Peers::new(0, max_peers), routes: Routes::new(0, max_peers, 0, 1, (1, 2)) }
    }

    /// A peer on a path that has none. `None` if the table is full.
    #[inline]
    pub fn insert(&mut self, path: Path) -> Option<PeerId> {
        let peer = self.peers.insert(()).ok()?;
        self.routes.insert(peer, path, 0, Standing::New).then_some(peer)
    }

    /// The slot of the peer on a path.
    #[inline]
    pub fn find(&self, path: &Path) -> Option<u32> {
        self.routes.find(path)
    }

    /// Takes a peer out. False if it is not there.
    #[inline]
    pub fn remove(&mut self, peer: PeerId) -> bool {
        self.peers.remove(peer).is_some() && self.routes.remove(peer, |_| {}).is_some()
    }
}

/// An outbox, with room for what a turn queues by default.
#[derive(Debug)]
pub struct Queue(Outbox);

impl Queue {
    /// An empty one that makes trains of up to 64 datagrams.
    pub fn new(arena_bytes: usize, datagrams: usize) -> Self {
        Self(Outbox::new(arena_bytes, datagrams, TrainLimits { datagrams: 64, bytes: 65_000 }))
    }

    /// Copies a datagram to a peer. False if there is no room or no such peer.
    #[inline]
    pub fn copy(&mut self, table: &mut PeerTable, to: PeerId, path: &Path, bytes: &[u8]) -> bool {
        let Ok(source) = self.0.copy(bytes) else { return false };
        self.push(table, to, path, source)
    }

    /// Queues a datagram to a peer out of a receive buffer.
    #[inline]
    pub fn reply(&mut self, table: &mut PeerTable, to: PeerId, path: &Path, at: RxSlice) -> bool {
        self.push(table, to, path, Source::Buffer(at))
    }

    #[inline]
    fn push(&mut self, table: &mut PeerTable, to: PeerId, path: &Path, source: Source) -> bool {
        table.routes.get_mut(to).is_some_and(|route| self.0.push(to, route, path, source).is_ok())
    }

    /// Queues a whole train of equal datagrams out of a receive buffer.
    #[inline]
    pub fn reply_train(
        &mut self,
        table: &mut PeerTable,
        to: PeerId,
        path: &Path,
        at: RxSlice,
        datagrams: usize,
    ) -> bool {
        let Some(route) = table.routes.get_mut(to) else { return false };
        self.0.push_train(to, route, path, Source::Buffer(at), at.len as usize / datagrams, datagrams)
    }

    /// How many trains are queued.
    pub fn trains(&self) -> usize {
        self.0.trains().len()
    }

    /// Ends the turn.
    #[inline]
    pub fn clear(&mut self) {
        self.0.take_kept();
        self.0.clear();
    }
}

/// A timer wheel whose timers no peer owns.
pub struct Timers(TimerWheel<u64>);

impl std::fmt::Debug for Timers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Timers").finish_non_exhaustive()
    }
}

impl Timers {
    /// Room for so many.
    pub fn new(limit: usize, start: Instant) -> Self {
        Self(TimerWheel::new(limit, start))
    }

    /// Sets one. `None` if there is no room.
    #[inline]
    pub fn set(&mut self, now: Instant, at: Instant, value: u64) -> Option<TimerId> {
        self.0.set(now, at, value, None).ok()
    }

    /// Takes one back.
    #[inline]
    pub fn cancel(&mut self, id: TimerId) -> Option<u64> {
        self.0.cancel(id, None)
    }

    /// Takes the next one that is due, as the shard loop does. `None` with none at hand: those of a crowded slot
    /// come over several calls.
    #[inline]
    pub fn fire(&mut self, now: Instant) -> Option<u64> {
        let id = self.0.next_due(now)?;
        self.0.cancel(id, None)
    }

    /// When something has to be done next, `None` with no timer set.
    #[inline]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.0.next_deadline()
    }
}
