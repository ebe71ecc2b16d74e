//! Why a server did not start, or ended other than it should.

use std::io;

use shardgram_core::{ConfigError, JoinError, Membership};
use shardgram_sys::{AffinityError, BindError, Unsupported, errno};

/// Why a server did not start. Nothing of it is left running.
///
/// ```
/// use shardgram::{Config, Server, StartError};
/// let error = Server::bind(Config::new().shards(0)).err();
/// assert!(matches!(error, Some(StartError::Config(_))));
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration cannot be honoured.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// An address cannot be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A multicast group cannot be joined.
    #[error("cannot join {membership}: {error}")]
    Join {
        /// What was to be joined.
        membership: Membership,
        /// Why not, and what would help.
        error: JoinError,
    },
    /// A thread cannot be pinned to the core that was named.
    #[error(transparent)]
    Core(#[from] AffinityError),
    /// The backend that was asked for cannot be had here.
    #[error("the backend {backend} was asked for and cannot be had: {reason}; or ask for the backend auto")]
    BackendRefused {
        /// The backend asked for.
        backend: shardgram_core::Backend,
        /// What refuses it, and what would help.
        reason: String,
    },
    /// A setting that was asked for cannot be had on this system.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    /// The tier that was asked for cannot be had here.
    #[error("tier={tier} was asked for and cannot be had: {reason}; or ask for the tier listener")]
    TierRefused {
        /// The tier asked for.
        tier: shardgram_core::TierPolicy,
        /// What stands in the way.
        reason: String,
    },
    /// The way to accept that was asked for cannot be had here.
    #[error("accept={accept} was asked for and cannot be had: {reason}; or ask for auto")]
    AcceptRefused {
        /// The way asked for.
        accept: shardgram_core::AcceptChoice,
        /// What stands in the way.
        reason: String,
    },
    /// More peers with sockets of their own were asked for than there can be descriptors.
    #[error(
        "{asked} connected peers were asked for, and the limit of {limit} descriptors leaves room for {fits}: \
         ask for {fits} at most, or raise the limit (ulimit -n)"
    )]
    TooManyConnected {
        /// How many were asked for.
        asked: u32,
        /// How many fit.
        fits: u64,
        /// The limit of descriptors (RLIMIT_NOFILE).
        limit: u64,
    },
    /// The limit of descriptors is too low for the shards and their listeners.
    #[error(
        "{shards} shards with their listeners take {needed} descriptors, those that are open included, and the limit is \
         {limit}: raise it (ulimit -n){}", or_fewer_shards(*fits)
    )]
    TooFewDescriptors {
        /// How many shards were asked for.
        shards: u16,
        /// How many descriptors they take, with what is open and what a start needs for a moment.
        needed: u64,
        /// The limit of descriptors (RLIMIT_NOFILE).
        limit: u64,
        /// How many shards fit.
        fits: u64,
    },
    /// This program aborts on panics, so a panicking handler could not be replaced.
    #[error("panics abort this program: build it with panic = \"unwind\" in its Cargo profile")]
    PanicAbort,
    /// The handler's factory, or `on_start`, panicked.
    #[error("the handler of shard {shard} panicked in {callback}, before it served; the log says with what")]
    HandlerPanicked {
        /// Which shard.
        shard: u16,
        /// Which of the two.
        callback: &'static str,
    },
    /// The system refused a shard's thread, ring or sockets.
    #[error("shard {shard} cannot start: {source}{}", remedy(source))]
    Shard {
        /// Which shard.
        shard: u16,
        /// What the system said.
        source: io::Error,
    },
    /// The system refused something the whole server needs.
    #[error("cannot {what}: {source}{}", remedy(source))]
    System {
        /// What was being done.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

fn or_fewer_shards(fits: u64) -> String {
    if fits == 0 { String::new() } else { format!(", or ask for {fits} shards") }
}

/// What helps, where it is this process that is short of something.
fn remedy(source: &io::Error) -> &'static str {
    match source.raw_os_error() {
        Some(errno::EMFILE) => "; raise the limit of descriptors (ulimit -n)",
        _ => "",
    }
}

/// Why a server that ran ended other than by a drain or a stop.
///
/// ```
/// fn retry(error: &shardgram::ServeError) -> bool {
///     !matches!(error, shardgram::ServeError::TooManyRestarts { .. })
/// }
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// It did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A handler panicked more often than [`shardgram_core::Config::max_restarts_per_minute`] allows.
    #[error(
        "the handler of shard {shard} panicked {panics} times within a minute, the last time in {callback}: the log \
         says with what; without Config::max_restarts_per_minute that ends no server"
    )]
    TooManyRestarts {
        /// Which shard.
        shard: u16,
        /// What panicked last.
        callback: &'static str,
        /// How many panics there were within a minute.
        panics: u32,
    },
    /// A shard's driver failed.
    #[error("shard {shard} failed: {source}")]
    Shard {
        /// Which shard.
        shard: u16,
        /// What the system said.
        source: io::Error,
    },
}
