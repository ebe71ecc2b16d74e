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
#![forbid(unsafe_code)]

mod backend;
mod connected;
mod drivers;
mod error;
mod handle;
#[cfg_attr(not(target_os = "linux"), path = "local_addresses/other.rs")]
mod local_addresses;
mod server;
#[cfg_attr(unix, path = "signals/unix.rs")]
#[cfg_attr(not(unix), path = "signals/other.rs")]
mod signals;
mod threads;

pub use error::{ServeError, StartError};
pub use handle::{Handle, Remote, Report, ShardReport};
pub use server::Server;
pub use shardgram_core::flow::flow_shard;
pub use shardgram_core::shard_loop::Ending;
pub use shardgram_core::{
    Accept, AcceptChoice, Backend, CloseReason, Config, ConfigError, Context, Datagram, Drain, Ecn, Endpoint,
    EndpointId, Full, Handler, Interface, Io, JoinError, Membership, Meta, OpenError, Origin, Path, PathMtu,
    PeerError, PeerId, Peers, ReceivedTrain, SendError, ShardInfo, Shared, Slot, Snapshot, Tier, TierPolicy,
    TimerId, Via, WaitPolicy,
};
pub use shardgram_sys::{AffinityError, BindError, BufferWarning, SocketHook};
