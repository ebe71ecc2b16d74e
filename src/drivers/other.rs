//! Every system but Linux: mio.

use std::io;
use std::sync::Arc;

use shardgram_core::{AcceptChoice, Backend, Config};
use shardgram_sys::{ListenerSocket, Os, Sharing, SocketOptions};

use super::{Drive, Granted, MioParts, Parts, Refused, mio_listeners, with_mio};

/// There is none.
#[derive(Debug)]
pub(crate) enum Ring {}

/// io_uring is there on Linux only.
pub(crate) fn prepare_uring(_: &Config) -> Result<Granted, Refused> {
    let reason = "io_uring is there on Linux only".to_owned();
    Err(Refused { brief: "not_linux".to_owned(), reason })
}

/// In which way peers get sockets of their own: in none.
#[derive(Clone, Debug)]
pub(crate) enum AcceptWay {}

impl AcceptWay {
    pub(crate) fn is_cheap(&self) -> bool {
        match *self {}
    }

    pub(crate) fn reason(&self) -> Option<&str> {
        match *self {}
    }
}

impl std::fmt::Display for AcceptWay {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {}
    }
}

pub(crate) fn accept_way(_: AcceptChoice) -> Result<AcceptWay, String> {
    Err(Os::HERE.connected_tier().because.to_owned())
}

/// Listeners per local address are for io_uring.
pub(crate) fn serves_local_addresses(_: Backend) -> bool {
    false
}

/// What one shard listens by.
pub(crate) type Listeners = Vec<shardgram_fallback::Listener>;

/// The shards of a server, as far as they wake each other.
#[derive(Clone)]
pub(crate) struct Fleet(Arc<shardgram_fallback::Fleet>);

impl Fleet {
    pub(crate) fn new(_: Backend, shards: u16, _connected: bool) -> io::Result<Self> {
        Ok(Self(shardgram_fallback::Fleet::new(shards)?))
    }

    /// Takes the sockets of each shard over.
    pub(crate) fn listeners(
        &self,
        sockets: Vec<Vec<ListenerSocket>>,
        sharing: Sharing,
        options: &SocketOptions,
    ) -> io::Result<Vec<Listeners>> {
        mio_listeners(sockets, sharing, options)
    }

    /// Makes a driver on the calling thread and hands it on.
    pub(crate) fn with_driver<T: Drive>(self, parts: Parts<'_>, then: T) -> io::Result<T::Outcome> {
        let Parts { shard, ring, listeners, changes, config, options, bell, .. } = parts;
        debug_assert!(ring.is_none(), "no value of the type exists");
        let settings = config.settings();
        with_mio(MioParts { shard, listeners, changes, settings, options, bell }, self.0, then)
    }
}
