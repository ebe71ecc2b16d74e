//! Linux: io_uring and mio.

use std::io;
use std::sync::Arc;

use shardgram_core::Backend;

use super::{Drive, Parts, Refused, of_listen_addresses};

/// What refuses io_uring here, found out by using it.
pub(crate) fn uring_refusal() -> Option<Refused> {
    let refusal = shardgram_shard::probe().err()?;
    Some(Refused { brief: refusal.brief(), reason: refusal.to_string() })
}

/// Whether this backend's driver serves listeners per local address beside the wildcard's, and takes
/// changes of them. Where not, none are bound.
pub(crate) fn serves_local_addresses(_: Backend) -> bool {
    false
}

/// The shards of a server, as far as they wake each other.
#[derive(Clone)]
pub(crate) enum Fleet {
    Uring(Arc<shardgram_shard::Fleet>),
    Mio(Arc<shardgram_fallback::Fleet>),
}

impl Fleet {
    pub(crate) fn new(backend: Backend, shards: u16) -> io::Result<Self> {
        match backend {
            Backend::Uring => Ok(Self::Uring(shardgram_shard::Fleet::new(shards)?)),
            _ => Ok(Self::Mio(shardgram_fallback::Fleet::new(shards))),
        }
    }

    /// Makes a driver on the calling thread and hands it on.
    pub(crate) fn with_driver<T: Drive>(self, parts: Parts<'_>, then: T) -> io::Result<T::Outcome> {
        let fleet = match self {
            Self::Uring(fleet) => fleet,
            Self::Mio(fleet) => return parts.with_mio(fleet, then),
        };
        let Parts { shard, listeners, changes, config, options, bell } = parts;
        debug_assert!(changes.is_none(), "nothing is bound beside a wildcard's listeners for this driver");
        let sockets = of_listen_addresses(listeners);
        let driver = shardgram_shard::UringDriver::new(shard, sockets, config, options, bell, fleet)?;
        Ok(then.drive(driver))
    }
}
