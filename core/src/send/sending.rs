//! What sending remembers from turn to turn, and under which bounds something is queued.
//!
//! A datagram that a handler sends passes, in this order: its length, the amplification limit of its path, the bounds of
//! what waits, and the outbox. Each may refuse it; then nothing has changed.

use std::sync::Arc;

use crate::peers::routes::Routes;
use crate::send::backlog::Backlog;
use crate::send::outbox::{Outbox, Source};
use crate::send::refused::Refused;
use crate::send::stateless::Answers;
use crate::stats::Stats;
use crate::types::datagram::{Datagram, Path, ReceivedTrain, RxSlice, SocketId};
use crate::types::error::{Bound, SendError};
use crate::types::ids::PeerId;

/// The outbox of a shard, what waits for room in sockets, and who waits for room in either.
#[derive(Debug)]
pub(crate) struct Sending {
    pub(crate) outbox: Outbox,
    /// What waits for room in a socket.
    pub(crate) backlog: Backlog,
    /// Peers that were refused a send for want of room.
    pub(crate) refused: Refused,
    /// How many stateless answers each address had in this second.
    answers: Box<Answers>,
    /// 0 for none.
    amplification_limit: u32,
    /// What may still be answered to the datagram that `accept` looks at, under the amplification limit.
    stranger: Option<(Path, u64)>,
    stats: Arc<Stats>,
}

impl Sending {
    pub(crate) fn new(
        outbox: Outbox,
        backlog: Backlog,
        answers: Answers,
        amplification_limit: u32,
        stats: Arc<Stats>,
    ) -> Self {
        let (refused, answers) = (Refused::default(), Box::new(answers));
        Self { outbox, backlog, refused, answers, amplification_limit, stranger: None, stats }
    }

    /// Queues a copy.
    #[inline]
    pub(crate) fn send(&mut self, routes: &mut Routes, to: PeerId, bytes: &[u8]) -> Result<(), SendError> {
        let path = self.sendable(routes, to, bytes.len())?;
        let source = self.copy(routes, Some(to), bytes)?;
        self.push(routes, to, &path, source, bytes.len())
    }

    /// Where room for so many bytes begins in the outbox.
    pub(crate) fn reserve(
        &mut self,
        routes: &mut Routes,
        to: PeerId,
        max: usize,
    ) -> Result<usize, SendError> {
        let path = routes.active_path(to).ok_or_else(|| has_no_path(routes, to))?;
        self.check_length(&path, max)?;
        self.outbox.reserve(max).map_err(|e| self.refuse(routes, Some(to), e))
    }

    /// Along which path what was written into such room goes, if it may be queued.
    pub(crate) fn written(&mut self, routes: &mut Routes, to: PeerId, len: usize) -> Result<Path, SendError> {
        let path = self.sendable(routes, to, len)?;
        self.outbox.room().map_err(|e| self.refuse(routes, Some(to), e))?;
        Ok(path)
    }

    /// Queues the first `len` bytes of a received datagram, out of its receive buffer.
    #[inline]
    pub(crate) fn reply(
        &mut self,
        routes: &mut Routes,
        datagram: &Datagram<'_>,
        len: usize,
    ) -> Result<(), SendError> {
        self.no_longer_than(datagram.len(), len)?;
        let source = self.source_of(routes, datagram, len)?;
        match datagram.peer {
            Some(peer) => {
                self.allowed(routes, peer, datagram.path, len)?;
                self.has_room_to_wait(routes, peer, datagram.path, len)?;
                self.push(routes, peer, datagram.path, source, len)
            }
            None => self.push_stateless(*datagram.path, source, len),
        }
    }

    /// Queues the first `len` bytes of a stranger's datagram, under the bounds of an answer.
    pub(crate) fn reply_stateless(
        &mut self,
        routes: &mut Routes,
        datagram: &Datagram<'_>,
        len: usize,
        stamp: u32,
    ) -> Result<(), SendError> {
        self.no_longer_than(datagram.len(), len)?;
        self.stranger_allowed(datagram.path, len, stamp)?;
        let source = self.source_of(routes, datagram, len)?;
        self.push_stateless(*datagram.path, source, len)
    }

