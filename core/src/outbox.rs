//! What callbacks of one turn want sent: trains of datagrams, in order.
//!
//! A train is what leaves in one send: consecutive datagrams of equal size to one peer, the last of them
//! perhaps shorter, cut apart again by the kernel (UDP_SEGMENT, Linux 4.18, udp(7)). Every entry is a
//! train, if only of one datagram. Order within a peer is kept: a datagram joins the peer's newest train
//! or begins a newer one.

use crate::datagram::{Path, RxSlice, SocketId};
use crate::error::SendError;
use crate::peers::PeerId;
use crate::routes::Route;

const NONE: u32 = u32::MAX;

/// Where bytes to send lie.
///
/// ```
/// use shardgram_core::outbox::{Outbox, Source};
/// fn bytes<'a>(outbox: &'a Outbox, buffers: &'a [Vec<u8>], source: Source) -> &'a [u8] {
///     match source {
///         Source::Outbox { start, len } => outbox.bytes(start, len),
///         Source::Buffer(at) => &buffers[at.buffer as usize][at.start as usize..][..at.len as usize],
///     }
/// }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// In the outbox: [`Outbox::bytes`].
    Outbox {
        /// First byte.
        start: u32,
        /// Length in bytes.
        len: u32,
    },
    /// In a receive buffer, which the driver takes back after the send.
    Buffer(RxSlice),
}

