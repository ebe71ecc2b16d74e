//! The host's addresses under a wildcard: each has a listener of its own, as far as there is room.
//!
//! Who binds them is not this crate's business: sockets come, and addresses are asked for, by channels.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::net::IpAddr;

use crossbeam_channel::{Receiver, Sender};
use shardgram_core::datagram::SocketId;
use shardgram_core::driver::Sink;
use shardgram_sys::interfaces::{AddressLister, AnswerAddresses};
use shardgram_sys::{ListenerChange, ListenerSocket, WantedAddress};

use crate::connected::Connected;
use crate::ring::Ring;
use crate::socket::Socket;
use crate::sockets::Sockets;

/// Addresses that are remembered as asked for: strangers choose where they send to.
const ASKED: usize = 4_096;
/// Datagrams for such addresses after which they are asked for again: there may have been no time or no room.
const AGAIN: u32 = 4_096;
/// So many of them for one address are more than a stranger's single one, for which no other address gives way.
const OFTEN: u32 = 16;

/// The channels by which sockets come and addresses are asked for.
#[derive(Clone, Debug)]
pub struct Changes {
    /// What has changed.
    pub changes: Receiver<ListenerChange>,
    /// A datagram came for this address, under the address of the configuration with this index.
    pub unknown: Sender<WantedAddress>,
}

/// What a shard knows of the addresses under its wildcards.
#[derive(Debug)]
pub(crate) struct Addresses {
    channels: Option<Changes>,
    /// How many datagrams came for each that was asked for.
    asked: HashMap<(u16, IpAddr), u32>,
    since: u32,
    gone: Vec<(SocketId, IpAddr)>,
    /// Who answers what was sent to an IPv6 group.
    answering: AnswerAddresses,
}

impl Addresses {
    pub(crate) fn new(channels: Option<Changes>, lister: &AddressLister) -> Self {
        Self {
            channels,
            asked: HashMap::new(),
            since: 0,
            gone: Vec::new(),
            answering: AnswerAddresses::of(lister),
        }
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
        let is_full = self.asked.len() >= ASKED;
        let came = match self.asked.entry((listen, ip)) {
            Entry::Vacant(_) if is_full => return,
            entry => entry.or_default(),
        };
        *came += 1;
        let often = came.is_multiple_of(OFTEN);
        if (*came == 1 || often) && channels.unknown.try_send(WantedAddress { listen, ip, often }).is_err() {
            // Nobody has time for it now: the next one asks.
            *came -= 1;
        }
    }

    /// Tells the shard loop which addresses went.
    #[inline]
    pub(crate) fn report(&mut self, sink: &mut impl Sink) {
        for (socket, ip) in self.gone.drain(..) {
            sink.address_gone(socket, ip);
        }
    }

    pub(crate) fn any_gone(&self) -> bool {
        !self.gone.is_empty()
    }

    /// The address of this host that answers what was sent to many by way of an interface.
    pub(crate) fn answering(&mut self, interface: u32, remote: IpAddr) -> Option<IpAddr> {
        self.answering.answering(interface, remote)
    }

    /// Takes in what has changed of the host's addresses.
    #[inline]
    pub(crate) fn take_changes(&mut self, sockets: &mut Sockets, ring: &Ring, connected: &mut Connected) {
        if self.channels.is_some() {
            self.take_each(sockets, ring, connected);
        }
    }

    fn take_each(&mut self, sockets: &mut Sockets, ring: &Ring, connected: &mut Connected) {
        while let Some(channels) = &self.channels
            && let Ok(change) = channels.changes.try_recv()
        {
            if let Err(error) = self.change(sockets, ring, connected, change) {
                tracing::warn!(%error, "the listener of a local address cannot be used");
            }
        }
    }

    /// Takes in one change.
    fn change(
        &mut self,
        sockets: &mut Sockets,
        ring: &Ring,
        connected: &mut Connected,
        change: ListenerChange,
    ) -> io::Result<()> {
        match change {
            ListenerChange::Added(added) => listen(sockets, ring, added)?,
            ListenerChange::Removed { listen, ip, lost } => {
                self.asked.remove(&(listen, ip));
                let Some(slot) = sockets.forget_address(listen, ip) else { return Ok(()) };
                if lost {
                    self.gone.push((SocketId::listener(listen), ip));
                }
                connected.listener_gone(sockets, slot);
            }
        }
        Ok(())
    }
}

/// Receives by the listener of one address under a wildcard.
pub(crate) fn listen(sockets: &mut Sockets, ring: &Ring, added: ListenerSocket) -> io::Result<()> {
    // Dropped in the other order: the lease last.
    let ListenerSocket { lease, listen, local, socket, usage, .. } = added;
    let local = local.map_or_else(|| socket.local_addr(), Ok)?;
    let id = SocketId::listener(listen);
    let slot = sockets.free_address().ok_or(io::ErrorKind::QuotaExceeded)?;
    let mut socket = Socket::new(socket, id, local);
    (socket.under_wildcard, socket.usage, socket.lease) = (true, usage, lease);
    sockets.install(ring, slot, socket)?;
    sockets.name_address(listen, local.ip(), slot);
    Ok(())
}

#[cfg(test)]
mod tests {
    use crossbeam_channel::bounded;

    use super::*;

    #[test]
    fn an_address_is_asked_for_at_once_and_again_when_much_comes_for_it() {
        let ((_tell, changes), (unknown, asked)) = (bounded(0), bounded(3));
        let lister = AddressLister::start().expect("a thread");
        let mut addresses = Addresses::new(Some(Changes { changes, unknown }), &lister);
        let ip = |last| IpAddr::from([127, 0, 0, last]);
        let wanted = |last, often| WantedAddress { listen: 0, ip: ip(last), often };
        for _ in 0..3 * OFTEN {
            addresses.seen(0, ip(9));
        }
        // Nobody has time for more.
        addresses.seen(0, ip(10));
        let came = |so: [_; 3]| assert_eq!(asked.try_iter().collect::<Vec<_>>(), so);
        came([wanted(9, false), wanted(9, true), wanted(9, true)]);
        addresses.seen(0, ip(9));
        (0..OFTEN).for_each(|_| addresses.seen(0, ip(10)));
        came([wanted(9, true), wanted(10, false), wanted(10, true)]);
        // Strangers' single ones are asked for once in a while.
        for last in 0..200 {
            addresses.seen(0, ip(last));
            asked.try_iter().for_each(|wanted| assert!(!wanted.often, "{wanted:?}"));
        }
    }
}
