//! Sends that wait for room in a socket's buffer.
//!
//! A socket whose buffer is full takes nothing more until some of it has left. What was to be sent to a peer
//! then waits here, in order, within a bound for each peer and one for the shard; later sends to that peer
//! queue up behind.
//!
//! Who sends to a peer of whom something waits, or by a socket at which something does, is refused beyond the
//! bounds, so what was taken is not lost. What was taken before its socket was found full may go beyond the
//! peer's bound; only what goes beyond that of the shard fails, and is counted.

use std::collections::{BTreeMap, VecDeque};

use crate::send::outbox::Train;
use crate::types::datagram::{Path, SocketId};
use crate::types::ecn::Ecn;
use crate::types::error::Bound;
use crate::types::ids::PeerId;

/// What a waiting datagram costs beside its bytes, so that empty ones are bounded too.
const OVERHEAD: usize = 128;

fn cost(bytes: usize, datagrams: u32) -> usize {
    bytes + OVERHEAD * datagrams as usize
}

/// A train that waits.
///
/// ```
/// use shardgram_core::backlog::Waiting;
/// fn describe(waiting: &Waiting) -> String {
///     format!("{} bytes for {}", waiting.bytes.len(), waiting.path.remote)
/// }
/// ```
#[derive(Debug)]
pub struct Waiting {
    /// Whom it is for.
    pub peer: PeerId,
    /// Whence and whither.
    pub path: Path,
    /// The socket it leaves by.
    pub via: SocketId,
    /// Size of each datagram but the last, in bytes.
    pub segment: u32,
    /// How many datagrams.
    pub datagrams: u32,
    /// How they are marked: as they were to be when they were queued.
    pub ecn: Ecn,
    /// Their bytes.
    pub bytes: Vec<u8>,
}

impl Waiting {
    fn cost(&self) -> usize {
        cost(self.bytes.len(), self.datagrams)
    }
}

#[derive(Debug, Default)]
struct Queue {
    trains: VecDeque<Waiting>,
    cost: usize,
}

/// What became of a train that had waited and whose turn it was.
///
/// ```
/// use shardgram_core::backlog::Late;
/// fn of(sent: Result<(), i32>) -> Late {
///     const FULL: i32 = 11; // EAGAIN
///     if sent == Err(FULL) { Late::NoRoom } else { Late::Gone } // what failed is gone too
/// }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Late {
    /// It has left, or failed.
    Gone,
    /// There is no room yet, or there was none waiting.
    NoRoom,
    /// Its datagrams cannot leave as one.
    Refused,
    /// Nothing can be sent by any socket at the moment.
    NotNow,
}

/// Trains that had waited and are sent in one turn, at most: each may be a system call of its own.
pub const LATE_PER_TURN: usize = 256;

/// The trains that wait, by peer and by socket.
///
/// ```
/// use shardgram_core::backlog::{Backlog, Late, Waiting};
/// /// Sends what waits at sockets that have room again.
/// fn flush(backlog: &mut Backlog, mut send: impl FnMut(&Waiting) -> bool) -> bool {
///     let flushed = backlog.flush(|backlog, socket| match backlog.front(socket) {
///         Some(waiting) if send(waiting) => Ok::<_, ()>(Late::Gone),
///         _ => Ok(Late::NoRoom),
///     });
///     flushed == Ok(true)
/// }
/// assert!(!flush(&mut Backlog::new(1 << 20, 1 << 16), |_| true));
/// ```
#[derive(Debug)]
pub struct Backlog {
    queues: BTreeMap<PeerId, Queue>,
    /// Whose turn it is at each socket. A peer stands at the socket of its first train.
    turns: BTreeMap<SocketId, VecDeque<PeerId>>,
    /// The socket with which the next flush begins.
    next: Option<SocketId>,
    /// What this turn queued and will have to wait too.
    expected: BTreeMap<PeerId, usize>,
    expected_cost: usize,
    cost: usize,
    limit: usize,
    peer_limit: usize,
    datagrams: u64,
    deferred: u64,
    copied: u64,
}

