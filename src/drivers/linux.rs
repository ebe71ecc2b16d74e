//! Linux: io_uring and mio.

use std::io;
use std::sync::Arc;

use shardgram_core::{Backend, Config};

use super::{Drive, Granted, Parts, Refused};

pub(crate) use shardgram_shard::Prepared as Ring;

/// Makes the shards' rings, once it is known that one can be used: found out by using it.
pub(crate) fn prepare_uring(config: &Config) -> Result<Granted, Refused> {
    match shardgram_shard::probe().and_then(|()| shardgram_shard::prepare(config)) {
        Ok((rings, shortage)) => Ok(Granted { rings, warning: shortage.map(|s| s.to_string()) }),
        Err(refusal) => Err(Refused { brief: refusal.brief(), reason: refusal.to_string() }),
    }
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
        let Parts { shard, ring, sockets, config, options, bell } = parts;
        let ring = ring.ok_or_else(|| io::Error::other("no ring was made for this shard"))?;
        let driver = shardgram_shard::UringDriver::new(shard, ring, sockets, config, options, bell, fleet)?;
        Ok(then.drive(driver))
    }
}