impl Source {
    fn len(&self) -> u32 {
        match self {
            Self::Outbox { len, .. } | Self::Buffer(RxSlice { len, .. }) => *len,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Piece {
    source: Source,
    next: u32,
}

/// Datagrams to one destination that leave in one send.
///
/// ```
/// use shardgram_core::outbox::Train;
/// fn describe(train: &Train) -> String {
///     format!("{} datagrams of {} bytes to {}", train.datagrams, train.segment, train.path.remote)
/// }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Train {
    /// The peer they go to, `None` for stateless answers.
    pub peer: Option<PeerId>,
    /// Whence and whither.
    pub path: Path,
    /// The socket they leave by: the path's, or the peer's own.
    pub via: SocketId,
    /// Size of each datagram but the last, in bytes.
    pub segment: u32,
    /// All bytes.
    pub bytes: u32,
    /// How many datagrams.
    pub datagrams: u32,
    first: u32,
    last: u32,
}

impl Train {
    /// One datagram of this train by itself, of so many bytes that lie elsewhere: for a driver that sends them
    /// one by one and puts what is left into the backlog.
    ///
    /// ```
    /// use shardgram_core::{backlog::Backlog, outbox::Train};
    /// fn defer_one(backlog: &mut Backlog, train: &Train, bytes: &[u8]) -> bool {
    ///     backlog.defer(&train.one(bytes.len()), [bytes].into_iter())
    /// }
    /// ```
    #[must_use]
    pub fn one(&self, len: usize) -> Self {
        let len = len as u32;
        Self { segment: len, bytes: len, datagrams: 1, first: NONE, last: NONE, ..*self }
    }

    #[cfg(test)]
    pub(crate) fn single(peer: Option<PeerId>, path: Path, via: SocketId, len: u32) -> Self {
        Self { peer, path, via, segment: len, bytes: len, datagrams: 1, first: NONE, last: NONE }
    }
}

/// How long trains may be. A driver says so in [`crate::driver::Capabilities`].
///
/// ```
/// use shardgram_core::outbox::TrainLimits;
/// // What the kernel cuts apart: UDP_SEGMENT takes 64 datagrams, and IPv4 65,507 bytes.
/// let limits = TrainLimits { datagrams: 64, bytes: 65_507 };
/// assert_ne!(limits, TrainLimits::SINGLE);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TrainLimits {
    /// Most datagrams in a train; 1 where there is no segmentation offload.
    pub datagrams: u32,
    /// Most bytes in a train.
    pub bytes: u32,
}

impl TrainLimits {
    /// One datagram a train.
    ///
    /// ```
    /// use shardgram_core::outbox::TrainLimits;
    /// assert_eq!(TrainLimits::SINGLE.datagrams, 1);
    /// ```
    pub const SINGLE: Self = Self { datagrams: 1, bytes: u32::MAX };
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
    arena_limit: usize,
    datagram_limit: usize,
    limits: TrainLimits,
    turn: u32,
    kept: u32,
}

impl Outbox {
    pub(crate) fn new(arena_limit: usize, datagram_limit: usize, limits: TrainLimits) -> Self {
        Self {
            arena: Vec::with_capacity(arena_limit),
            trains: Vec::with_capacity(datagram_limit),
            pieces: Vec::with_capacity(datagram_limit),
            arena_limit,
            datagram_limit,
            limits,
            turn: 1,
            kept: 0,
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

    /// Where the bytes of a train lie, in order.
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
        // Each datagram is one piece of some train.
        self.pieces.len()
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
        // Turn 0 is the mark of routes that never had a train; a train left open 2^32 turns ago would
        // be taken for a fresh one, so the routes' marks are compared with the train's peer as well.
        self.turn = self.turn.wrapping_add(1).max(1);
    }

    /// Copies bytes into the outbox.
    #[inline]
    pub(crate) fn copy(&mut self, bytes: &[u8]) -> Result<Source, SendError> {
        if bytes.len() > self.arena_limit - self.arena.len() {
            return Err(SendError::Full);
        }
        let start = self.arena.len() as u32;
        self.arena.extend_from_slice(bytes);
        Ok(Source::Outbox { start, len: bytes.len() as u32 })
    }

    /// Makes room for `max` zeroed bytes and says where it begins.
    pub(crate) fn reserve(&mut self, max: usize) -> Result<usize, SendError> {
        let start = self.arena.len();
        if max > self.arena_limit - start {
            return Err(SendError::Full);
        }
        self.arena.resize(start + max, 0);
        Ok(start)
    }

    /// Gives back the end of the room that was made last.
    pub(crate) fn shrink_to(&mut self, end: usize) {
        self.arena.truncate(end);
    }

    pub(crate) fn reserved(&self, start: usize) -> &[u8] {
        &self.arena[start..]
    }

    pub(crate) fn reserved_mut(&mut self, start: usize) -> &mut [u8] {
        &mut self.arena[start..]
    }

    pub(crate) fn has_room(&self) -> bool {
        self.pieces.len() < self.datagram_limit
    }

    /// How many queued sends refer to the receive buffer at hand; starts again at nought.
    pub(crate) fn take_kept(&mut self) -> u32 {
        std::mem::take(&mut self.kept)
    }

    /// Queues a datagram that goes to no peer in particular.
    pub(crate) fn push_stateless(&mut self, path: Path, source: Source) -> Result<(), SendError> {
        let piece = self.push_piece(source)?;
        self.begin(None, path, path.socket, source.len(), piece);
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
        let piece = self.push_piece(source)?;
        if route.open_turn == self.turn && self.join(route.open_train, peer, path, source.len(), piece) {
            return Ok(());
        }
        route.open_train = self.trains.len() as u32;
        route.open_turn = self.turn;
        self.begin(Some(peer), *path, route.socket(path), source.len(), piece);
        Ok(())
    }

    #[inline]
    fn push_piece(&mut self, source: Source) -> Result<u32, SendError> {
        if !self.has_room() {
            return Err(SendError::Full);
        }
        if matches!(source, Source::Buffer(_)) {
            self.kept += 1;
        }
        self.pieces.push(Piece { source, next: NONE });
        Ok(self.pieces.len() as u32 - 1)
    }

    #[inline]
    fn begin(&mut self, peer: Option<PeerId>, path: Path, via: SocketId, len: u32, piece: u32) {
        self.trains.push(Train {
            peer,
            path,
            via,
            segment: len,
            bytes: len,
            datagrams: 1,
            first: piece,
            last: piece,
        });
    }

    /// Appends to an open train, if the datagram fits there: equal in size or the shorter last one.
    fn join(&mut self, index: u32, peer: PeerId, path: &Path, len: u32, piece: u32) -> bool {
        let Some(train) = self.trains.get_mut(index as usize) else { return false };
        let whole = train.bytes == train.segment * train.datagrams;
        let fits = whole
            && len != 0
            && len <= train.segment
            && train.datagrams < self.limits.datagrams
            && train.bytes + len <= self.limits.bytes
            && train.peer == Some(peer)
            && train.path == *path;
        if fits {
            train.bytes += len;
            train.datagrams += 1;
            self.pieces[train.last as usize].next = piece;
            train.last = piece;
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datagram::SocketId;
    use crate::peers::Peers;
    use crate::routes::Routes;

    fn path(port: u16) -> Path {
        Path {
            local: ([10, 0, 0, 1], 9).into(),
            remote: ([10, 0, 0, 2], port).into(),
            socket: SocketId::listener(0),
        }
    }

    struct Bed {
        routes: Routes,
        outbox: Outbox,
        peers: Vec<PeerId>,
    }

    fn bed(limits: TrainLimits) -> Bed {
        let (mut table, mut routes) = (Peers::new(0, 4), Routes::new(0, 4, 1, (1, 2)));
        let peers = (0..2)
            .map(|i| {
                let peer = table.insert(()).expect("room");
                assert!(routes.insert(peer, path(i), 0));
                peer
            })
            .collect();
        Bed { routes, outbox: Outbox::new(1 << 20, 64, limits), peers }
    }

    impl Bed {
        fn send(&mut self, peer: usize, bytes: &[u8]) {
            let (id, path) = (self.peers[peer], path(peer as u16));
            let source = self.outbox.copy(bytes).expect("room");
            let route = self.routes.get_mut(id).expect("open");
            self.outbox.push(id, route, &path, source).expect("room");
        }

        fn trains(&self) -> Vec<(u16, Vec<Vec<u8>>)> {
            let outbox = &self.outbox;
            outbox
                .trains()
                .iter()
                .map(|t| {
                    let joined: Vec<u8> = outbox
                        .sources(t)
                        .flat_map(|s| match s {
                            Source::Outbox { start, len } => outbox.bytes(start, len).to_vec(),
                            Source::Buffer(_) => unreachable!("nothing was received"),
                        })
                        .collect();
                    assert_eq!(joined.len(), t.bytes as usize);
                    let parts = joined.chunks(t.segment.max(1) as usize).map(<[u8]>::to_vec).collect();
                    (t.path.remote.port(), parts)
                })
                .collect()
        }
    }

    const LONG: TrainLimits = TrainLimits { datagrams: 64, bytes: 65_000 };

    #[test]
    fn equal_datagrams_to_one_peer_make_a_train_even_when_peers_interleave() {
        let mut bed = bed(LONG);
        for text in ["aa", "bb", "c"] {
            bed.send(0, text.as_bytes());
            bed.send(1, text.as_bytes());
        }
        bed.send(0, b"dd");
        let want = |parts: &[&str]| parts.iter().map(|p| p.as_bytes().to_vec()).collect::<Vec<_>>();
        assert_eq!(
            bed.trains(),
            [(0, want(&["aa", "bb", "c"])), (1, want(&["aa", "bb", "c"])), (0, want(&["dd"]))],
            "the shorter one ends its train"
        );
        assert_eq!(bed.outbox.datagrams(), 7);
    }

    #[test]
    fn longer_and_empty_datagrams_begin_a_train() {
        let mut bed = bed(LONG);
        for text in ["a", "bb", "", "cc"] {
            bed.send(0, text.as_bytes());
        }
        assert_eq!(bed.outbox.trains().len(), 4);
    }

    #[test]
    fn limits_cut_trains() {
        let mut bed = bed(TrainLimits { datagrams: 2, bytes: 1 << 16 });
        (0..5).for_each(|_| bed.send(0, b"xy"));
        assert_eq!(bed.outbox.trains().iter().map(|t| t.datagrams).collect::<Vec<_>>(), [2, 2, 1]);
        let mut bed = self::bed(TrainLimits::SINGLE);
        (0..3).for_each(|_| bed.send(0, b"xy"));
        assert_eq!(bed.outbox.trains().len(), 3);
    }

    #[test]
    fn a_new_turn_begins_new_trains() {
        let mut bed = bed(LONG);
        bed.send(0, b"a");
        bed.outbox.clear();
        bed.send(0, b"b");
        assert_eq!(bed.trains(), [(0, vec![b"b".to_vec()])]);
    }

    #[test]
    fn both_bounds_are_kept() {
        let mut outbox = Outbox::new(4, 1, LONG);
        assert_eq!(outbox.copy(b"12345"), Err(SendError::Full));
        assert_eq!(outbox.reserve(5), Err(SendError::Full));
        let source = outbox.copy(b"1234").expect("room");
        assert_eq!(outbox.push_stateless(path(1), source), Ok(()));
        assert_eq!(outbox.push_stateless(path(1), source), Err(SendError::Full));
    }
}
