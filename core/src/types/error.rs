//! What can go wrong, one small type per operation.

use std::net::SocketAddr;

use crate::types::ids::PeerId;
pub use crate::types::multicast::JoinError;

/// Why a datagram was not queued. Nothing was sent and nothing is kept.
///
/// ```
/// use shardgram_core::{Handler, Io, PeerId, SendError};
/// fn push<H: Handler>(io: &mut Io<H>, peer: PeerId, bytes: &[u8]) -> bool {
///     match io.send(peer, bytes) {
///         Ok(()) => true,
///         Err(SendError::Full(_)) => false, // `on_writable` says when there is room
///         Err(error) => panic!("{error}"),
///     }
/// }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The peer was closed, or its id belongs to another shard. Or the path is none: not one of that peer, or of an endpoint
    /// that was closed or is another shard's.
    #[error("the peer is gone, or its path or the endpoint of that")]
    Gone,
    /// There is no room: which bound was met is said. The peer is not to blame, and nothing is wrong with it.
    ///
    /// What other callbacks queued before in the same turn is hardly ever the cause: none begins unless half of the
    /// outbox is free ([`crate::Config::outbox_datagrams`]). So the outbox is full for a callback that asks for more
    /// than half of it, and surely for one that asks for more than there is.
    ///
    /// What is superseded by the next send anyway can be left out. What has to arrive is kept until
    /// [`crate::Handler::on_writable`] says that there is room for this peer.
    #[error("{0}")]
    Full(Bound),
    /// The peer was dialed and has no address yet, or none for the moment: [`crate::Handler::on_attempt`] says when it
    /// has.
    #[error(
        "the peer has no address: its host is being looked up, has none, or is about to be tried at another"
    )]
    NoAddress,
    /// Longer than the path can carry, or than the bytes there are.
    #[error("longer than {max} bytes")]
    TooLong {
        /// The most that would have been accepted, in bytes.
        max: usize,
    },
    /// The shared payload belongs to an earlier turn or to another shard ([`crate::Io::share`]).
    #[error("the shared payload belongs to an earlier turn or to another shard")]
    Stale,
    /// The amplification limit ([`crate::Config::amplification_limit`]) allows no more to an
    /// unvalidated address.
    #[error("the address is not validated and only {left} bytes may be sent to it")]
    Unvalidated {
        /// Bytes still allowed.
        left: usize,
    },
    /// The address has had as many stateless answers in this second as it may
    /// ([`crate::Config::stateless_answers_per_second`]).
    #[error("the address has had {per_second} stateless answers in this second, and may have no more")]
    TooManyAnswers {
        /// How many it may have.
        per_second: u32,
    },
}

/// Which bound left a send no room.
///
/// ```
/// use shardgram_core::{Bound, SendError};
/// fn reaches_nobody_else(error: SendError) -> bool { matches!(error, SendError::Full(Bound::OutboxDatagrams)) }
/// assert_eq!(
///     SendError::Full(Bound::OutboxDatagrams).to_string(),
///     "as many datagrams are queued in this turn as may be: raise outbox_datagrams"
/// );
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Bound {
    /// [`crate::Config::outbox_datagrams`]: sends to others are refused as well until the turn is over.
    #[error("as many datagrams are queued in this turn as may be: raise outbox_datagrams")]
    OutboxDatagrams,
    /// [`crate::Config::outbox_bytes`]: others that copy so much are refused as well until the turn is over.
    #[error("the outbox has no room for so many bytes in this turn: raise outbox_bytes")]
    OutboxBytes,
    /// [`crate::Config::send_queue_bytes`]: as much waits for this peer as may.
    #[error("as much waits for this peer as may, since its socket is full: raise send_queue_bytes")]
    PeerQueue,
    /// [`crate::Config::send_backlog_bytes`]: as much waits for all peers together as may.
    #[error("as much waits for full sockets as may: raise send_backlog_bytes")]
    Backlog,
}

/// Why a path could not be dropped. The peer is as it was.
///
/// ```
/// use shardgram_core::DropPathError;
/// let error = DropPathError::InUse;
/// assert_eq!(error.to_string(), "answers go along that path: have them go along another with use_path, or close the peer");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DropPathError {
    /// The peer was closed, or its id belongs to another shard, or the path is not one of its own.
    #[error("the peer is gone, or has no such path")]
    Gone,
    /// It is the path along which the peer is answered.
    #[error("answers go along that path: have them go along another with use_path, or close the peer")]
    InUse,
}

