//! Sending: copies, writes in place, replies out of the receive buffer, payloads shared by many.

use std::ops::{Deref, DerefMut};

use crate::context::Io;
use crate::datagram::{Datagram, Path, ReceivedTrain, RxSlice};
use crate::ecn::Ecn;
use crate::error::SendError;
use crate::handler::Handler;
use crate::outbox::Source;
use crate::peers::PeerId;

/// Peers looked at in a turn for whether there is room again for what was refused, at most.
const LOOKED_AT_PER_TURN: usize = 1_024;

/// Sending.
impl<H: Handler> Io<H> {
    /// Sends a datagram; the bytes are copied once.
    ///
    /// # Errors
    /// See [`SendError`]; nothing is queued then.
    ///
    /// ```
    /// use shardgram_core::{Handler, Io, PeerId};
    /// fn greet<H: Handler>(io: &mut Io<H>, peer: PeerId) {
    ///     if let Err(error) = io.send(peer, b"hello") {
    ///         eprintln!("no greeting for {peer}: {error}");
    ///     }
    /// }
    /// ```
    pub fn send(&mut self, to: PeerId, bytes: &[u8]) -> Result<(), SendError> {
        let path = self.sendable(to, bytes.len())?;
        let source = self.copy(Some(to), bytes)?;
        self.push(to, &path, source, bytes.len())
    }

