//! Every system but Linux: mio.

use std::io;
use std::sync::Arc;

use shardgram_core::Backend;

use super::{Drive, Parts, Refused};

/// io_uring is there on Linux only.
pub(crate) fn uring_refusal() -> Option<Refused> {
    let reason = "io_uring is there on Linux only".to_owned();
    Some(Refused { brief: "not_linux".to_owned(), reason })
}

/// Listeners per local address are for io_uring.
pub(crate) fn serves_local_addresses(_: Backend) -> bool {
    false
}

/// The shards of a server, as far as they wake each other.
#[derive(Clone)]
pub(crate) struct Fleet(Arc<shardgram_fallback::Fleet>);

impl Fleet {
    pub(crate) fn new(_: Backend, shards: u16) -> io::Result<Self> {
        Ok(Self(shardgram_fallback::Fleet::new(shards)))
    }

    /// Makes a driver on the calling thread and hands it on.
    pub(crate) fn with_driver<T: Drive>(self, parts: Parts<'_>, then: T) -> io::Result<T::Outcome> {
        parts.with_mio(self.0, then)
    }
}