    /// Queues all of a received train, out of its receive buffer.
    pub(crate) fn reply_train(
        &mut self,
        routes: &mut Routes,
        train: ReceivedTrain<'_>,
    ) -> Result<(), SendError> {
        if let (Some(peer), Some(at)) = (train.peer, train.at)
            && self.backlog.is_empty()
            && self.amplification_limit == 0
            && let Some(route) = routes.get_mut(peer)
        {
            let (source, segment, datagrams) = (Source::Buffer(at), train.segment, train.datagrams());
            if self.outbox.push_train(peer, route, train.path, source, segment, datagrams) {
                self.stats.queued.add(datagrams as u64);
                self.stats.queued_bytes.add(train.len() as u64);
                return Ok(());
            }
        }
        train.into_iter().try_for_each(|datagram| {
            let len = datagram.len();
            self.reply(routes, &datagram, len)
        })
    }

    /// Queues a copy for nobody's peer.
    pub(crate) fn answer(
        &mut self,
        routes: &mut Routes,
        path: Path,
        bytes: &[u8],
        stamp: u32,
    ) -> Result<(), SendError> {
        self.check_length(&path, bytes.len())?;
        if path.remote.port() == 0 {
            return Err(SendError::Gone);
        }
        self.stranger_allowed(&path, bytes.len(), stamp)?;
        let source = self.copy(routes, None, bytes)?;
        self.push_stateless(path, source, bytes.len())
    }

    /// Copies a payload for any number of sends in this turn.
    pub(crate) fn share(
        &mut self,
        routes: &mut Routes,
        shard: u16,
        bytes: &[u8],
    ) -> Result<Shared, SendError> {
        let source = self.copy(routes, None, bytes)?;
        Ok(Shared { source, len: bytes.len(), shard, turn: self.outbox.turn() })
    }

    pub(crate) fn send_shared(
        &mut self,
        routes: &mut Routes,
        shard: u16,
        to: PeerId,
        payload: Shared,
    ) -> Result<(), SendError> {
        if (payload.shard, payload.turn) != (shard, self.outbox.turn()) {
            return Err(SendError::Stale);
        }
        let path = self.sendable(routes, to, payload.len)?;
        self.push(routes, to, &path, payload.source, payload.len)
    }

    #[inline]
    fn sendable(&mut self, routes: &mut Routes, to: PeerId, len: usize) -> Result<Path, SendError> {
        let path = routes.active_path(to).ok_or_else(|| has_no_path(routes, to))?;
        self.check_length(&path, len)?;
        self.allowed(routes, to, &path, len)?;
        self.has_room_to_wait(routes, to, &path, len)?;
        Ok(path)
    }

    #[inline]
    fn check_length(&self, path: &Path, len: usize) -> Result<(), SendError> {
        self.no_longer_than(path.max_payload(), len)
    }

    /// Refuses and counts what is longer than it may be.
    #[inline]
    pub(crate) fn no_longer_than(&self, max: usize, len: usize) -> Result<(), SendError> {
        if len <= max {
            return Ok(());
        }
        self.stats.send_refused_too_long.add(1);
        Err(SendError::TooLong { max })
    }

    /// Whether the amplification limit lets so much go along a path of a peer.
    #[inline]
    fn allowed(&self, routes: &Routes, to: PeerId, path: &Path, len: usize) -> Result<(), SendError> {
        if self.amplification_limit == 0 { Ok(()) } else { self.within_limit(routes, to, path, len) }
    }

    #[inline(never)]
    fn within_limit(&self, routes: &Routes, to: PeerId, path: &Path, len: usize) -> Result<(), SendError> {
        match routes.left(to, path) {
            Some(left) if (left as usize) < len => {
                self.stats.send_refused_unvalidated.add(1);
                Err(SendError::Unvalidated { left: left as usize })
            }
            _ => Ok(()),
        }
    }