    /// Room for up to `max` zeroed bytes in the outbox, to write a datagram in place.
    /// [`Slot::commit`] queues it, dropping it queues nothing.
    ///
    /// # Errors
    /// See [`SendError`].
    ///
    /// ```
    /// use shardgram_core::{Handler, Io, PeerId, SendError};
    /// fn number<H: Handler>(io: &mut Io<H>, to: PeerId, number: u64) -> Result<(), SendError> {
    ///     let mut slot = io.slot(to, 8)?;
    ///     slot.copy_from_slice(&number.to_be_bytes());
    ///     slot.commit(8)
    /// }
    /// ```
    pub fn slot(&mut self, to: PeerId, max: usize) -> Result<Slot<'_, H>, SendError> {
        let path = self.routes.active_path(to).ok_or_else(|| self.has_no_path(to))?;
        check_length(&path, max)?;
        let start = self.outbox.reserve(max).map_err(|e| self.refused(Some(to), e))?;
        Ok(Slot { io: self, to: Some(to), start, max })
    }

    /// Sends the first `len` bytes of a received datagram, as the handler left them, back whence it came,
    /// out of its receive buffer: no copy.
    ///
    /// # Errors
    /// [`SendError::TooLong`] if it is shorter than that; see [`SendError`] for the rest.
    ///
    /// ```
    /// use shardgram_core::{Datagram, Handler, Io, SendError};
    /// fn shout<H: Handler>(io: &mut Io<H>, mut datagram: Datagram<'_>) -> Result<(), SendError> {
    ///     datagram.make_ascii_uppercase();
    ///     let len = datagram.len();
    ///     io.reply(datagram, len)
    /// }
    /// ```
    #[expect(clippy::needless_pass_by_value, reason = "the datagram is given up together with its buffer")]
    pub fn reply(&mut self, datagram: Datagram<'_>, len: usize) -> Result<(), SendError> {
        if len > datagram.len() {
            return Err(SendError::TooLong { max: datagram.len() });
        }
        let source = self.source_of(&datagram, len)?;
        match datagram.peer {
            Some(peer) => {
                self.allowed(peer, len)?;
                self.has_room_to_wait(peer, datagram.path, len)?;
                self.push(peer, datagram.path, source, len)
            }
            None => self.push_stateless(*datagram.path, source, len),
        }
    }

    /// Sends all datagrams of a received train, as the handler left them, back whence they came, out of their
    /// receive buffer and in one send where the path takes that: no copy.
    ///
    /// # Errors
    /// See [`SendError`]; those before the one that failed are queued.
    ///
    /// ```
    /// use shardgram_core::{Handler, Io, ReceivedTrain};
    /// fn mirror<H: Handler>(io: &mut Io<H>, mut train: ReceivedTrain<'_>) {
    ///     let segment = train.segment();
    ///     train.chunks_mut(segment).for_each(<[u8]>::reverse);
    ///     let _ = io.reply_train(train);
    /// }
    /// ```
    pub fn reply_train(&mut self, train: ReceivedTrain<'_>) -> Result<(), SendError> {
        if let (Some(peer), Some(at)) = (train.peer, train.at)
            && self.backlog.is_empty()
            && self.amplification_limit == 0
            && let Some(route) = self.routes.get_mut(peer)
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
            self.reply(datagram, len)
        })
    }

    /// Marks everything that is sent to a peer from now on, replies included and along every path of it; what was
    /// queued before keeps its mark. A new peer has [`Ecn::NotEct`], as stateless answers have. Does nothing for a
    /// peer that is gone, nor on systems where the driver cannot mark.
    ///
    /// A DSCP that the socket hook set (IP_TOS in ip(7), IPV6_TCLASS in ipv6(7)) stays on the datagrams, on Linux. A
    /// priority that it set (SO_PRIORITY in socket(7)) does not stay on those of IPv4 that are marked by control data:
    /// the kernel takes the one of the DSCP.
    ///
    /// By a listener each marked send takes 24 bytes of control data along. By a socket of the peer's own the mark is
    /// an option of the socket: a change of it costs three system calls in a turn (one with IPv6) and a look at the
    /// routes, and further changes in the same turn are control data. Datagrams of different marks leave in different
    /// trains.
    ///
    /// ```
    /// use shardgram_core::{Ecn, Handler, Io, PeerId};
    /// fn validated<H: Handler>(io: &mut Io<H>, peer: PeerId, marks_are_counted: bool) {
    ///     io.set_ecn(peer, if marks_are_counted { Ecn::Ect0 } else { Ecn::NotEct });
    /// }
    /// ```
    pub fn set_ecn(&mut self, peer: PeerId, ecn: Ecn) {
        if let Some(route) = self.routes.get_mut(peer) {
            route.ecn = ecn;
        }
    }

    /// Answers the datagram at hand without a peer: no state, from the address it was sent to.
    ///
    /// # Errors
    /// [`SendError::Unvalidated`] beyond the amplification limit; see [`SendError`] for the rest.
    ///
    /// ```
    /// use shardgram_core::{Accept, Datagram, Handler, Io};
    /// fn refuse<H: Handler>(io: &mut Io<H>, first: &Datagram<'_>) -> Accept<H::Peer> {
    ///     let _ = io.answer(first.path(), b"version 1 only");
    ///     Accept::Done
    /// }
    /// ```
    pub fn answer(&mut self, path: Path, bytes: &[u8]) -> Result<(), SendError> {
        check_length(&path, bytes.len())?;
        if path.remote.port() == 0 {
            return Err(SendError::Gone);
        }
        self.stranger_allowed(&path, bytes.len())?;
        let source = self.copy(None, bytes)?;
        self.push_stateless(path, source, bytes.len())
    }

    /// Copies a payload once, to be sent to any number of peers until this turn ends.
    ///
    /// # Errors
    /// [`SendError::Full`] if the outbox has no room for it.
    ///
    /// ```
    /// use shardgram_core::{Context, Handler, SendError};
    /// fn announce<H: Handler>(cx: &mut Context<'_, H>, news: &[u8]) -> Result<(), SendError> {
    ///     let news = cx.io.share(news)?;
    ///     cx.peers.iter().try_for_each(|(peer, _state)| cx.io.send_shared(peer, news))
    /// }
    /// ```
    pub fn share(&mut self, bytes: &[u8]) -> Result<Shared, SendError> {
        let source = self.copy(None, bytes)?;
        Ok(Shared { source, len: bytes.len(), shard: self.shard, turn: self.outbox.turn() })
    }

    /// Sends a shared payload; no copy.
    ///
    /// # Errors
    /// [`SendError::Stale`] if it was shared in an earlier turn; see [`SendError`] for the rest.
    ///
    /// ```
    /// use shardgram_core::{Handler, Io, PeerId, SendError};
    /// fn relay<H: Handler>(io: &mut Io<H>, to: &[PeerId], bytes: &[u8]) -> Result<usize, SendError> {
    ///     let payload = io.share(bytes)?;
    ///     Ok(to.iter().filter(|peer| io.send_shared(**peer, payload).is_ok()).count())
    /// }
    /// ```
    pub fn send_shared(&mut self, to: PeerId, payload: Shared) -> Result<(), SendError> {
        if (payload.shard, payload.turn) != (self.shard, self.outbox.turn()) {
            return Err(SendError::Stale);
        }
        let path = self.sendable(to, payload.len)?;
        self.push(to, &path, payload.source, payload.len)
    }

    fn sendable(&mut self, to: PeerId, len: usize) -> Result<Path, SendError> {
        let path = self.routes.active_path(to).ok_or_else(|| self.has_no_path(to))?;
        check_length(&path, len)?;
        self.allowed(to, len)?;
        self.has_room_to_wait(to, &path, len)?;
        Ok(path)
    }

    /// Why there is no path to a peer.
    #[cold]
    fn has_no_path(&self, to: PeerId) -> SendError {
        if self.routes.get(to).is_some() { SendError::NoAddress } else { SendError::Gone }
    }

    fn allowed(&self, to: PeerId, len: usize) -> Result<(), SendError> {
        if self.amplification_limit == 0 {
            return Ok(());
        }
        let route = self.routes.get(to).ok_or(SendError::Gone)?;
        if route.validated || route.allowance >= len as u64 {
            return Ok(());
        }
        self.stats.send_refused_unvalidated.add(1);
        Err(SendError::Unvalidated { left: route.allowance as usize })
    }

    pub(crate) fn stranger_allowed(&mut self, path: &Path, len: usize) -> Result<(), SendError> {
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

    /// What a datagram of a peer adds to its allowance: the first one earns it once, and `accept` may have spent
    /// some.
    pub(crate) fn gain(&mut self, bytes: usize) -> u64 {
        let earned = u64::from(self.amplification_limit) * bytes as u64;
        self.stranger.take().map_or(earned, |(_, left)| left)
    }

    /// Where the bytes of a reply lie: in the receive buffer, or copied if there is none behind it.
    #[inline]
    pub(crate) fn source_of(&mut self, datagram: &Datagram<'_>, len: usize) -> Result<Source, SendError> {
        match datagram.at {
            Some(at) => Ok(Source::Buffer(RxSlice { len: len as u32, ..at })),
            None => self.copy(datagram.peer, &datagram.bytes[..len]),
        }
    }

    /// Copies into the outbox what goes to this peer.
    #[inline]
    fn copy(&mut self, to: Option<PeerId>, bytes: &[u8]) -> Result<Source, SendError> {
        let source = self.outbox.copy(bytes).map_err(|e| self.refused(to, e))?;
        self.stats.copied_bytes.add(bytes.len() as u64);
        Ok(source)
    }

    pub(crate) fn push(
        &mut self,
        to: PeerId,
        path: &Path,
        source: Source,
        len: usize,
    ) -> Result<(), SendError> {
        let Some(route) = self.routes.get_mut(to) else { return Err(SendError::Gone) };
        if let Err(error) = self.outbox.push(to, route, path, source) {
            return Err(self.refused(Some(to), error));
        }
        if self.amplification_limit != 0 && !route.validated {
            route.allowance = route.allowance.saturating_sub(len as u64);
        }
        if self.must_wait(to, path) {
            self.backlog.expect(to, len);
        }
        self.count_queued(len);
        Ok(())
    }

    pub(crate) fn push_stateless(&mut self, path: Path, source: Source, len: usize) -> Result<(), SendError> {
        self.outbox.push_stateless(path, source).map_err(|e| self.refused(None, e))?;
        self.count_queued(len);
        Ok(())
    }

    fn count_queued(&self, len: usize) {
        self.stats.queued.add(1);
        self.stats.queued_bytes.add(len as u64);
    }

    /// Counts a refusal for want of room, and notes whose handler is to hear when there is some.
    fn refused(&mut self, to: Option<PeerId>, error: SendError) -> SendError {
        if error == SendError::Full {
            self.stats.send_refused_full.add(1);
            if let Some(to) = to
                && let Some(route) = self.routes.get_mut(to).filter(|route| !route.refused)
            {
                route.refused = true;
                self.refused.push(to);
            }
        }
        error
    }

    /// What will have to wait may not grow beyond the bounds.
    #[inline]
    fn has_room_to_wait(&mut self, to: PeerId, path: &Path, len: usize) -> Result<(), SendError> {
        if self.must_wait(to, path) && !self.backlog.has_room(to, len) {
            return Err(self.refused(Some(to), SendError::Full));
        }
        Ok(())
    }

    #[inline]
    fn must_wait(&self, peer: PeerId, path: &Path) -> bool {
        !self.backlog.is_empty()
            && self.routes.get(peer).is_some_and(|route| self.backlog.must_wait(peer, route.socket(path)))
    }

    /// Whether a send that is refused now would be taken in the next turn. One to a peer that is gone would be
    /// refused for that.
    fn is_writable(&self, peer: PeerId) -> bool {
        let Some(path) = self.routes.active_path(peer) else { return true };
        !self.must_wait(peer, &path) || self.backlog.is_half_empty(peer)
    }

    /// The next peers that were refused and would not be now, of a bounded number that are looked at.
    pub(crate) fn take_writable(&mut self) -> Vec<PeerId> {
        let mut writable = Vec::new();
        for _ in 0..LOOKED_AT_PER_TURN {
            let Some(peer) = self.refused.next() else { break };
            if !self.is_writable(peer) {
                self.refused.put_back(peer);
                continue;
            }
            if let Some(route) = self.routes.get_mut(peer) {
                route.refused = false;
            }
            writable.push(peer);
        }
        writable
    }
}

