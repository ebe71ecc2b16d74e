//! Sockets of peers' own, as a shard's driver has them: how they come, and how they go without losing anything.
//!
//! As on a real system: what the listener holds of a peer is handed over first (`own_sockets` holds the socket
//! back so long); a socket that goes stays in service until it is empty, and is closed a while later.

use std::collections::VecDeque;

use shardgram_core::Path;
use shardgram_core::datagram::SocketId;
use shardgram_core::driver::{ConnectFault, Sink};

use crate::driver::SimDriver;
use crate::network::Network;

/// How long after a socket was taken out of service it is closed: as long as the io_uring driver gives the kernel.
const SETTLES_NS: u64 = 500_000;
/// How long a socket that holds datagrams of its peer may stay in service after it was to go.
const LEAVES_NS: u64 = 250_000_000;
/// What Linux gives where no descriptor is left, and for an address in use (EMFILE, EADDRINUSE; errno(3)).
const NO_DESCRIPTOR: i32 = 24;
const IN_USE: i32 = 98;

#[derive(Debug, Default)]
pub(crate) struct OwnSockets {
    /// By slot.
    all: Vec<Option<u32>>,
    /// Slots that go when they hold nothing, and at the latest when.
    leaving: VecDeque<(u32, u64)>,
    /// Slots that are out of service, and when to close them.
    closing: VecDeque<(u64, u32)>,
    closed: Vec<SocketId>,
}

impl OwnSockets {
    /// The socket in a slot.
    pub(crate) fn socket(&self, id: SocketId) -> Option<u32> {
        self.all.get(id.as_connected()? as usize).copied().flatten()
    }

    /// Whether none is on its way out.
    pub(crate) fn is_idle(&self) -> bool {
        self.leaving.is_empty() && self.closing.is_empty()
    }

    pub(crate) fn has_closed(&self) -> bool {
        !self.closed.is_empty()
    }

    /// When the next one is to be looked at. One that leaves is empty, or the shard has something to do.
    pub(crate) fn deadline(&self) -> Option<u64> {
        self.closing.front().map(|(at, _)| *at)
    }

    pub(crate) fn report(&mut self, sink: &mut impl Sink) {
        self.closed.drain(..).for_each(|id| sink.retired(id));
    }

    pub(crate) fn retire(&mut self, id: SocketId, now_ns: u64) {
        if let Some(slot) = id.as_connected() {
            self.leaving.push_back((slot, now_ns + LEAVES_NS));
        }
    }

    /// Turns those away that are empty, and closes those whose time has come.
    #[inline]
    pub(crate) fn tend(&mut self, network: &mut Network) {
        if !self.is_idle() {
            self.tend_leaving(network);
        }
    }

    #[cold]
    fn tend_leaving(&mut self, network: &mut Network) {
        let (all, now_ns) = (&mut self.all, network.now_ns());
        let socket_in = |all: &[Option<u32>], slot: u32| all.get(slot as usize).copied().flatten();
        self.leaving.retain(|&(slot, latest)| {
            let Some(socket) = socket_in(all, slot) else { return false };
            let stays = !network.is_drained(socket) && now_ns < latest;
            if !stays {
                network.turn_away(socket);
                self.closing.push_back((now_ns + SETTLES_NS, slot));
            }
            stays
        });
        while let Some(&(at, slot)) = self.closing.front()
            && at <= now_ns
        {
            self.closing.pop_front();
            let Some(socket) = socket_in(all, slot) else { continue };
            if network.is_drained(socket) {
                network.close_own(socket);
                all[slot as usize] = None;
                self.closed.push(SocketId::connected(slot));
            } else {
                self.closing.push_back((now_ns + SETTLES_NS, slot));
            }
        }
    }

    pub(crate) fn close_all(&mut self, network: &mut Network) {
        self.all.drain(..).flatten().for_each(|socket| network.close_own(socket));
    }
}

impl SimDriver {
    /// Makes a peer's own socket.
    pub(crate) fn connect_peer(
        &mut self,
        network: &mut Network,
        id: SocketId,
        path: &Path,
        bytes: (u64, u64),
    ) -> Result<(), ConnectFault> {
        let slot = id.as_connected().ok_or(ConnectFault::Unsupported)? as usize;
        let listener = path.socket.as_listener().ok_or(ConnectFault::Unsupported)?;
        let there = self.listeners.get(usize::from(listener)).is_some();
        if !there || !self.host.borrow().contains(&path.local.ip()) {
            return Err(ConnectFault::Unsupported);
        }
        if network.order.happens(network.refused_sockets) {
            return Err(ConnectFault::Exhausted { errno: NO_DESCRIPTOR });
        }
        let socket = network.connect(self.position.shard, id, path, bytes);
        let socket = socket.ok_or(ConnectFault::Failed { errno: IN_USE })?;
        if self.own.all.len() <= slot {
            self.own.all.resize(slot + 1, None);
        }
        self.own.all[slot] = Some(socket);
        Ok(())
    }
}