    /// Whether the address at the end of this path may have one more answer without a peer, of this length.
    fn stranger_allowed(&mut self, path: &Path, len: usize, stamp: u32) -> Result<(), SendError> {
        if let Err(per_second) = self.answers.one_more(path.remote.ip(), stamp) {
            self.stats.send_refused_stateless.add(1);
            return Err(SendError::TooManyAnswers { per_second });
        }
        if self.amplification_limit == 0 {
            return Ok(());
        }
        let left = match &mut self.stranger {
            Some((stranger, left)) if stranger == path => left,
            _ => &mut 0,
        };
        if *left >= len as u64 {
            *left -= len as u64;
            return Ok(());
        }
        let left = *left as usize;
        self.stats.send_refused_unvalidated.add(1);
        Err(SendError::Unvalidated { left })
    }

    /// Whether less may be sent to unproven addresses than handlers like.
    #[inline]
    pub(crate) fn limits_amplification(&self) -> bool {
        self.amplification_limit != 0
    }

    /// What may be answered to a stranger's datagram, in bytes, if that is limited. `answer` is given a path and not the
    /// datagram, so what is left is kept here while the handler looks at it.
    pub(crate) fn begin_stranger(&mut self, path: &Path, bytes: usize) {
        if self.limits_amplification() {
            self.stranger = Some((*path, u64::from(self.amplification_limit) * bytes as u64));
        }
    }

    /// The same where another shard's handler may have spent some of it.
    pub(crate) fn resume_stranger(&mut self, path: &Path, left: Option<u64>) {
        self.stranger = left.map(|left| (*path, left));
    }

    /// Nothing more is answered to it: what is left.
    #[inline]
    pub(crate) fn end_stranger(&mut self) -> Option<u64> {
        self.stranger.take().map(|(_, left)| left)
    }

    /// What so many bytes of a peer add to its allowance: the first datagram earns it once, and `accept` may have spent
    /// some.
    pub(crate) fn earned(&mut self, bytes: usize) -> u64 {
        let earned = u64::from(self.amplification_limit) * bytes as u64;
        self.end_stranger().unwrap_or(earned)
    }

    /// Where the bytes of a reply lie: in the receive buffer, or copied if there is none behind it.
    #[inline]
    fn source_of(
        &mut self,
        routes: &mut Routes,
        datagram: &Datagram<'_>,
        len: usize,
    ) -> Result<Source, SendError> {
        match datagram.at {
            Some(at) => Ok(Source::Buffer(RxSlice { len: len as u32, ..at })),
            None => self.copy(routes, datagram.peer, &datagram.bytes[..len]),
        }
    }

    /// Copies into the outbox what goes to this peer.
    #[inline]
    fn copy(&mut self, routes: &mut Routes, to: Option<PeerId>, bytes: &[u8]) -> Result<Source, SendError> {
        let source = self.outbox.copy(bytes).map_err(|e| self.refuse(routes, to, e))?;
        self.stats.copied_bytes.add(bytes.len() as u64);
        Ok(source)
    }

    #[inline]
    pub(crate) fn push(
        &mut self,
        routes: &mut Routes,
        to: PeerId,
        path: &Path,
        source: Source,
        len: usize,
    ) -> Result<(), SendError> {
        let Some(route) = routes.get_mut(to) else { return Err(SendError::Gone) };
        if let Err(error) = self.outbox.push(to, route, path, source) {
            return Err(self.refuse(routes, Some(to), error));
        }
        if self.amplification_limit != 0 {
            routes.spend(path, len);
        }
        if self.must_wait(routes, to, path) {
            self.backlog.expect(to, len);
        }
        self.count_queued(len);
        Ok(())
    }

    #[inline]
    fn push_stateless(&mut self, path: Path, source: Source, len: usize) -> Result<(), SendError> {
        if let Err(error) = self.outbox.push_stateless(path, source) {
            self.count_refused(&error);
            return Err(error);
        }
        self.count_queued(len);
        Ok(())
    }

