//! What callbacks of one turn want sent: trains of datagrams, in order.
//!
//! A train is what leaves in one send: consecutive datagrams of equal size to one peer, the last of them
//! perhaps shorter, cut apart again by the kernel (UDP_SEGMENT, Linux 4.18, udp(7)). Every entry is a
//! train, if only of one datagram. Order within a peer is kept: a datagram joins the peer's newest train
//! or begins a newer one.

use crate::datagram::{Path, RxSlice, SocketId};
use crate::ecn::Ecn;
use crate::error::SendError;
use crate::peers::PeerId;
use crate::planted::{self, Fault};
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

    /// Takes in what lies right behind in the same memory. False, and unchanged, if it lies elsewhere.
    #[inline]
    fn extend(&mut self, next: Self) -> bool {
        match (self, next) {
            (Self::Outbox { start, len }, Self::Outbox { start: from, len: more })
                if *start + *len == from =>
            {
                *len += more;
                true
            }
            (Self::Buffer(at), Self::Buffer(next))
                if at.buffer == next.buffer && at.start + at.len == next.start =>
            {
                at.len += next.len;
                true
            }
            _ => false,
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
    /// Whether it is the first with so long datagrams on its path, so that it may be refused for that: a driver
    /// that sends several at once waits for what becomes of it before it sends more to the same peer.
    pub untried: bool,
    /// How all of them are marked ([`Ecn::on`] the byte that the socket has).
    pub ecn: Ecn,
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
        Self { segment: len, bytes: len, datagrams: 1, untried: false, first: NONE, last: NONE, ..*self }
    }

    /// Whether it is more than one datagram, which takes UDP_SEGMENT.
    ///
    /// ```
    /// use shardgram_core::outbox::Train;
    /// fn segment_size(train: &Train) -> Option<u16> { train.is_long().then_some(train.segment as u16) }
    /// ```
    #[inline]
    #[must_use]
    pub fn is_long(&self) -> bool {
        self.datagrams > 1
    }

    #[cfg(test)]
    pub(crate) fn single(peer: Option<PeerId>, path: Path, via: SocketId, len: u32) -> Self {
        Self {
            peer,
            path,
            via,
            segment: len,
            bytes: len,
            datagrams: 1,
            untried: false,
            ecn: Ecn::NotEct,
            first: NONE,
            last: NONE,
        }
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
    datagrams: usize,
    long: usize,
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
        self.datagrams < self.datagram_limit
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
            && segment <= usize::from(route.train_limit)
            && self.datagrams + datagrams <= self.datagram_limit;
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
        self.long += 1;
        true
    }

    /// One more datagram, if there may be one more.
    #[inline]
    fn count(&mut self) -> Result<(), SendError> {
        if !self.has_room() {
            return Err(SendError::Full);
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
        // A peer with one path had no other when the train was begun: paths go between turns.
        let whole = train.bytes == train.segment * train.datagrams;
        let fits = whole
            && len != 0
            && len <= train.segment
            && train.datagrams < self.limits.datagrams
            && train.bytes + len <= self.limits.bytes
            && train.segment <= u32::from(route.train_limit)
            && train.ecn == route.ecn
            && train.peer == Some(peer)
            && (route.has_one_path() || train.path == *path);
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
        } else if planted::is(Fault::LeakedBuffer) {
            self.kept += u32::from(matches!(source, Source::Buffer(_)));
        }
        true
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
    fn datagrams_of_different_marks_share_no_train() {
        let mut bed = bed(LONG);
        for ecn in [Ecn::NotEct, Ecn::Ect0, Ecn::Ect0, Ecn::Ce, Ecn::Ect0, Ecn::Ect0] {
            bed.routes.get_mut(bed.peers[0]).expect("open").ecn = ecn;
            bed.send(0, b"xy");
            bed.send(1, b"z");
        }
        let trains = bed.outbox.trains().iter().map(|t| (t.path.remote.port(), t.ecn, t.datagrams));
        assert_eq!(
            trains.collect::<Vec<_>>(),
            [(0, Ecn::NotEct, 1), (1, Ecn::NotEct, 6), (0, Ecn::Ect0, 2), (0, Ecn::Ce, 1), (0, Ecn::Ect0, 2)]
        );
    }

    #[test]
    fn what_lies_side_by_side_is_one_piece() {
        let mut bed = bed(LONG);
        (0..3).for_each(|_| bed.send(0, b"xy"));
        bed.send(1, b"z");
        bed.send(0, b"xy");
        let outbox = &bed.outbox;
        let lengths: Vec<u32> = outbox.sources(&outbox.trains()[0]).map(|source| source.len()).collect();
        assert_eq!(lengths, [6, 2]);
        assert_eq!((outbox.datagrams(), outbox.long_trains()), (5, 1));
        let received = |start| Source::Buffer(RxSlice { buffer: 3, start, len: 2 });
        let route = bed.routes.get_mut(bed.peers[1]).expect("open");
        bed.outbox.clear();
        for start in [10, 12, 14, 18] {
            bed.outbox.push(bed.peers[1], route, &path(1), received(start)).expect("room");
        }
        assert_eq!(bed.outbox.take_kept(), 2, "each piece is to be released");
    }

    #[test]
    fn a_path_that_refused_a_train_gets_none_so_long() {
        let mut bed = bed(LONG);
        let send = |bed: &mut Bed, len: usize| {
            bed.outbox.clear();
            (0..3).for_each(|_| bed.send(0, &vec![7; len]));
            bed.outbox.trains().iter().map(|train| (train.datagrams, train.untried)).collect::<Vec<_>>()
        };
        let peer = bed.peers[0];
        assert_eq!(send(&mut bed, 2_000), [(3, true)]);
        assert_eq!(send(&mut bed, 2_000), [(3, false)]);
        bed.routes.get_mut(peer).expect("open").train_refused(2_000);
        let singles = [(1, true); 3];
        assert_eq!(send(&mut bed, 2_000), singles);
        assert_eq!(send(&mut bed, 1_999), [(3, true)], "that has to be tried as well");
        bed.routes.get_mut(peer).expect("open").train_refused(1_000);
        assert_eq!(send(&mut bed, 10), singles, "it was not for their length");
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
    fn a_queued_datagram_costs_at_most_160_bytes() {
        assert!(size_of::<Train>() + size_of::<Piece>() <= 160);
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
