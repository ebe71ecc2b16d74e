//! The mio driver of shardgram: every system, one event loop a shard, peers told apart in user space.
//!
//! It keeps the contract of [`shardgram_core::driver`] with what every system has: readiness and one system call for
//! each datagram sent, on Linux for each train. Peers get no connected sockets of their own, on purpose: whether
//! a connected socket may share a listener's port, and which of the two then gets a peer's datagrams,
//! differs from system to system.
//!
//! | module | holds |
//! | --- | --- |
//! | `driver` | [`MioDriver`]: the contract, put together from the rest |
//! | `listener` | [`Listener`]: the socket of an address listened on, or a duplicate of it to send by |
//! | `sockets` | listeners and endpoints, which of them may hold something, what they dropped |
//! | `recv` | batches of datagrams and trains on their way from a socket to the shard loop |
//! | `receiver` | one receive of a batch, in the way of the system |
//! | `send` | trains on their way out, and what the system's errors mean |
//! | `buffers` | the receive buffers and the arithmetic of their memory |
//! | `wake` | [`Fleet`]: how shards wake each other |
//!
//! Where the system divides what comes to a port, every shard has a listener of its own. Where it does not, one shard
//! receives at each address listened on; the shard loop hands on what others own, by the hash of its 4-tuple and through
//! bounded mailboxes, and those answer by duplicates of the listener. Which of the two it is, is decided by
//! [`shardgram_sys::plan`]; the driver only knows that some of its listeners are not for receiving.
//!
//! Listeners come bound ([`shardgram_sys::ListenerGroup`]), with
//! [`receive_trains`](shardgram_sys::SocketOptions::receive_trains) as the driver is to have it: turned on after
//! the bind, the kernel might merge datagrams before its steering program has run. [`has_control`] says when
//! it is to be off.

#![forbid(unsafe_code)]

mod buffers;
mod driver;
mod listener;
mod receiver;
mod recv;
mod send;
mod sockets;
mod wake;

pub use driver::MioDriver;
pub use listener::{Listener, has_control};
pub use wake::Fleet;
