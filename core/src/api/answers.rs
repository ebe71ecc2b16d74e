//! What a handler answers the shard.

use crate::types::ids::PeerId;

/// What is kept when a callback panics ([`crate::Handler::AFTER_PANIC`]). A panic may leave anything half done that the callback
/// was at, so each choice is a promise of the handler's. Counted as [`crate::Stats::restarts`] whichever it is.
///
/// ```
/// use shardgram_core::{AfterPanic, Handler};
/// fn forgets<H: Handler>() -> bool { H::AFTER_PANIC == AfterPanic::Restart }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum AfterPanic {
    /// Nothing: a fresh handler takes over, and all peers are closed as [`crate::CloseReason::Restarted`], with their timers and
    /// all endpoints. Promises nothing.
    Restart,
    /// The peers: a fresh handler takes over, which finds them with their states, paths, timers and sockets in
    /// [`crate::Context::peers`]. The one over which a callback panicked is closed as [`crate::CloseReason::Panicked`]. What is the
    /// handler's own goes with it: timers of no peer, endpoints that no peer uses, groups it joined or left. Promises
    /// that what stands in a peer's state does not refer to what stood in the handler, and that no callback leaves the
    /// state of a peer half changed that it is not about.
    KeepPeers,
    /// The handler too: only the peer over which a callback panicked is closed, as [`crate::CloseReason::Panicked`], and the same handler
    /// goes on. After a panic that is about no peer it goes on after the pause; one that panicked in
    /// [`crate::Handler::on_start`] is replaced. Promises that the handler holds up whichever of its callbacks breaks off.
    ClosePeer,
}

/// What becomes of a datagram of an unknown 4-tuple.
///
/// ```
/// use shardgram_core::{Accept, Datagram};
/// fn decide(first: &Datagram<'_>) -> Accept<u32> {
///     match first.first() {
///         None => Accept::Drop("empty"),
///         Some(0) => Accept::Reply(first.len().min(512)),
///         Some(_) => Accept::Peer(0),
///     }
/// }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Accept<P> {
    /// Make a peer with this state. Policy may give it a socket of its own later.
    Peer(P),
    /// Make a peer and give it a socket of its own as soon as the caps allow; where the driver has none for
    /// it, the same as [`Accept::Peer`]. A socket costs, so prove the address first.
    Connect(P),
    /// No peer: it was answered with [`crate::Io::answer`], or there is nothing to say.
    Done,
    /// No peer: the first so many bytes of this datagram, as the handler left them, go back in place.
    /// More than there are is refused and counted, as every send that is too long ([`crate::Stats::send_refused_too_long`]).
    Reply(usize),
    /// One more path of that peer, which may live on another shard: there the datagram is forwarded.
    /// Answers keep going along the old path until [`crate::Io::use_path`], so a replayed copy from a
    /// forged address steals no conversation (RFC 9000 section 9.3). A peer that has all the paths it may
    /// have ([`crate::Config::max_paths_per_peer`]) loses the oldest of those it does not use.
    PathOf(PeerId),
    /// Refused; the reason becomes a counter's label. 31 different reasons are kept apart.
    Drop(&'static str),
}

/// What draining takes.
///
/// ```
/// use shardgram_core::Drain;
/// let patient = Drain::WhenPeersGone; // the handler says goodbye and closes its peers one by one
/// # let _ = patient;
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Drain {
    /// End once everything that had arrived is handled and answered; peers still open are then closed as
    /// [`crate::CloseReason::Drained`].
    WhenIdle,
    /// Go on serving until the handler has closed all its peers.
    WhenPeersGone,
}
