//! Listener groups per local address beside a wildcard's, at bind and while serving.
//!
//! A wildcard listen address is expanded to one group per address of this host, and the wildcard's own
//! group takes what is sent to any other. [`LocalAddresses::expand`] does that for the addresses there are
//! when the server is bound; then two threads follow the host: one sleeps in the kernel until an address
//! has come or gone, the other binds and tells the shards. It takes both, since a channel and a descriptor
//! cannot be waited for together. A shard may also ask, when the first datagram for an address without a
//! group came in: all of 127.0.0.0/8 is local, and so is a prefix that is routed to this host.

mod giving_way;
mod groups;
#[cfg(test)]
mod tests;
mod threads;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use shardgram_core::mailbox::Bell;
use shardgram_sys::{BindError, ListenerGroup, ListenerSocket, SocketOptions};

use crate::drivers::Changes;
use groups::{Groups, Tell};
pub(crate) use threads::AddressThreads;

/// The wildcards of a server and what is bound beside them, until the server runs.
#[derive(Debug)]
pub(crate) struct LocalAddresses {
    groups: Groups,
}

impl LocalAddresses {
    /// With `cap` of 0 nothing is ever bound.
    pub(crate) fn new(cap: usize, options: SocketOptions) -> Self {
        Self { groups: Groups::new(cap, options) }
    }

    /// Takes the group of a listen address, whose sockets are kept elsewhere; only a wildcard's matters.
    pub(crate) fn beside(&mut self, listen: u16, group: ListenerGroup) {
        self.groups.beside(listen, group);
    }

    /// Binds groups for the addresses there are, and appends their sockets to those of each shard. Returns
    /// warnings: an address that cannot be bound is left to the wildcard.
    ///
    /// # Errors
    /// [`BindError::DescriptorLimit`]: with no descriptor left the server could not start anyway.
    pub(crate) fn expand(&mut self, sockets: &mut [Vec<ListenerSocket>]) -> Result<Vec<String>, BindError> {
        if self.groups.are_none() {
            return Ok(Vec::new());
        }
        if let Err(error) = self.groups.update(Instant::now()) {
            // Without the list broadcast addresses cannot be told from others.
            self.groups.give_up();
            let what = "cannot list this host's addresses";
            return Ok(vec![format!("{what}: {error}; the wildcard's listeners serve all of them")]);
        }
        let mut bound = AtBind { sockets, warnings: Vec::new(), no_descriptors: false };
        self.groups.settle(Instant::now(), &mut bound);
        if bound.no_descriptors { Err(BindError::DescriptorLimit) } else { Ok(bound.warnings) }
    }

    /// Begins to follow the host's addresses. Returns the ends of each shard, whose bells ring when there
    /// is something for it, and what ends the threads when dropped; nothing where there is nothing to do.
    ///
    /// # Errors
    /// The system has no descriptor or no thread left.
    pub(crate) fn start(
        self,
        bells: &[Arc<Bell>],
    ) -> io::Result<(Vec<Option<Changes>>, Option<AddressThreads>)> {
        if self.groups.are_none() {
            return Ok((bells.iter().map(|_| None).collect(), None));
        }
        let (changes, threads) = threads::start(self.groups, bells)?;
        Ok((changes.into_iter().map(Some).collect(), Some(threads)))
    }
}

/// Before there are shards: their sockets are gathered.
struct AtBind<'a> {
    sockets: &'a mut [Vec<ListenerSocket>],
    warnings: Vec<String>,
    no_descriptors: bool,
}

impl Tell for AtBind<'_> {
    fn has_room(&self) -> bool {
        !self.no_descriptors
    }

    fn added(&mut self, sockets: Vec<ListenerSocket>) {
        for (of_shard, socket) in self.sockets.iter_mut().zip(sockets) {
            of_shard.push(socket);
        }
    }

    fn removed(&mut self, listen: u16, ip: std::net::IpAddr, _: bool) {
        for of_shard in self.sockets.iter_mut() {
            of_shard.retain(|one| one.listen != listen || one.local.is_none_or(|local| local.ip() != ip));
        }
    }

    fn refused(&mut self, address: SocketAddr, error: &BindError) {
        self.no_descriptors |= matches!(error, BindError::DescriptorLimit);
        self.warnings.push(format!("{address} is served by the wildcard's listeners: {error}"));
    }
}
