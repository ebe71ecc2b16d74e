//! Sockets of peers' own, as a shard's driver has them: how they come, and how they go without losing anything.
//!
//! As on a real system: what the listener holds of a peer is handed over first (`network/own_sockets` holds the socket
//! back so long); a socket that goes stays in service until it is empty, and is closed a while later.

use std::collections::VecDeque;

use shardgram_core::Path;
use shardgram_core::datagram::SocketId;
use shardgram_core::driver::{ConnectFault, Sink};

use crate::errno::{IN_USE, NO_DESCRIPTOR};
use crate::network::Network;

/// How long after a socket was taken out of service it is closed: as long as the io_uring driver gives the kernel.
const SETTLES_NS: u64 = 500_000;
/// How long a socket that holds datagrams of its peer may stay in service after it was to go.
const LEAVES_NS: u64 = 250_000_000;

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

    /// Makes a peer's own socket, for what comes along this path.
    pub(crate) fn connect(
        &mut self,
        network: &mut Network,
        shard: u32,
        (id, path): (SocketId, &Path),
        bytes: (u64, u64),
    ) -> Result<(), ConnectFault> {
        let slot = id.as_connected().ok_or(ConnectFault::Unsupported)? as usize;
        if network.order.happens(network.refused_sockets) {
            return Err(ConnectFault::Exhausted { errno: NO_DESCRIPTOR });
        }
        let socket = network.connect(shard, id, path, bytes);
        let socket = socket.ok_or(ConnectFault::Failed { errno: IN_USE })?;
        if self.all.len() <= slot {
            self.all.resize(slot + 1, None);
        }
        self.all[slot] = Some(socket);
        Ok(())
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