/// Why a peer could not be opened.
///
/// ```
/// use shardgram_core::OpenError;
/// assert_eq!(OpenError::TableFull.to_string(), "the peer table is full: raise max_peers");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// [`crate::Config::max_peers`] is reached, or the paths that go with it.
    #[error("the peer table is full: raise max_peers")]
    TableFull,
    /// This 4-tuple already has a peer.
    #[error("the path already has a peer")]
    InUse(PeerId),
    /// No such endpoint on this shard.
    #[error("no such endpoint")]
    NoSuchEndpoint,
    /// No listener has this address, or it is a wildcard one and the local address must be named.
    #[error("no listener at {0}")]
    NoSuchListener(SocketAddr),
    /// A datagram cannot be sent to port 0.
    #[error("port 0 cannot be a peer's port")]
    PortZero,
    /// This process listens at the remote address, so that listener's answers would come from where its questions go to:
    /// what it receives from there is dropped. An endpoint can have it for a peer.
    #[error("this process listens at that address: open the peer by an endpoint")]
    OwnAddress,
    /// A listener's peer lives on the shard its datagrams are steered to: have that one open it.
    #[error("datagrams of this peer are steered to shard {shard}: open it there")]
    NotHere {
        /// The shard that owns the 4-tuple.
        shard: u16,
    },
    /// The shard ends: it is closing its peers.
    #[error("the shard ends, so its peers are being closed")]
    Ending,
    /// The local and the remote address are of different families.
    #[error("the remote address is of another family than the socket")]
    FamilyMismatch,
}

/// Why a peer could not be dialed.
///
/// ```
/// use shardgram_core::DialError;
/// fn later(error: DialError) -> bool { error == DialError::LookupsFull }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// [`crate::Config::max_peers`] is reached, or the paths that go with it.
    #[error("the peer table is full: raise max_peers")]
    TableFull,
    /// [`crate::Config::max_lookups`] are under way.
    #[error("as many names as may be are being looked up: try again later, or raise max_lookups")]
    LookupsFull,
    /// No such endpoint on this shard.
    #[error("no such endpoint")]
    NoSuchEndpoint,
    /// The peer was opened by its address, or came by itself: there is nothing to dial again.
    #[error("the peer was not dialed")]
    NotDialed,
    /// The shard ends: it is closing its peers.
    #[error("the shard ends, so its peers are being closed")]
    Ending,
    /// The peer was closed, or its id belongs to another shard.
    #[error("the peer is gone")]
    Gone,
}

/// Why a name has no addresses.
///
/// ```
/// use shardgram_core::LookupError;
/// /// Whether the next try may go better.
/// fn try_again(error: LookupError) -> bool {
///     matches!(error, LookupError::Temporary | LookupError::Busy | LookupError::TimedOut)
/// }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LookupError {
    /// There is no such name (getaddrinfo(3), EAI_NONAME).
    #[error("there is no such name")]
    NotFound,
    /// The name has no address that could be written to: none at all (EAI_NODATA), none of a family that the
    /// endpoint has, or only wildcards, multicast and broadcast addresses. Or such an address was dialed itself.
    #[error("there is no address that can be written to from here")]
    NoAddress,
    /// No name server answered in time, or one is in trouble (EAI_AGAIN).
    #[error("no name server answered; it may later")]
    Temporary,
    /// There was no answer within [`crate::Dial::look_up_within`].
    #[error("the name was not looked up in time")]
    TimedOut,
    /// The resolver has as much to do as it may.
    #[error("the resolver has too much to do")]
    Busy,
    /// The server has no resolver.
    #[error("the server has no resolver")]
    NoResolver,
    /// The resolver let the lookup go without an answer.
    #[error("the resolver gave the lookup up")]
    Abandoned,
    /// Anything else, with the resolver's own number (EAI_* of getaddrinfo(3)), or 0.
    #[error("the resolver failed (error {code})")]
    Failed {
        /// The resolver's error number.
        code: i32,
    },
}

/// Why an address that was dialed was given up for the next.
///
/// ```
/// use shardgram_core::{AttemptFault, PeerError};
/// let error = PeerError::NoAnswer { addresses: 2, last: AttemptFault::Silence };
/// assert_eq!(error.to_string(), "none of 2 addresses answered; the last: nothing came from it in time");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttemptFault {
    /// Nothing came within [`crate::Dial::try_for`].
    #[error("nothing came from it in time")]
    Silence,
    /// See [`PeerError::Refused`].
    #[error("it refused")]
    Refused,
    /// See [`PeerError::Unreachable`].
    #[error("it cannot be reached")]
    Unreachable,
    /// See [`PeerError::Forbidden`].
    #[error("a local rule forbids sending to it")]
    Forbidden,
    /// See [`PeerError::NotOpened`].
    #[error("the endpoint could not be opened (system error {errno})")]
    NotOpened {
        /// The system's error number.
        errno: i32,
    },
    /// [`crate::Config::max_endpoints`] are open, or the one that was named was closed.
    #[error("there is no endpoint to write to it from")]
    NoEndpoint,
    /// The endpoint that was named has a peer at that address already.
    #[error("the endpoint has another peer at that address")]
    InUse,
    /// See [`PeerError::Other`].
    #[error("system error {errno}")]
    Other {
        /// The system's error number.
        errno: i32,
    },
}

impl AttemptFault {
    /// What an error means to an attempt: nothing if it is about one datagram.
    pub(crate) fn of(error: PeerError) -> Option<Self> {
        match error {
            PeerError::Refused => Some(Self::Refused),
            PeerError::Unreachable => Some(Self::Unreachable),
            PeerError::Forbidden => Some(Self::Forbidden),
            PeerError::NotOpened { errno } => Some(Self::NotOpened { errno }),
            PeerError::Other { errno } => Some(Self::Other { errno }),
            PeerError::TooLong { .. } | PeerError::NoBuffers => None,
            // These are said of a dial as a whole.
            PeerError::Unresolved { .. } | PeerError::NoAnswer { .. } => None,
        }
    }
}

