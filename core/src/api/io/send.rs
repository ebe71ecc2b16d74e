//! Sending: copies, writes in place, replies out of the receive buffer, payloads shared by many.

use crate::api::handler::Handler;
use crate::api::io::Io;
use crate::api::slot::Slot;
use crate::send::sending::Shared;
use crate::types::datagram::{Datagram, Path, ReceivedTrain};
use crate::types::ecn::Ecn;
use crate::types::error::SendError;
use crate::types::ids::PeerId;

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
        self.sending.send(&mut self.routes, to, bytes)
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
        let start = self.sending.reserve(&mut self.routes, to, max)?;
        Ok(Slot::new(self, to, start, max))
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
        self.sending.reply(&mut self.routes, &datagram, len)
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
        self.sending.reply_train(&mut self.routes, train)
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
    /// [`SendError::Gone`] if the path was kept and its endpoint was closed since, or is another shard's;
    /// [`SendError::Unvalidated`] beyond the amplification limit, [`SendError::TooManyAnswers`] beyond what one address may
    /// have in a second; see [`SendError`] for the rest.
    ///
    /// ```
    /// use shardgram_core::{Accept, Datagram, Handler, Io};
    /// fn refuse<H: Handler>(io: &mut Io<H>, first: &Datagram<'_>) -> Accept<H::Peer> {
    ///     let _ = io.answer(first.path(), b"version 1 only");
    ///     Accept::Done
    /// }
    /// ```
    pub fn answer(&mut self, path: Path, bytes: &[u8]) -> Result<(), SendError> {
        if !self.sockets.are_of(&path) {
            return Err(SendError::Gone);
        }
        self.sending.answer(&mut self.routes, path, bytes, self.time.stamp)
    }

    /// Copies a payload once, to be sent to any number of peers until this turn ends.
    ///
    /// # Errors
    /// [`SendError::Full`] if the outbox has no room for it ([`crate::Bound::OutboxBytes`]).
    ///
    /// ```
    /// use shardgram_core::{Context, Handler, SendError};
    /// fn announce<H: Handler>(cx: &mut Context<'_, H>, news: &[u8]) -> Result<(), SendError> {
    ///     let news = cx.io.share(news)?;
    ///     cx.peers.iter().try_for_each(|(peer, _state)| cx.io.send_shared(peer, news))
    /// }
    /// ```
    pub fn share(&mut self, bytes: &[u8]) -> Result<Shared, SendError> {
        self.sending.share(&mut self.routes, self.shard, bytes)
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
        self.sending.send_shared(&mut self.routes, self.shard, to, payload)
    }
}
