//! The drivers there are here: which can be had, how their shards wake each other, and how one is made.
//!
//! One file for Linux and one for every other system; both give the same names.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(not(target_os = "linux"))]
mod other;

use std::io;

use shardgram_core::Config;
use shardgram_core::driver::Driver;
use shardgram_core::mailbox::Bell;
use shardgram_sys::{ListenerSocket, SocketOptions};

use crate::connected::Connected;

#[cfg(target_os = "linux")]
pub(crate) use linux::{AcceptWay, Fleet, Ring, accept_way, prepare_uring};
#[cfg(not(target_os = "linux"))]
pub(crate) use other::{AcceptWay, Fleet, Ring, accept_way, prepare_uring};

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
    pub(crate) listeners: Vec<ListenerSocket>,
    pub(crate) config: &'a Config,
    pub(crate) options: SocketOptions,
    pub(crate) bell: &'a Bell,
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
        let Parts { shard, listeners, config, options, bell, .. } = self;
        let sockets = listeners.into_iter().map(|listener| listener.socket).collect();
        let driver = shardgram_fallback::MioDriver::new(shard, sockets, config, &options, bell, fleet)?;
        Ok(then.drive(driver))
    }
}
