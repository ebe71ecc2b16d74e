//! The host's addresses under a wildcard: each has a listener of its own, as far as there is room.
//!
//! Who binds them is not this crate's business: sockets come, and addresses are asked for, by channels.

use std::collections::HashSet;
use std::io;
use std::net::IpAddr;

use crossbeam_channel::{Receiver, Sender};
use shardgram_core::datagram::SocketId;
use shardgram_core::driver::Sink;
use shardgram_sys::{ListenerChange, ListenerSocket};

use crate::driver::UringDriver;
use crate::sockets::Socket;

/// Addresses that are remembered as asked for: strangers choose where they send to.
const ASKED: usize = 4_096;
/// Datagrams for such addresses after which they are asked for again: there may have been no time or no room.
const AGAIN: u32 = 4_096;

/// The channels by which sockets come and addresses are asked for.
#[derive(Clone, Debug)]
pub struct Changes {
    /// What has changed.
    pub changes: Receiver<ListenerChange>,
    /// A datagram came for this address, under the address of the configuration with this index.
    pub unknown: Sender<(u16, IpAddr)>,
}

/// What a shard knows of the addresses under its wildcards.
#[derive(Debug)]
pub(crate) struct Addresses {
    channels: Option<Changes>,
    asked: HashSet<(u16, IpAddr)>,
    since: u32,
    gone: Vec<(SocketId, IpAddr)>,
}

impl Addresses {
    pub(crate) fn new(channels: Option<Changes>) -> Self {
        Self { channels, asked: HashSet::new(), since: 0, gone: Vec::new() }
    }

    /// A datagram for this address came by the wildcard: a listener for it is asked for, and not with every
    /// datagram.
    #[inline]
    pub(crate) fn seen(&mut self, listen: u16, ip: IpAddr) {
        let Some(channels) = &self.channels else { return };
        self.since += 1;
        if self.since >= AGAIN {
            self.since = 0;
            self.asked.clear();
        }
        if self.asked.len() < ASKED
            && self.asked.insert((listen, ip))
            && channels.unknown.try_send((listen, ip)).is_err()
        {
            // Nobody has time for it now.
            self.asked.remove(&(listen, ip));
        }
    }

    /// Tells the shard loop which addresses went.
    pub(crate) fn report(&mut self, sink: &mut impl Sink) {
        for (socket, ip) in self.gone.drain(..) {
            sink.address_gone(socket, ip);
        }
    }

    pub(crate) fn any_gone(&self) -> bool {
        !self.gone.is_empty()
    }
}

impl UringDriver {
    /// Takes in what has changed of the host's addresses.
    pub(crate) fn take_changes(&mut self) {
        while let Some(channels) = &self.addresses.channels
            && let Ok(change) = channels.changes.try_recv()
        {
            if let Err(error) = self.change(change) {
                tracing::warn!(%error, "the listener of a local address cannot be used");
            }
        }
    }

    pub(crate) fn change(&mut self, change: ListenerChange) -> io::Result<()> {
        match change {
            ListenerChange::Added(ListenerSocket { listen, local, socket, .. }) => {
                let local = local.map_or_else(|| socket.local_addr(), Ok)?;
                let id = SocketId::listener(listen);
                let slot = self.sockets.free_address().ok_or(io::ErrorKind::QuotaExceeded)?;
                let mut socket = Socket::new(socket, id, local);
                socket.under_wildcard = true;
                self.install(slot, socket)?;
                self.sockets.name_address(listen, local.ip(), slot);
            }
            ListenerChange::Removed { listen, ip } => {
                self.addresses.asked.remove(&(listen, ip));
                let Some(slot) = self.sockets.forget_address(listen, ip) else { return Ok(()) };
                self.addresses.gone.push((SocketId::listener(listen), ip));
                let waiters = self.markers.forget(slot);
                self.let_in(&waiters);
                self.drain(slot);
            }
        }
        Ok(())
    }
}
