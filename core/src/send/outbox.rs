//! What callbacks of one turn want sent: trains of datagrams, in order.
//!
//! A train is what leaves in one send: consecutive datagrams of equal size to one peer, the last of them
//! perhaps shorter, cut apart again by the kernel (UDP_SEGMENT, Linux 4.18, udp(7)). Every entry is a
//! train, if only of one datagram. Order within a peer is kept: a datagram joins the peer's newest train
//! or begins a newer one.

use crate::peers::routes::Route;
use crate::send::gate::Gate;
use crate::send::train::NONE;
pub use crate::send::train::{Source, Train, TrainLimits};
use crate::types::datagram::{Path, SocketId};
use crate::types::ecn::Ecn;
use crate::types::error::{Bound, SendError};
use crate::types::ids::PeerId;

#[derive(Clone, Copy, Debug)]
struct Piece {
    source: Source,
    next: u32,
}

/// The queue of one turn. Callbacks fill it through [`crate::Io`], the driver carries it out and the loop
/// empties it.
///
/// ```
/// use shardgram_core::outbox::Outbox;
/// fn log(outbox: &Outbox) {
///     for train in outbox.trains() {
///         let pieces = outbox.sources(train).count();
///         println!("{} bytes to {} in {pieces} pieces", train.bytes, train.path.remote);
///     }
/// }
/// ```
#[derive(Debug)]
pub struct Outbox {
    arena: Vec<u8>,
    trains: Vec<Train>,
    pieces: Vec<Piece>,
    /// Beyond these nothing more is handed over in this turn: what the gates are open to.
    arena_gate: usize,
    datagram_gate: usize,
    crowded: bool,
    /// Something was refused for want of room, of which the gates have not heard.
    refused: bool,
    /// The gates remember something.
    learned: bool,
    /// What was queued when the last callback had ended, but for `on_turn_end`.
    at_turn_end: (usize, usize),
    gates: Gates,
    limits: TrainLimits,
    turn: u32,
    /// When it is, in milliseconds.
    stamp: u32,
    kept: u32,
    datagrams: usize,
    long: usize,
}

/// The gate of each bound.
#[derive(Debug)]
struct Gates {
    arena: Gate,
    datagrams: Gate,
}

impl Outbox {
    pub(crate) fn new(arena_limit: usize, datagram_limit: usize, limits: TrainLimits) -> Self {
        let gates = Gates { arena: Gate::new(arena_limit), datagrams: Gate::new(datagram_limit) };
        Self {
            arena: Vec::with_capacity(arena_limit),
            trains: Vec::with_capacity(datagram_limit),
            pieces: Vec::with_capacity(datagram_limit),
            arena_gate: gates.arena.open_to(),
            datagram_gate: gates.datagrams.open_to(),
            crowded: false,
            refused: false,
            learned: false,
            at_turn_end: (0, 0),
            gates,
            limits,
            turn: 1,
            stamp: 0,
            kept: 0,
            datagrams: 0,
            long: 0,
        }
    }

    /// The trains, in the order in which they were begun.
    ///
    /// ```
    /// fn stateless(outbox: &shardgram_core::outbox::Outbox) -> usize {
    ///     outbox.trains().iter().filter(|train| train.peer.is_none()).count()
    /// }
    /// ```
    pub fn trains(&self) -> &[Train] {
        &self.trains
    }