    #[inline]
    fn count_queued(&self, len: usize) {
        self.stats.queued.add(1);
        self.stats.queued_bytes.add(len as u64);
    }

    fn count_refused(&self, error: &SendError) {
        if let SendError::Full(bound) = error {
            self.stats.send_refused_full.add(1);
            if matches!(bound, Bound::OutboxDatagrams | Bound::OutboxBytes) {
                self.stats.send_refused_outbox.add(1);
            }
        }
    }

    /// Counts a refusal for want of room, and notes whose handler is to hear when there is some.
    #[cold]
    fn refuse(&mut self, routes: &mut Routes, to: Option<PeerId>, error: SendError) -> SendError {
        self.count_refused(&error);
        if let (SendError::Full(_), Some(to)) = (&error, to)
            && let Some(route) = routes.get_mut(to).filter(|route| !route.refused)
        {
            route.refused = true;
            self.refused.push(to);
        }
        error
    }

    /// What will have to wait may not grow beyond the bounds.
    #[inline]
    fn has_room_to_wait(
        &mut self,
        routes: &mut Routes,
        to: PeerId,
        path: &Path,
        len: usize,
    ) -> Result<(), SendError> {
        if self.must_wait(routes, to, path)
            && let Some(bound) = self.backlog.bound_for(to, len)
        {
            return Err(self.refuse(routes, Some(to), SendError::Full(bound)));
        }
        Ok(())
    }

    #[inline]
    fn must_wait(&self, routes: &Routes, peer: PeerId, path: &Path) -> bool {
        !self.backlog.is_empty()
            && routes.get(peer).is_some_and(|route| self.backlog.must_wait(peer, route.socket(path)))
    }

    /// Whether a send that is refused now would be taken in the next turn. One to a peer that is gone would be
    /// refused for that.
    fn is_writable(&self, routes: &Routes, peer: PeerId) -> bool {
        let Some(path) = routes.active_path(peer) else { return true };
        !self.must_wait(routes, peer, &path) || self.backlog.is_half_empty(peer)
    }

    /// What waits at a socket that is closed has failed.
    pub(crate) fn lose_waiting(&mut self, socket: SocketId) {
        let lost = self.backlog.drop_socket(socket);
        if lost > 0 {
            self.refused.look_again();
            self.stats.send_failed_other.add(lost);
            self.stats.send_waiting.set(self.backlog.datagrams());
        }
    }

    /// What still waits has failed: there is no time left.
    pub(crate) fn lose_all(&mut self) {
        self.stats.send_failed_full.add(self.backlog.clear());
        self.stats.send_waiting.set(0);
    }

    /// The next peer that was refused and would not be now, of a bounded number that are looked at.
    pub(crate) fn next_writable(&mut self, routes: &mut Routes, looks: &mut usize) -> Option<PeerId> {
        while *looks > 0 {
            *looks -= 1;
            let peer = self.refused.next()?;
            if !self.is_writable(routes, peer) {
                self.refused.put_back(peer);
                continue;
            }
            if let Some(route) = routes.get_mut(peer) {
                route.refused = false;
            }
            return Some(peer);
        }
        None
    }
}

/// Why there is no path to a peer. A dialed one has no path record before its first attempt, so this is asked only where a
/// send fails anyway, and sends to other peers pay nothing for it.
#[cold]
fn has_no_path(routes: &Routes, to: PeerId) -> SendError {
    if routes.get(to).is_some() { SendError::NoAddress } else { SendError::Gone }
}

/// A payload copied once for any number of sends in this turn.
///
/// ```
/// use shardgram_core::{Handler, Io, PeerId, SendError};
/// fn both<H: Handler>(io: &mut Io<H>, a: PeerId, b: PeerId) -> Result<(), SendError> {
///     let news = io.share(b"news")?;
///     io.send_shared(a, news)?;
///     io.send_shared(b, news)
/// }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Shared {
    source: Source,
    len: usize,
    shard: u16,
    turn: u32,
}