fn check_length(path: &Path, len: usize) -> Result<(), SendError> {
    let max = path.max_payload();
    if len > max { Err(SendError::TooLong { max }) } else { Ok(()) }
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

/// Room in the outbox to write a datagram in place.
///
/// ```
/// use shardgram_core::{Handler, Io, PeerId, SendError};
/// fn greet<H: Handler>(io: &mut Io<H>, to: PeerId) -> Result<(), SendError> {
///     let mut slot = io.slot(to, 64)?;
///     slot[..5].copy_from_slice(b"hello");
///     slot.commit(5)
/// }
/// ```
#[derive(Debug)]
pub struct Slot<'a, H: Handler> {
    io: &'a mut Io<H>,
    to: Option<PeerId>,
    start: usize,
    max: usize,
}

impl<H: Handler> Slot<'_, H> {
    /// Queues the first `len` bytes.
    ///
    /// # Errors
    /// [`SendError::TooLong`] if the room is smaller than that; see [`SendError`] for the rest.
    ///
    /// ```
    /// use shardgram_core::{Handler, Io, PeerId, SendError};
    /// fn list<H: Handler>(io: &mut Io<H>, to: PeerId, items: &[u8]) -> Result<(), SendError> {
    ///     let mut slot = io.slot(to, 1200)?;
    ///     let len = items.len().min(slot.len());
    ///     slot[..len].copy_from_slice(&items[..len]);
    ///     slot.commit(len) // what was not used of the room is given back
    /// }
    /// ```
    pub fn commit(mut self, len: usize) -> Result<(), SendError> {
        if len > self.max {
            return Err(SendError::TooLong { max: self.max });
        }
        let to = self.to.ok_or(SendError::Gone)?;
        let path = self.io.sendable(to, len)?;
        if !self.io.outbox.has_room() {
            return Err(self.io.refused(Some(to), SendError::Full));
        }
        // From here on the bytes are queued, so dropping the slot must not take them back.
        self.to = None;
        self.io.outbox.shrink_to(self.start + len);
        let source = Source::Outbox { start: self.start as u32, len: len as u32 };
        self.io.push(to, &path, source, len)
    }
}

impl<H: Handler> Drop for Slot<'_, H> {
    fn drop(&mut self) {
        if self.to.is_some() {
            self.io.outbox.shrink_to(self.start);
        }
    }
}

impl<H: Handler> Deref for Slot<'_, H> {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.io.outbox.reserved(self.start)
    }
}

impl<H: Handler> DerefMut for Slot<'_, H> {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.io.outbox.reserved_mut(self.start)
    }
}
