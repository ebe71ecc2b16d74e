//! The mio driver of shardgram: every system, one event loop a shard, peers told apart in user space.
//!
//! It keeps the contract of [`shardgram_core::driver`] with what every system has: readiness and one
//! system call for each datagram sent. Peers get no connected sockets of their own, on purpose: whether
//! a connected socket may share a listener's port, and which of the two then gets a peer's datagrams,
//! differs from system to system.
//!
//! | module | holds |
//! | --- | --- |
//! | `driver` | [`MioDriver`]: the contract, put together from the rest |
//! | `sockets` | listeners and endpoints, which of them may hold something, what they dropped |
//! | `recv` | batches of datagrams and trains on their way from a socket to the shard loop |
//! | `send` | trains on their way out, and what the system's errors mean |
//! | `able` | what it can do on which system |
//! | `buffers` | the receive buffers and the arithmetic of their memory |
//! | `wake` | [`Fleet`]: how shards wake each other |
//! | `errno` | the system's error numbers that have no [`std::io::ErrorKind`], one file a system |
//!
//! Listeners come bound ([`shardgram_sys::ListenerGroup`]), with
//! [`receive_trains`](shardgram_sys::SocketOptions::receive_trains) as the driver is to have it: turned on after
//! the bind, the kernel might merge datagrams before its steering program has run. [`receives_trains`] says when it is
//! to be off.

#![forbid(unsafe_code)]

use shardgram_sys::SocketOptions;

mod able;
mod buffers;
mod driver;
mod recv;
mod send;
mod sockets;
mod wake;

pub use driver::MioDriver;
pub use wake::Fleet;

/// Whether sockets with these options may receive trains: not where congestion bits and times are both asked for, since
/// the room that quinn-udp has for control messages does not hold all of a train's.
///
/// ```
/// use shardgram_sys::SocketOptions;
/// assert!(shardgram_fallback::receives_trains(&SocketOptions { ecn: true, ..SocketOptions::default() }));
/// ```
pub fn receives_trains(options: &SocketOptions) -> bool {
    !(options.ecn && options.receive_timestamps)
}