/// What befell a peer. It stays open; closing it is the handler's decision.
///
/// ```
/// use shardgram_core::PeerError;
/// fn fatal(error: PeerError) -> bool { matches!(error, PeerError::Refused | PeerError::NotOpened { .. }) }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PeerError {
    /// The peer's host says that nothing listens there (ICMP port unreachable).
    #[error("refused: nothing listens at the peer's port")]
    Refused,
    /// No route, or a router says so (ICMP host or net unreachable), or the local address is gone.
    #[error("unreachable: no route to the peer, or the local address is gone")]
    Unreachable,
    /// Longer than the path's MTU.
    #[error("the datagram is longer than the path carries")]
    TooLong {
        /// The path's MTU in bytes, where the driver can tell it.
        mtu: Option<usize>,
    },
    /// The system had no room to queue the datagram.
    #[error("the system had no room for the datagram")]
    NoBuffers,
    /// A local rule (firewall, security policy) forbids it, or it is a broadcast address and [`crate::Config::broadcast`]
    /// is off.
    #[error(
        "a local rule forbids sending to the peer, or it is a broadcast address and Config::broadcast is off"
    )]
    Forbidden,
    /// The endpoint of this peer could not be opened.
    #[error("the endpoint could not be opened (system error {errno})")]
    NotOpened {
        /// The system's error number.
        errno: i32,
    },
    /// A dialed peer has no address to write to: its name has none, or it was dialed by one that is not any host's, or
    /// not of its endpoint's family ([`LookupError::NoAddress`]). [`crate::Io::redial`] looks a name up again.
    #[error("the peer's host was not resolved: {why}")]
    Unresolved {
        /// Why not.
        why: LookupError,
    },
    /// No address of a dialed peer answered. It keeps the last one; [`crate::Io::redial`] begins anew.
    #[error("none of {addresses} addresses answered; the last: {last}")]
    NoAnswer {
        /// How many were tried.
        addresses: u8,
        /// What became of the last.
        last: AttemptFault,
    },
    /// Anything else, with the system's error number.
    #[error("system error {errno}")]
    Other {
        /// The system's error number.
        errno: i32,
    },
}

/// Why a peer was closed.
///
/// ```
/// use shardgram_core::CloseReason;
/// assert_ne!(CloseReason::Idle, CloseReason::Drained);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum CloseReason {
    /// The handler asked for it.
    Asked,
    /// Nothing came from it for [`crate::Config::idle_timeout`].
    Idle,
    /// The endpoint it was answered along was closed.
    EndpointClosed,
    /// The table was full, and it gave its place to a newcomer, since nothing certain was known of its address
    /// ([`crate::Config::max_proven_peers`]).
    Displaced,
    /// The local address it spoke to is this host's no longer.
    AddressGone,
    /// The handler that made it panicked and was replaced ([`crate::AfterPanic::Restart`]).
    Restarted,
    /// The handler panicked over it, and its other peers stay ([`crate::AfterPanic`]).
    Panicked,
    /// The server drained, or was stopped.
    Drained,
}

/// A bounded queue had no room; here is the thing back.
///
/// ```
/// use shardgram_core::{Full, Handler, Io};
/// fn ask<H: Handler>(io: &mut Io<H>, message: H::Message) -> Option<H::Message> {
///     match io.tell(1, message) { Ok(()) => None, Err(Full(message)) => Some(message) }
/// }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full<T>(pub T);

/// A configuration that cannot be honoured. Nothing was started.
///
/// ```
/// use shardgram_core::Config;
/// let error = Config::new().shards(0).validate().unwrap_err();
/// assert_eq!(error.to_string(), "shards = 0 is out of range: it must be 1 to 1024");
/// ```
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A value outside its range.
    #[error("{field} = {value} is out of range: it must be {low} to {high}")]
    OutOfRange {
        /// The setting's name.
        field: &'static str,
        /// What it was set to.
        value: u64,
        /// The least it may be.
        low: u64,
        /// The most it may be.
        high: u64,
    },
    /// `cores` does not name one core per shard.
    #[error("{cores} cores are named for {shards} shards: name one core per shard")]
    CoresMismatch {
        /// How many cores were named.
        cores: usize,
        /// How many shards there are to be.
        shards: usize,
    },
    /// The completion queue of a ring would be shorter than its submission queue.
    #[error(
        "completion_entries = {completions} is too few for submission_entries = {submissions}: set at least as \
         many, or 0 to have them derived"
    )]
    QueuesMismatch {
        /// Completion entries asked for.
        completions: u32,
        /// Submission entries asked for.
        submissions: u16,
    },
    /// The same address twice.
    #[error("{0} is listened on twice")]
    ListenTwice(SocketAddr),
    /// A multicast group that cannot be joined.
    #[error(transparent)]
    Join(#[from] JoinError),
}
