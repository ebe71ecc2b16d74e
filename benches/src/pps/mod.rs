//! The pps harness: shardgram and its rivals, under the same load, in turns.
//!
//! Each contender is a server in a process of its own ([`servers`], started by [`child`]), pinned to one core. The
//! client ([`client`]) is this process, on another core, and the same for all. A [`scenario`] says what load; [`rounds`]
//! runs the contenders one after the other, in an order that changes from round to round, so that a processor that
//! changes its speed changes all alike. [`report`] and `plots` write down what came out, [`bars`] judge it.

pub mod bars;
pub mod check;
pub mod child;
pub mod client;
pub mod contender;
#[allow(unsafe_code, reason = "epoll has no safe face in the standard library")]
pub mod epoll;
pub mod fingerprint;
#[allow(unsafe_code, reason = "recvmmsg and sendmmsg have no safe face in the standard library")]
pub mod mmsg;
#[cfg(feature = "rivals")]
pub mod plots;
pub mod report;
pub mod rounds;
pub mod scenario;
pub mod servers;
#[allow(unsafe_code, reason = "system calls that no library offers")]
pub mod system;
#[allow(unsafe_code, reason = "memory that two processes share")]
pub mod tally;
pub mod wire;
