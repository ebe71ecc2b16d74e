//! The contract and the logic of shardgram: what a server is, without any I/O.
//!
//! Read in this order: [`handler`] (what a user writes), [`context`] (what a user may ask for),
//! [`driver`] (what a driver promises), [`shard_loop`] (one turn, written once for all drivers).
//!
//! Data flows one way: the driver receives, the peer table finds the peer, the handler is called, the
//! outbox gathers what it sends, the driver sends.
//!
//! The rooms below stand in an order: each imports only from those above it. `api` and `turn` alone know a handler's types.
#![forbid(unsafe_code)]

mod types;

pub mod stats;

pub mod config;

mod time;

mod peers;

mod send;

mod contract;

mod sockets;

mod connected;

mod messages;

mod dial;

mod api;

mod turn;

#[cfg(feature = "bench")]
#[doc(hidden)]
pub mod bench_support;
mod sync;

pub use api::context::Context;
pub use api::handler::{Accept, AfterPanic, Drain, Handler};
pub use api::io::Io;
pub use api::slot::Slot;
pub use api::tier::Tier;
pub use api::{context, handler};
pub use config::{AcceptChoice, Backend, Config, Settings, TierPolicy, WaitPolicy};
pub use contract::capability::Capability;
pub use contract::driver;
pub use dial::request::{Dial, HostError};
pub use dial::resolver;
pub use dial::resolver::{Lookup, Resolver};
pub use messages::mailbox;
pub use peers::crowd::Pressure;
pub use peers::own_addresses;
pub use peers::states::Peers;
pub use send::sending::Shared;
pub use send::{backlog, outbox};
pub use stats::{Snapshot, Stats};
pub use time::timers::TimerId;
pub use time::{gathering, seldom};
pub use turn::{control, shard_loop};
pub use types::datagram::{Datagram, Meta, Path, ReceivedTrain};
pub use types::ecn::Ecn;
pub use types::endpoint::{Endpoint, EndpointId, Via};
pub use types::error::{
    AttemptFault, Bound, CloseReason, ConfigError, DialError, DropPathError, Full, JoinError, LookupError,
    OpenError, PeerError, SendError,
};
pub use types::ids::{Origin, PeerId, ShardInfo};
pub use types::interface::{Interface, InterfaceError};
pub use types::multicast::Membership;
pub use types::names::UnknownName;
pub use types::path_mtu::PathMtu;
pub use types::receivers::Receivers;
pub use types::{datagram, error, flow};
