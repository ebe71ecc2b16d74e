//! The simulated driver of shardgram: the same handlers and the same shard loop on a network that exists
//! only in memory, under a clock that moves only when nothing else can, with every choice made by a seed.
//!
//! The same seed gives the same run: on every machine, in debug and release, today and next year. A test
//! that failed once fails again with the seed it printed.
//!
//! ```
//! use shardgram_core::{Accept, Config, Context, Datagram, Handler, PeerId};
//! use shardgram_sim::{LinkConfig, Sim};
//! use std::time::Duration;
//!
//! struct Echo;
//! impl Handler for Echo {
//!     type Peer = ();
//!     type Timer = ();
//!     type Message = ();
//!     fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
//!         Accept::Peer(())
//!     }
//!     fn on_datagram(&mut self, cx: &mut Context<'_, Self>, _: PeerId, datagram: Datagram<'_>) {
//!         let len = datagram.len();
//!         let _ = cx.io.reply(datagram, len);
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut sim = Sim::new(42);
//! sim.link(LinkConfig::new().delay(Duration::from_millis(5))?);
//! let config = Config::new().listen("10.0.0.1:7".parse()?).shards(2);
//! let server = sim.server(&["10.0.0.1".parse()?], &config, |_| Echo)?;
//!
//! let client = sim.socket("10.0.0.2:5000".parse()?);
//! sim.send(client, "10.0.0.1:7".parse()?, b"hello");
//! assert!(sim.run_until_quiet(Duration::from_secs(1)));
//!
//! assert_eq!(sim.receive(client).map(|r| r.bytes), Some(b"hello".to_vec()));
//! assert!(sim.elapsed() >= Duration::from_millis(10), "there and back");
//! assert_eq!(sim.stats(&server).unaccounted(), 0);
//! # Ok(())
//! # }
//! ```
//!
//! [`guide`] shows how a bug is found by a seed and replayed, what can be made to go wrong, and what the simulator
//! cannot tell.
//!
//! Where things are: [`Sim`] is the public face and says who runs when (`sim/clock`, `sim/nodes`); `driver` keeps the
//! contract of [`shardgram_core::driver`], with `driver/send` for what leaves and `own` for sockets of peers' own; `network`
//! carries datagrams: `network/launch` takes them, `network/arrive` finds the socket, `network/notices` says who is told,
//! `network/own_sockets` what peers' own hold back. These are handed their parts: `link` says how badly something is
//! carried, `pipe` how fast, `nat` under which address, `partition` whether at all; `bindings` maps addresses to sockets,
//! `groups` those that stand for many; `schedule` knows who sleeps until when, `plan` what is to happen at which time;
//! `event_log` hashes what happened.
#![forbid(unsafe_code)]

mod bindings;
mod buffers;
mod counts;
mod driver;
mod errno;
mod error;
mod event_log;
mod flight;
mod flood;
mod groups;
mod link;
mod names;
mod nat;
mod network;
mod node;
mod notice;
mod own;
mod partition;
mod pipe;
mod plan;
mod raw_socket;
mod schedule;
mod seed;
mod seeds;
mod sim;
mod socket;
mod wire;

/// How handlers are tested: a bug that a seed finds, what can go wrong, and what the simulator cannot tell.
#[doc = include_str!("../guide.md")]
pub mod guide {}

pub use counts::Counts;
pub use error::{RangeError, SimError};
pub use flood::{Flood, FloodId};
pub use link::LinkConfig;
pub use nat::{NatBehaviour, NatConfig, NatId};
pub use node::NodeId;
pub use partition::PartitionId;
pub use raw_socket::{Received, SocketKey};
pub use seeds::seeds;
pub use sim::Sim;
