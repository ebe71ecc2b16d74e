//! The contract and the logic of shardgram: what a server is, without any I/O.
//!
//! Read in this order: [`handler`] (what a user writes), [`context`] (what a user may ask for),
//! [`driver`] (what a driver promises), [`shard_loop`] (one turn, written once for all drivers).
//!
//! Data flows one way: the driver receives, the peer table finds the peer, the handler is called, the
//! outbox gathers what it sends, the driver sends.
#![forbid(unsafe_code)]

pub mod backlog;
#[cfg(feature = "bench")]
#[doc(hidden)]
pub mod bench_support;
pub mod clock;
pub mod config;
#[cfg(feature = "conformance")]
pub mod conformance;
pub mod context;
pub mod control;
pub mod datagram;
pub mod driver;
pub mod error;
pub mod flow;
pub mod gathering;
pub mod handler;
pub mod mailbox;
pub mod outbox;
pub mod peers;
#[doc(hidden)]
pub mod planted;
pub mod resolver;
pub mod shard_loop;
pub mod stats;

mod bell;
mod capability;
mod cookie;
mod dial;
mod dialing;
mod dials;
mod dispatch;
mod ecn;
mod endpoints;
mod groups;
mod idle;
mod interface;
mod join_error;
mod links;
mod multicast;
mod path_mtu;
mod promotion;
mod receivers;
mod refused;
mod routes;
mod sending;
mod sync;
mod timers;

pub use capability::Capability;
pub use config::{AcceptChoice, Backend, Config, TierPolicy, WaitPolicy};
pub use context::{Context, Io, Tier};
pub use datagram::{Datagram, Meta, Path, ReceivedTrain};
pub use dial::{Dial, HostError};
pub use ecn::Ecn;
pub use endpoints::{Endpoint, EndpointId, Via};
pub use error::{
    AttemptFault, CloseReason, ConfigError, DialError, Full, JoinError, OpenError, PeerError, SendError,
};
pub use handler::{Accept, Drain, Handler, Origin, ShardInfo};
pub use interface::{Interface, InterfaceError};
pub use multicast::Membership;
pub use path_mtu::PathMtu;
pub use peers::{PeerId, Peers};
pub use receivers::Receivers;
pub use resolver::{Lookup, LookupError, Resolver};
pub use sending::{Shared, Slot};
pub use stats::{Snapshot, Stats};
pub use timers::TimerId;
