//! The drivers there are here: which can be had, how their shards wake each other, and how one is made.
//!
//! One file for Linux and one for every other system; both give the same names.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(not(target_os = "linux"))]
mod other;

use std::io;

use crossbeam_channel::{Receiver, Sender};
use shardgram_core::driver::{ConnectedLimits, Driver};
use shardgram_core::mailbox::Bell;
use shardgram_core::{Config, Settings};
use shardgram_fallback::Listener;
use shardgram_sys::{ListenerChange, ListenerSocket, Sharing, SocketOptions, WantedAddress};

#[cfg(target_os = "linux")]
pub(crate) use linux::{
    AcceptWay, Fleet, Listeners, Ring, accept_way, prepare_uring, serves_local_addresses,
};
#[cfg(not(target_os = "linux"))]
pub(crate) use other::{
    AcceptWay, Fleet, Listeners, Ring, accept_way, prepare_uring, serves_local_addresses,
};

/// Through what a shard's driver hears of listeners that come and go while it serves, and asks for those
/// of a local address. A question may get no answer, because
/// there are enough of them or the address cannot be bound; nothing is lost by asking again later.
pub(crate) type Changes = (Receiver<ListenerChange>, Sender<WantedAddress>);

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
    pub(crate) listeners: Listeners,
    /// None where listeners do not change.
    pub(crate) changes: Option<Changes>,
    pub(crate) config: &'a Config,
    pub(crate) options: SocketOptions,
    pub(crate) bell: &'a Bell,
    /// How peers get sockets of their own, and how many of this shard may have one.
    #[cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "only io_uring gives peers sockets"))]
    pub(crate) accept: Option<AcceptWay>,
    #[cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "only io_uring gives peers sockets"))]
    pub(crate) limits: ConnectedLimits,
}

/// What is to be done with a driver, whichever it is.
pub(crate) trait Drive {
    type Outcome;
    fn drive(self, driver: impl Driver) -> Self::Outcome;
}

/// A shard of the mio driver, but for what it needs beside its listeners.
struct MioParts<'a> {
    shard: u16,
    listeners: Vec<Listener>,
    changes: Option<Changes>,
    options: SocketOptions,
    settings: &'a Settings,
    bell: &'a Bell,
}

/// Makes the mio driver and hands it on.
fn with_mio<T: Drive>(
    parts: MioParts<'_>,
    fleet: std::sync::Arc<shardgram_fallback::Fleet>,
    then: T,
) -> io::Result<T::Outcome> {
    let MioParts { shard, listeners, changes, settings, options, bell } = parts;
    debug_assert!(changes.is_none(), "nothing is bound beside a wildcard's listeners for this driver");
    let driver = shardgram_fallback::MioDriver::new(shard, listeners, &options, settings, bell, fleet)?;
    Ok(then.drive(driver))
}

/// The listeners of each shard for the mio driver: the sockets of the listen addresses, and duplicates of those by
/// which another shard receives. Made before any shard runs, since duplicates have their options in common.
fn mio_listeners(
    sockets: Vec<Vec<ListenerSocket>>,
    sharing: Sharing,
    options: &SocketOptions,
) -> io::Result<Vec<Vec<Listener>>> {
    let shards = sockets.len();
    let mut all: Vec<Vec<(u16, Listener)>> = (0..shards).map(|_| Vec::new()).collect();
    for (shard, of_shard) in sockets.into_iter().enumerate() {
        // None is bound beside a wildcard's for this driver.
        for ListenerSocket { listen, socket, steered, .. } in
            of_shard.into_iter().filter(|one| one.local.is_none())
        {
            let listener = match sharing {
                Sharing::PerShard => Listener::new(socket, options)?.steered(steered),
                Sharing::OneReceiver => {
                    let receiver = Listener::for_all(socket, options)?;
                    for other in (0..shards).filter(|other| *other != shard) {
                        all[other].push((listen, receiver.to_send_by()?));
                    }
                    receiver
                }
            };
            all[shard].push((listen, listener));
        }
    }
    let in_order = |mut of_shard: Vec<(u16, Listener)>| {
        of_shard.sort_by_key(|(listen, _)| *listen);
        of_shard.into_iter().map(|(_, listener)| listener).collect()
    };
    Ok(all.into_iter().map(in_order).collect())
}
