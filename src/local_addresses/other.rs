//! Every system but Linux: a wildcard address is served by the wildcard's listeners alone.

use std::io;
use std::sync::Arc;

use shardgram_core::mailbox::Bell;
use shardgram_sys::{BindError, ListenerGroup, ListenerSocket, SocketOptions};

use crate::drivers::Changes;

#[derive(Debug)]
pub(crate) struct LocalAddresses;

/// There are none.
#[derive(Debug)]
pub(crate) enum AddressThreads {}

impl LocalAddresses {
    pub(crate) fn new(_: usize, _: SocketOptions) -> Self {
        Self
    }

    pub(crate) fn beside(&mut self, _: u16, _: ListenerGroup) {}

    pub(crate) fn expand(&mut self, _: &mut [Vec<ListenerSocket>]) -> Result<Vec<String>, BindError> {
        Ok(Vec::new())
    }

    pub(crate) fn start(
        self,
        bells: &[Arc<Bell>],
    ) -> io::Result<(Vec<Option<Changes>>, Option<AddressThreads>)> {
        Ok((bells.iter().map(|_| None).collect(), None))
    }
}
