//! Linux: io_uring and mio.

use std::io;
use std::sync::Arc;

use shardgram_core::{AcceptChoice, Backend, Config};
use shardgram_fallback::Listener;
use shardgram_shard::{Prepared, Probed};
use shardgram_sys::accept::{self, AcceptMode, AcceptSupport};
use shardgram_sys::{ListenerSocket, Sharing, SocketOptions};

use super::{Drive, Granted, MioParts, Parts, Refused, mio_listeners, with_mio};

/// In which way peers get sockets of their own.
#[derive(Clone, Debug)]
pub(crate) struct AcceptWay {
    mode: AcceptMode,
    /// Why it is not the better one, unless it was chosen.
    reason: Option<String>,
}

impl AcceptWay {
    /// Whether other peers' datagrams cost the same however many there are.
    pub(crate) fn is_cheap(&self) -> bool {
        self.mode == AcceptMode::SideGroup
    }

    /// Why it is not the better one, unless it was chosen.
    pub(crate) fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }
}

impl std::fmt::Display for AcceptWay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.mode.fmt(f)
    }
}

/// The way that was chosen, or the better one that works here, found by trying it out. Why not, if what was
/// chosen does not work.
pub(crate) fn accept_way(choice: AcceptChoice) -> Result<AcceptWay, String> {
    if choice == AcceptChoice::SameGroup {
        return Ok(AcceptWay { mode: AcceptMode::SameGroup, reason: None });
    }
    let AcceptSupport { mode, reason } = accept::accept_support();
    match reason {
        Some(reason) if choice == AcceptChoice::SideGroup => Err(reason),
        reason => Ok(AcceptWay { mode, reason }),
    }
}

/// What a shard needs of io_uring.
#[derive(Debug)]
pub(crate) struct Ring {
    ring: Prepared,
    fixed_files: bool,
}

/// Makes the shards' rings, once it is known that one can be used: found out by using it.
pub(crate) fn prepare_uring(config: &Config) -> Result<Granted, Refused> {
    let probed = shardgram_shard::probe();
    match probed.and_then(|probed| Ok((probed, shardgram_shard::prepare(config)?))) {
        Ok((Probed { fixed_files }, (rings, shortage))) => {
            let rings = rings.into_iter().map(|ring| Ring { ring, fixed_files }).collect();
            Ok(Granted { rings, warning: shortage.map(|s| s.to_string()) })
        }
        Err(refusal) => Err(Refused { brief: refusal.brief(), reason: refusal.to_string() }),
    }
}

/// Whether this backend's driver serves listeners per local address beside the wildcard's, and takes
/// changes of them. Where not, none are bound.
pub(crate) fn serves_local_addresses(backend: Backend) -> bool {
    backend == Backend::Uring
}

/// What one shard listens by.
pub(crate) enum Listeners {
    /// Those of the listen addresses first, in their order.
    Uring(Vec<ListenerSocket>),
    Mio(Vec<Listener>),
}

/// The shards of a server, as far as they wake each other.
#[derive(Clone)]
pub(crate) enum Fleet {
    Uring(Arc<shardgram_shard::Fleet>),
    Mio(Arc<shardgram_fallback::Fleet>),
}

impl Fleet {
    /// `connected`: peers may have sockets of their own.
    pub(crate) fn new(backend: Backend, shards: u16, connected: bool) -> io::Result<Self> {
        match backend {
            Backend::Uring => Ok(Self::Uring(shardgram_shard::Fleet::new(shards, connected)?)),
            _ => Ok(Self::Mio(shardgram_fallback::Fleet::new(shards)?)),
        }
    }

    /// Takes the sockets of each shard over.
    pub(crate) fn listeners(
        &self,
        sockets: Vec<Vec<ListenerSocket>>,
        sharing: Sharing,
        options: &SocketOptions,
    ) -> io::Result<Vec<Listeners>> {
        Ok(match self {
            Self::Uring(_) => sockets.into_iter().map(Listeners::Uring).collect(),
            Self::Mio(_) => {
                let listeners = mio_listeners(sockets, sharing, options)?;
                listeners.into_iter().map(Listeners::Mio).collect()
            }
        })
    }

    /// Makes a driver on the calling thread and hands it on.
    pub(crate) fn with_driver<T: Drive>(self, parts: Parts<'_>, then: T) -> io::Result<T::Outcome> {
        let Parts { shard, ring, listeners, changes, config, options, bell, accept, limits } = parts;
        let (fleet, listeners) = match (self, listeners) {
            (Self::Uring(fleet), Listeners::Uring(listeners)) => (fleet, listeners),
            (Self::Mio(fleet), Listeners::Mio(listeners)) => {
                let settings = config.settings();
                let parts = MioParts { shard, listeners, changes, settings, options, bell };
                return with_mio(parts, fleet, then);
            }
            _ => return Err(io::Error::other("the listeners are for another driver")),
        };
        let none = || io::Error::other("no ring was made for this shard");
        let Ring { ring, fixed_files } = ring.ok_or_else(none)?;
        let driver = shardgram_shard::UringDriver::new(shardgram_shard::Parts {
            shard,
            shards: config.settings().shards,
            ring,
            listeners,
            changes: changes.map(|(changes, unknown)| shardgram_shard::Changes { changes, unknown }),
            config,
            options,
            connected: accept.map(|way| (way.mode, limits)),
            fixed_files,
            bell,
            fleet,
        })?;
        Ok(then.drive(driver))
    }
}