    /// Where the bytes of a train lie, in order. Datagrams that lie side by side are one piece.
    ///
    /// ```
    /// use shardgram_core::outbox::{Outbox, Source, Train};
    /// fn buffers<'a>(outbox: &'a Outbox, train: &Train) -> impl Iterator<Item = u32> + 'a {
    ///     outbox.sources(train).filter_map(|source| match source {
    ///         Source::Buffer(at) => Some(at.buffer),
    ///         Source::Outbox { .. } => None,
    ///     })
    /// }
    /// ```
    pub fn sources(&self, train: &Train) -> impl Iterator<Item = Source> + '_ {
        let mut at = train.first;
        std::iter::from_fn(move || {
            let piece = self.pieces.get(at as usize)?;
            at = piece.next;
            Some(piece.source)
        })
    }

    /// The only source of a train that has one, without walking.
    ///
    /// ```
    /// use shardgram_core::outbox::{Outbox, Train};
    /// fn needs_a_list(outbox: &Outbox, train: &Train) -> bool {
    ///     outbox.single_source(train).is_none() // sendmsg with several pieces, otherwise with one
    /// }
    /// ```
    #[inline]
    pub fn single_source(&self, train: &Train) -> Option<Source> {
        (train.first == train.last).then(|| self.pieces[train.first as usize].source)
    }

    /// Bytes that lie in the outbox.
    ///
    /// # Panics
    /// If the range did not come from a [`Source::Outbox`] of this turn.
    ///
    /// ```
    /// use shardgram_core::outbox::{Outbox, Source};
    /// fn copied(outbox: &Outbox, source: Source) -> Option<&[u8]> {
    ///     let Source::Outbox { start, len } = source else { return None };
    ///     Some(outbox.bytes(start, len))
    /// }
    /// ```
    #[inline]
    pub fn bytes(&self, start: u32, len: u32) -> &[u8] {
        &self.arena[start as usize..][..len as usize]
    }

    /// Whether nothing is queued.
    ///
    /// ```
    /// use shardgram_core::{driver::Wait, outbox::Outbox};
    /// fn may_skip_the_kernel(outbox: &Outbox, wait: Wait, has_more: bool) -> bool {
    ///     outbox.is_empty() && wait == Wait::Poll && has_more
    /// }
    /// ```
    pub fn is_empty(&self) -> bool {
        self.trains.is_empty()
    }

    /// How many datagrams are queued.
    ///
    /// ```
    /// use shardgram_core::outbox::Outbox;
    /// fn summary(outbox: &Outbox) -> String {
    ///     format!("{} datagrams in {} sends", outbox.datagrams(), outbox.trains().len())
    /// }
    /// ```
    pub fn datagrams(&self) -> usize {
        self.datagrams
    }

    /// Gives up what was to leave by an endpoint that closes now: it will fail as sent by a socket that is not open,
    /// and not leave by another one that gets the same slot before the outbox is carried out.
    pub(crate) fn forsake(&mut self, socket: SocketId) {
        for train in self.trains.iter_mut().filter(|train| train.path.socket == socket) {
            (train.path.socket, train.via) = (SocketId::NOT_OPEN, SocketId::NOT_OPEN);
        }
    }

    /// How many of the trains are more than one datagram.
    pub(crate) fn long_trains(&self) -> usize {
        self.long
    }

    pub(crate) fn turn(&self) -> u32 {
        self.turn
    }

    /// Forgets what was carried out.
    #[inline]
    pub(crate) fn clear(&mut self) {
        self.arena.clear();
        self.trains.clear();
        self.pieces.clear();
        (self.datagrams, self.long) = (0, 0);
        if self.crowded | self.learned | self.refused {
            self.begin_anew();
        }
        // Turn 0 is the mark of routes that never had a train; a train left open 2^32 turns ago would
        // be taken for a fresh one, so the routes' marks are compared with the train's peer as well.
        self.turn = self.turn.wrapping_add(1).max(1);
    }

    /// Copies bytes into the outbox.
    #[inline]
    pub(crate) fn copy(&mut self, bytes: &[u8]) -> Result<Source, SendError> {
        let end = self.arena.len() + bytes.len();
        if end > self.arena_gate {
            self.bytes_beyond_the_gate(end)?;
            self.crowded = true;
        }
        let start = self.arena.len() as u32;
        self.arena.extend_from_slice(bytes);
        Ok(Source::Outbox { start, len: bytes.len() as u32 })
    }

    /// Makes room for `max` zeroed bytes and says where it begins.
    pub(crate) fn reserve(&mut self, max: usize) -> Result<usize, SendError> {
        let start = self.arena.len();
        if start + max > self.arena_gate {
            self.bytes_beyond_the_gate(start + max)?;
        }
        self.arena.resize(start + max, 0);
        Ok(start)
    }

    /// Gives back the end of the room that was made last.
    pub(crate) fn shrink_to(&mut self, end: usize) {
        self.arena.truncate(end);
        self.crowded |= end > self.arena_gate;
    }

    pub(crate) fn reserved(&self, start: usize) -> &[u8] {
        &self.arena[start..]
    }

    pub(crate) fn reserved_mut(&mut self, start: usize) -> &mut [u8] {
        &mut self.arena[start..]
    }

    /// How many datagrams may be queued in a turn.
    pub(crate) fn most_datagrams(&self) -> usize {
        self.gates.datagrams.limit()
    }

    /// Room for one more datagram.
    pub(crate) fn room(&mut self) -> Result<(), SendError> {
        if self.datagrams < self.gates.datagrams.limit() {
            return Ok(());
        }
        self.gates.datagrams.refused();
        self.refused = true;
        Err(SendError::Full(Bound::OutboxDatagrams))
    }

    #[cold]
    fn one_beyond_the_gate(&mut self) -> Result<(), SendError> {
        self.room()?;
        self.crowded = true;
        Ok(())
    }

    /// More bytes are to be in use than the gate is open to.
    #[cold]
    fn bytes_beyond_the_gate(&mut self, end: usize) -> Result<(), SendError> {
        if end <= self.gates.arena.limit() {
            return Ok(());
        }
        self.gates.arena.refused();
        self.refused = true;
        Err(SendError::Full(Bound::OutboxBytes))
    }

    /// Whether so much is queued that no other callback may begin in this turn.
    #[inline]
    pub(crate) fn is_crowded(&self) -> bool {
        self.crowded
    }

    /// All callbacks of the turn have been called, but for `on_turn_end`.
    #[inline]
    pub(crate) fn callbacks_end(&mut self) {
        self.at_turn_end = (self.datagrams, self.arena.len());
        if self.crowded | self.refused {
            self.learn(Gate::callbacks_end);
        }
    }

    /// A turn begins at this time, in milliseconds.
    #[inline]
    pub(crate) fn turn_begins(&mut self, stamp: u32) {
        self.stamp = stamp;
    }

    /// `on_turn_end` has been called.
    #[inline]
    pub(crate) fn turn_ends(&mut self) {
        if self.refused || self.at_turn_end != (self.datagrams, self.arena.len()) {
            self.learn(Gate::turn_ends);
        }
    }

    #[cold]
    fn learn(&mut self, what: impl Fn(&mut Gate, (usize, usize))) {
        let Gates { datagrams, arena } = &mut self.gates;
        let before = self.at_turn_end;
        what(datagrams, (before.0, self.datagrams));
        what(arena, (before.1, self.arena.len()));
        (self.refused, self.learned) = (false, true);
    }

    /// Callbacks begin whatever is queued, until this is carried out.
    pub(crate) fn open_the_gates(&mut self) {
        self.crowded = false;
        (self.datagram_gate, self.arena_gate) = (self.gates.datagrams.limit(), self.gates.arena.limit());
        // So that they are what they were when the outbox is empty.
        self.learned = true;
    }

    #[cold]
    fn begin_anew(&mut self) {
        let Gates { datagrams, arena } = &mut self.gates;
        (self.crowded, self.refused) = (false, false);
        self.learned = datagrams.forget() | arena.forget();
        (self.datagram_gate, self.arena_gate) = (datagrams.open_to(), arena.open_to());
    }

    /// How many queued sends refer to the receive buffer at hand; starts again at nought.
    pub(crate) fn take_kept(&mut self) -> u32 {
        std::mem::take(&mut self.kept)
    }

    /// Queues a datagram that goes to no peer in particular.
    pub(crate) fn push_stateless(&mut self, path: Path, source: Source) -> Result<(), SendError> {
        self.count()?;
        self.begin(None, path, path.socket, source, (false, Ecn::NotEct));
        Ok(())
    }

    /// Queues a datagram to a peer along `path`.
    #[inline]
    pub(crate) fn push(
        &mut self,
        peer: PeerId,
        route: &mut Route,
        path: &Path,
        source: Source,
    ) -> Result<(), SendError> {
        self.count()?;
        if route.open_turn == self.turn && self.join(peer, route, path, source) {
            return Ok(());
        }
        route.open_train = self.trains.len() as u32;
        route.open_turn = self.turn;
        let how = (route.is_untried(source.len()), route.ecn);
        self.begin(Some(peer), *path, route.socket(path), source, how);
        Ok(())
    }

    /// Queues a train that lies in one piece. False, and nothing is queued, if it may not leave as one.
    pub(crate) fn push_train(
        &mut self,
        peer: PeerId,
        route: &mut Route,
        path: &Path,
        source: Source,
        segment: usize,
        datagrams: usize,
    ) -> bool {
        let fits = datagrams <= self.limits.datagrams as usize
            && source.len() <= self.limits.bytes
            && (segment <= usize::from(route.train_limit) || route.may_try_again(self.stamp))
            && self.datagrams + datagrams <= self.gates.datagrams.limit();
        if !fits {
            return false;
        }
        let (index, segment) = (self.trains.len(), segment as u32);
        let how = (route.is_untried(segment), route.ecn);
        self.begin(Some(peer), *path, route.socket(path), source, how);
        (route.open_train, route.open_turn) = (index as u32, self.turn);
        route.tried(segment);
        let train = &mut self.trains[index];
        (train.segment, train.datagrams) = (segment, datagrams as u32);
        self.datagrams += datagrams;
        self.crowded |= self.datagrams > self.datagram_gate;
        self.long += 1;
        true
    }

    /// One more datagram, if there may be one more.
    #[inline]
    fn count(&mut self) -> Result<(), SendError> {
        if self.datagrams >= self.datagram_gate {
            self.one_beyond_the_gate()?;
        }
        self.datagrams += 1;
        Ok(())
    }

    #[inline]
    fn push_piece(&mut self, source: Source) -> u32 {
        self.kept += u32::from(matches!(source, Source::Buffer(_)));
        self.pieces.push(Piece { source, next: NONE });
        self.pieces.len() as u32 - 1
    }

    #[inline]
    fn begin(
        &mut self,
        peer: Option<PeerId>,
        path: Path,
        via: SocketId,
        source: Source,
        (untried, ecn): (bool, Ecn),
    ) {
        let (len, piece) = (source.len(), self.push_piece(source));
        self.trains.push(Train {
            peer,
            path,
            via,
            segment: len,
            bytes: len,
            datagrams: 1,
            untried,
            ecn,
            first: piece,
            last: piece,
        });
    }

    /// Appends to the peer's open train, if the datagram fits there: equal in size or the shorter last one.
    #[inline]
    fn join(&mut self, peer: PeerId, route: &mut Route, path: &Path, source: Source) -> bool {
        let Some(train) = self.trains.get_mut(route.open_train as usize) else { return false };
        let len = source.len();
        // A peer with one path had no other when the train was begun.
        let whole = train.bytes == train.segment * train.datagrams;
        let fits = whole
            && len != 0
            && len <= train.segment
            && train.datagrams < self.limits.datagrams
            && train.bytes + len <= self.limits.bytes
            && train.ecn == route.ecn
            && train.peer == Some(peer)
            && (route.has_one_path() || train.path.is_the_way_of(path))
            && (train.segment <= u32::from(route.train_limit) || route.may_try_again(self.stamp));
        if !fits {
            return false;
        }
        if train.datagrams == 1 {
            self.long += 1;
            route.tried(train.segment);
        }
        train.bytes += len;
        train.datagrams += 1;
        let last = train.last as usize;
        if !self.pieces[last].source.extend(source) {
            let piece = self.push_piece(source);
            self.pieces[last].next = piece;
            self.trains[route.open_train as usize].last = piece;
        }
        true
    }
}

#[cfg(test)]
mod tests;
