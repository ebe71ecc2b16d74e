//! The drivers there are here: which can be had, how their shards wake each other, and how one is made.
//!
//! One file for Linux and one for every other system; both give the same names.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(not(target_os = "linux"))]
mod other;

use std::io;
use std::net::{IpAddr, UdpSocket};

use crossbeam_channel::{Receiver, Sender};
use shardgram_core::Config;
use shardgram_core::driver::Driver;
use shardgram_core::mailbox::Bell;
use shardgram_sys::{ListenerChange, ListenerSocket, SocketOptions};

use crate::connected::Connected;

#[cfg(target_os = "linux")]
pub(crate) use linux::{AcceptWay, Fleet, Ring, accept_way, prepare_uring, serves_local_addresses};
#[cfg(not(target_os = "linux"))]
pub(crate) use other::{AcceptWay, Fleet, Ring, accept_way, prepare_uring, serves_local_addresses};

/// Through what a shard's driver hears of listeners that come and go while it serves, and asks for those
/// of a local address: (which listen address, the local address). A question may get no answer, because
/// there are enough of them or the address cannot be bound; nothing is lost by asking again later.
pub(crate) type Changes = (Receiver<ListenerChange>, Sender<(u16, IpAddr)>);

/// Why io_uring cannot be used.
pub(crate) struct Refused {
    /// In a word, for the ready line.
    pub(crate) brief: String,
    /// In full, with what would help.
    pub(crate) reason: String,
}

/// What io_uring needs, as far as the system grants it.
pub(crate) struct Granted {
    /// One for each shard.
    pub(crate) rings: Vec<Ring>,
    /// What was granted less of than was asked for, with what would help.
    pub(crate) warning: Option<String>,
}

/// What a shard's driver is made of.
pub(crate) struct Parts<'a> {
    pub(crate) shard: u16,
    /// Only with io_uring.
    pub(crate) ring: Option<Ring>,
    /// Those of the listen addresses first, in their order.
    pub(crate) listeners: Vec<ListenerSocket>,
    /// None where listeners do not change.
    pub(crate) changes: Option<Changes>,
    #[cfg_attr(
        not(target_os = "linux"),
        allow(dead_code, reason = "the mio driver takes what it needs from options")
    )]
    pub(crate) config: &'a Config,
    pub(crate) options: SocketOptions,
    pub(crate) bell: &'a Bell,
    #[cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "only io_uring gives peers sockets"))]
    pub(crate) connected: Connected,
}

/// What is to be done with a driver, whichever it is.
pub(crate) trait Drive {
    type Outcome;
    fn drive(self, driver: impl Driver) -> Self::Outcome;
}

impl Parts<'_> {
    /// Makes the mio driver and hands it on.
    fn with_mio<T: Drive>(
        self,
        fleet: std::sync::Arc<shardgram_fallback::Fleet>,
        then: T,
    ) -> io::Result<T::Outcome> {
        let Parts { shard, listeners, changes, options, bell, .. } = self;
        debug_assert!(changes.is_none(), "nothing is bound beside a wildcard's listeners for this driver");
        let sockets = of_listen_addresses(listeners);
        let driver = shardgram_fallback::MioDriver::new(shard, sockets, &options, bell, fleet)?;
        Ok(then.drive(driver))
    }
}

/// The sockets of the listen addresses themselves, in their order.
fn of_listen_addresses(listeners: Vec<ListenerSocket>) -> Vec<UdpSocket> {
    let themselves = listeners.into_iter().filter(|listener| listener.local.is_none());
    themselves.map(|listener| listener.socket).collect()
}
