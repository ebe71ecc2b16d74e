//! A sharded UDP server framework for servers where every microsecond counts.
//!
//! You write one [`Handler`]; shardgram runs one copy of it on every core. Each core is a shard: one
//! thread, one ring, one peer table, nothing shared on the data path. On Linux 6.1 and later a shard
//! drives io_uring; elsewhere, and where io_uring is refused, the same handler runs on mio; in tests it
//! runs on a simulated network with a virtual clock and a seed (crate `shardgram-sim`).
//!
//! ```no_run
//! use shardgram::{Accept, Config, Context, Datagram, Handler, PeerId, Server};
//!
//! struct Echo;
//!
//! impl Handler for Echo {
//!     type Peer = ();
//!     type Timer = ();
//!     type Message = ();
//!
//!     fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
//!         Accept::Peer(())
//!     }
//!
//!     fn on_datagram(&mut self, cx: &mut Context<'_, Self>, _: PeerId, datagram: Datagram<'_>) {
//!         let len = datagram.len();
//!         let _ = cx.io.reply(datagram, len);
//!     }
//! }
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let config = Config::new().listen("127.0.0.1:9000".parse()?).shards(2);
//!     let server = Server::bind(config)?; // may need privileges, which can be dropped here
//!     println!("{}", server.ready_line());
//!     server.run(|_shard| Echo)?;
//!     Ok(())
//! }
//! ```
//!
//! # A client
//!
//! A handler speaks first by [`Context::dial`], to a host that is known by its name, or by [`Context::open`], to an
//! address. This is the example of the guide (`docs/guide/client.md`):
//!
//! ```
//! use std::net::SocketAddr;
//! use std::time::Duration;
//!
//! use shardgram::{Accept, Context, Datagram, Dial, Handler, PeerError, PeerId};
//!
//! struct Client;
//!
//! impl Handler for Client {
//!     type Peer = ();
//!     type Timer = PeerId;
//!     type Message = ();
//!
//!     fn on_start(&mut self, cx: &mut Context<'_, Self>) {
//!         let game = Dial::to("game.example.net", 9000).expect("a name");
//!         cx.dial(game.try_for(Duration::from_millis(500)), ()).expect("room for a peer");
//!     }
//!
//!     fn on_attempt(&mut self, cx: &mut Context<'_, Self>, peer: PeerId, _address: SocketAddr) {
//!         let _ = cx.io.send(peer, b"hello"); // to each address in turn, until one answers
//!     }
//!
//!     fn on_datagram(&mut self, cx: &mut Context<'_, Self>, peer: PeerId, _welcome: Datagram<'_>) {
//!         let _ = cx.io.send(peer, b"thanks");
//!     }
//!
//!     fn on_peer_error(&mut self, cx: &mut Context<'_, Self>, peer: PeerId, error: PeerError) {
//!         if matches!(error, PeerError::Unresolved { .. } | PeerError::NoAnswer { .. }) {
//!             let _ = cx.io.set_peer_timer(peer, cx.io.now() + Duration::from_secs(5), peer);
//!         }
//!     }
//!
//!     fn on_timer(&mut self, cx: &mut Context<'_, Self>, peer: PeerId) {
//!         let _ = cx.io.redial(peer); // the name is looked up again: it may have moved
//!     }
//!
//!     fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
//!         Accept::Done
//!     }
//! }
//! ```
#![forbid(unsafe_code)]

mod backend;
mod bound;
mod connected;
mod descriptors;
#[cfg(doctest)]
mod documents;
mod drivers;
mod error;
#[cfg_attr(target_os = "linux", path = "foreign_sockets/linux.rs")]
#[cfg_attr(not(target_os = "linux"), path = "foreign_sockets/other.rs")]
mod foreign_sockets;
mod handle;
mod host_addresses;
#[cfg_attr(not(target_os = "linux"), path = "local_addresses/other.rs")]
mod local_addresses;
mod own_addresses;
mod random;
mod remote;
mod resolver;
mod server;
#[cfg_attr(unix, path = "signals/unix.rs")]
#[cfg_attr(not(unix), path = "signals/other.rs")]
mod signals;
mod threads;
#[cfg_attr(target_os = "linux", path = "tied_listeners/linux.rs")]
#[cfg_attr(not(target_os = "linux"), path = "tied_listeners/other.rs")]
mod tied_listeners;

pub use error::{ServeError, StartError};
pub use handle::{Handle, Report, ShardReport};
pub use remote::Remote;
pub use resolver::SystemResolver;
pub use server::Server;
pub use shardgram_core::flow::flow_shard;
pub use shardgram_core::shard_loop::Ending;
pub use shardgram_core::{
    Accept, AcceptChoice, AfterPanic, AttemptFault, Backend, Capability, CloseReason, Config, ConfigError,
    Context, Datagram, Dial, DialError, Drain, DropPathError, Ecn, Endpoint, EndpointId, Full, Handler,
    HostError, Interface, InterfaceError, Io, JoinError, Lookup, LookupError, Membership, Meta, OpenError,
    Origin, Path, PathMtu, PeerError, PeerId, Peers, Pressure, ReceivedTrain, Receivers, Resolver, SendError,
    Settings, ShardInfo, Shared, Slot, Snapshot, Tier, TierPolicy, TimerId, UnknownName, Via, WaitPolicy,
};
pub use shardgram_sys::interfaces::{AddressError, read_address};
pub use shardgram_sys::{AffinityError, BindError, BufferWarning, PortHolder, SocketHook, Unsupported};