impl Backlog {
    /// For so many bytes in all, and so many for one peer. A datagram counts 128 bytes beside its own.
    ///
    /// ```
    /// assert!(shardgram_core::backlog::Backlog::new(1 << 20, 1 << 16).is_empty());
    /// ```
    pub fn new(limit: usize, peer_limit: usize) -> Self {
        Self {
            queues: BTreeMap::new(),
            turns: BTreeMap::new(),
            next: None,
            expected: BTreeMap::new(),
            expected_cost: 0,
            cost: 0,
            limit,
            peer_limit,
            datagrams: 0,
            deferred: 0,
            copied: 0,
        }
    }

    /// Whether nothing waits.
    ///
    /// ```
    /// fn may_sleep(backlog: &shardgram_core::backlog::Backlog) -> bool { backlog.is_empty() }
    /// ```
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    /// How many datagrams wait.
    ///
    /// ```
    /// fn report(backlog: &shardgram_core::backlog::Backlog) { println!("{}", backlog.datagrams()); }
    /// ```
    pub fn datagrams(&self) -> u64 {
        self.datagrams
    }

    /// How many ever had to.
    pub(crate) fn deferred(&self) -> u64 {
        self.deferred
    }

    /// How many bytes were ever copied here.
    pub(crate) fn copied(&self) -> u64 {
        self.copied
    }

    /// How many of them ever left, or failed.
    pub(crate) fn left(&self) -> u64 {
        self.deferred - self.datagrams
    }

    /// Whether something waits for this peer, so that what follows has to wait too.
    ///
    /// ```
    /// use shardgram_core::{backlog::Backlog, outbox::Train};
    /// fn must_wait(backlog: &Backlog, train: &Train) -> bool {
    ///     train.peer.is_some_and(|peer| backlog.holds(peer))
    /// }
    /// ```
    pub fn holds(&self, peer: PeerId) -> bool {
        !self.is_empty() && self.queues.contains_key(&peer)
    }

    /// Whether what is sent to a peer by this socket now will have to wait.
    #[inline]
    pub(crate) fn must_wait(&self, peer: PeerId, via: SocketId) -> bool {
        !self.is_empty() && (self.queues.contains_key(&peer) || self.turns.contains_key(&via))
    }

    /// The bound that keeps so many bytes more from waiting for a peer.
    pub(crate) fn bound_for(&self, peer: PeerId, len: usize) -> Option<Bound> {
        let waiting = self.queues.get(&peer).map_or(0, |queue| queue.cost);
        let expected = self.expected.get(&peer).copied().unwrap_or(0);
        let cost = len + OVERHEAD;
        if waiting + expected + cost > self.peer_limit {
            return Some(Bound::PeerQueue);
        }
        (!self.fits(cost)).then_some(Bound::Backlog)
    }

    fn fits(&self, cost: usize) -> bool {
        self.cost + self.expected_cost + cost <= self.limit
    }

    /// So many bytes were queued for a peer and will have to wait: there is room for them.
    pub(crate) fn expect(&mut self, peer: PeerId, len: usize) {
        *self.expected.entry(peer).or_default() += len + OVERHEAD;
        self.expected_cost += len + OVERHEAD;
    }

    /// The turn's sends are carried out, and nothing more is to be expected.
    #[inline]
    pub(crate) fn expect_no_more(&mut self) {
        if self.expected_cost > 0 {
            self.expected.clear();
            self.expected_cost = 0;
        }
    }

    /// Whether at most half of what may wait for a peer does.
    pub(crate) fn is_half_empty(&self, peer: PeerId) -> bool {
        self.queues.get(&peer).is_none_or(|queue| queue.cost * 2 <= self.peer_limit)
            && self.cost * 2 <= self.limit
    }

    /// Makes room for a train: what was expected of its peer, or what is free.
    fn make_room(&mut self, peer: PeerId, cost: usize) -> bool {
        match self.expected.get_mut(&peer) {
            Some(expected) if *expected >= cost => {
                *expected -= cost;
                self.expected_cost -= cost;
                true
            }
            _ => self.fits(cost),
        }
    }

    /// Puts a train at the end of its peer's queue, with a copy of its bytes. False if there is no room in all,
    /// or if it is for no peer: then it has failed.
    ///
    /// ```
    /// use shardgram_core::{backlog::Backlog, driver::{SendFailure, SendFault}, outbox::Train};
    /// fn socket_full(backlog: &mut Backlog, train: &Train, bytes: &[u8]) -> Option<SendFailure> {
    ///     let (peer, datagrams) = (train.peer, train.datagrams);
    ///     let failed = !backlog.defer(train, [bytes].into_iter());
    ///     failed.then_some(SendFailure { peer, datagrams, fault: SendFault::SocketFull })
    /// }
    /// ```
    pub fn defer<'a>(&mut self, train: &Train, pieces: impl Iterator<Item = &'a [u8]>) -> bool {
        let cost = cost(train.bytes as usize, train.datagrams);
        let Some(peer) = train.peer.filter(|peer| self.make_room(*peer, cost)) else {
            return false;
        };
        let mut bytes = Vec::with_capacity(train.bytes as usize);
        pieces.for_each(|piece| bytes.extend_from_slice(piece));
        let Train { path, via, segment, datagrams, ecn, .. } = *train;
        let waiting = Waiting { peer, path, via, segment, datagrams, ecn, bytes };
        self.cost += waiting.cost();
        self.datagrams += u64::from(datagrams);
        self.deferred += u64::from(datagrams);
        self.copied += waiting.bytes.len() as u64;
        let queue = self.queues.entry(peer).or_default();
        queue.cost += waiting.cost();
        queue.trains.push_back(waiting);
        if queue.trains.len() == 1 {
            self.turns.entry(via).or_default().push_back(peer);
        }
        true
    }

    /// The sockets at which something waits.
    ///
    /// ```
    /// use shardgram_core::{backlog::Backlog, datagram::SocketId};
    /// fn at_endpoints(backlog: &Backlog) -> usize {
    ///     backlog.sockets().into_iter().filter(|socket| socket.as_endpoint().is_some()).count()
    /// }
    /// ```
    pub fn sockets(&self) -> Vec<SocketId> {
        self.turns.keys().copied().collect()
    }

    /// Has what waits sent, [`LATE_PER_TURN`] trains at most; says whether any left. Sockets take turns, one train each,
    /// and the next flush goes on behind the socket by which the last train left, so none waits for what waits at
    /// another. `send` is asked to send what is in front at a socket ([`Backlog::front`]).
    ///
    /// # Errors
    /// That of `send`, with which it ends.
    ///
    /// ```
    /// use shardgram_core::backlog::{Backlog, Late};
    /// fn give_up(backlog: &mut Backlog) -> bool { backlog.flush(|_, _| Ok::<_, ()>(Late::Gone)) == Ok(true) }
    /// ```
    pub fn flush<E>(&mut self, mut send: impl FnMut(&Self, SocketId) -> Result<Late, E>) -> Result<bool, E> {
        let first = self.next.unwrap_or(SocketId::listener(0));
        let (behind, before) = (self.turns.range(first..), self.turns.range(..first));
        let mut round: VecDeque<SocketId> = behind.chain(before).map(|(socket, _)| *socket).collect();
        let mut left = 0;
        while left < LATE_PER_TURN
            && let Some(socket) = round.pop_front()
        {
            match send(self, socket)? {
                Late::Gone => self.advance(socket),
                Late::Refused => self.split(socket),
                Late::NoRoom => continue,
                Late::NotNow => {
                    round.push_front(socket);
                    break;
                }
            }
            left += 1;
            if self.turns.contains_key(&socket) {
                round.push_back(socket);
            }
        }
        self.next = round.front().copied();
        Ok(left > 0)
    }

    /// The train whose turn it is at a socket. Peers take turns.
    ///
    /// ```
    /// use shardgram_core::{backlog::Backlog, datagram::SocketId};
    /// fn waits(backlog: &Backlog, socket: SocketId) -> bool { backlog.front(socket).is_some() }
    /// ```
    pub fn front(&self, socket: SocketId) -> Option<&Waiting> {
        let peer = self.turns.get(&socket)?.front()?;
        self.queues.get(peer)?.trains.front()
    }

    /// The train whose turn it was has left, or failed: it is another's turn.
    ///
    /// ```
    /// use shardgram_core::{backlog::Backlog, datagram::SocketId};
    /// fn give_up(backlog: &mut Backlog, socket: SocketId) {
    ///     while backlog.front(socket).is_some() { backlog.advance(socket); }
    /// }
    /// ```
    pub fn advance(&mut self, socket: SocketId) {
        let Some(turns) = self.turns.get_mut(&socket) else { return };
        let Some(peer) = turns.pop_front() else { return };
        if turns.is_empty() {
            self.turns.remove(&socket);
        }
        let Some(queue) = self.queues.get_mut(&peer) else { return };
        if let Some(gone) = queue.trains.pop_front() {
            queue.cost -= gone.cost();
            self.cost -= gone.cost();
            self.datagrams -= u64::from(gone.datagrams);
        }
        match queue.trains.front().map(|next| next.via) {
            Some(via) => self.turns.entry(via).or_default().push_back(peer),
            None => drop(self.queues.remove(&peer)),
        }
    }

    /// The train whose turn it is cannot leave as one: each of its datagrams takes its place by itself.
    ///
    /// ```
    /// use shardgram_core::{backlog::Backlog, datagram::SocketId};
    /// fn refused(backlog: &mut Backlog, socket: SocketId) {
    ///     if backlog.front(socket).is_some_and(|waiting| waiting.datagrams > 1) { backlog.split(socket); }
    /// }
    /// ```
    pub fn split(&mut self, socket: SocketId) {
        let peer = self.turns.get(&socket).and_then(|turns| turns.front());
        let Some(queue) = peer.and_then(|peer| self.queues.get_mut(peer)) else { return };
        let Some(train) = queue.trains.pop_front() else { return };
        let (peer, path, via, ecn) = (train.peer, train.path, train.via, train.ecn);
        for bytes in train.bytes.chunks(train.segment.max(1) as usize).rev() {
            let segment = bytes.len() as u32;
            queue.trains.push_front(Waiting {
                peer,
                path,
                via,
                segment,
                datagrams: 1,
                ecn,
                bytes: bytes.to_vec(),
            });
        }
    }

    /// A peer's own socket is taken out of service: what waits there leaves along its path's socket.
    pub(crate) fn reroute(&mut self, peer: PeerId, gone: SocketId) {
        let Some(queue) = self.queues.get_mut(&peer) else { return };
        for train in queue.trains.iter_mut().filter(|train| train.via == gone) {
            train.via = train.path.socket;
        }
        self.stand_again(gone);
    }

    /// Forgets what waits at a socket that is closed; says how many datagrams.
    pub(crate) fn drop_socket(&mut self, socket: SocketId) -> u64 {
        let before = self.datagrams;
        for queue in self.queues.values_mut() {
            queue.trains.retain(|train| {
                let stays = train.via != socket;
                if !stays {
                    queue.cost -= train.cost();
                    self.cost -= train.cost();
                    self.datagrams -= u64::from(train.datagrams);
                }
                stays
            });
        }
        self.stand_again(socket);
        self.queues.retain(|_, queue| !queue.trains.is_empty());
        before - self.datagrams
    }

    /// Has the peers that stood at a socket stand where their first trains leave now.
    fn stand_again(&mut self, socket: SocketId) {
        for peer in self.turns.remove(&socket).unwrap_or_default() {
            let front = self.queues.get(&peer).and_then(|queue| queue.trains.front());
            if let Some(via) = front.map(|train| train.via) {
                self.turns.entry(via).or_default().push_back(peer);
            }
        }
    }

    /// Forgets everything; says how many datagrams.
    pub(crate) fn clear(&mut self) -> u64 {
        self.queues.clear();
        self.turns.clear();
        self.cost = 0;
        std::mem::take(&mut self.datagrams)
    }
}

#[cfg(test)]
mod tests;
