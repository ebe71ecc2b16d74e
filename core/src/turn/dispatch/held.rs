//! What was received and waits: for room in the outbox, or for time.

use crate::api::handler::Handler;
use crate::messages::mailbox::Forwarded;
use crate::turn::dispatch::Dispatch;
use crate::turn::panics::{Callback, Cause};
use crate::types::datagram::{Datagram, Meta, Path, ReceivedTrain, SocketId, datagrams_in};

impl<H: Handler> Dispatch<H> {
    /// Keeps a copy of what may not be handed over now. The driver gets its buffer back, for it may need that to go on.
    #[cold]
    pub(super) fn hold(&mut self, path: Path, meta: Meta, segment: usize, bytes: &[u8]) {
        self.keep(self.copy(path, meta, segment, bytes));
    }

    /// A copy of an arrival or of its rest. It has no allowance, since `accept` has seen nothing of it.
    pub(super) fn copy(&self, path: Path, meta: Meta, segment: usize, bytes: &[u8]) -> Forwarded {
        let (group, bytes) = (self.io.sockets.groups.of(meta), bytes.to_vec());
        Forwarded { path, group, meta, peer: None, segment, allowance: None, bytes }
    }

    fn keep(&mut self, held: Forwarded) {
        if self.panicked {
            let datagrams = datagrams_in(held.bytes.len(), held.segment) as u64;
            return self.io.stats.dropped_panicked.add(datagrams);
        }
        self.held.push(held);
    }

    /// Each datagram of a train that was copied. What has to wait goes on waiting where it lies.
    #[cold]
    pub(super) fn each_of_kept(&mut self, mut kept: Forwarded) {
        let Forwarded { path, meta, segment, .. } = kept;
        let bytes = &mut kept.bytes[..];
        let left =
            self.each_of(None, ReceivedTrain { path: &path, meta, peer: None, segment, bytes, at: None });
        if left > 0 {
            kept.bytes.drain(..kept.bytes.len() - left);
            self.keep(kept);
        }
    }

    /// Hands over what waited for room in the outbox, before anything younger.
    #[cold]
    pub(crate) fn hand_over_held(&mut self) {
        while self.may_go_on()
            && let Some((peer, error)) = self.held.next_error()
        {
            if self.peers.contains(peer) {
                let cause = Cause::Peer(Callback::PeerError, peer);
                self.call(cause, |handler, cx| handler.on_peer_error(cx, peer, error));
            }
        }
        let mut waiting = self.held.take_arrivals();
        while self.may_go_on()
            && let Some(mut next) = waiting.pop_front()
        {
            self.arrivals += self.held.no_more(&next);
            if let Some(group) = next.group {
                self.io.sockets.groups.current = group;
            }
            let Forwarded { path, meta, segment, .. } = next;
            if segment == 0 {
                let (known, bytes) = (self.known(&path), &mut next.bytes[..]);
                self.one(known, Datagram { path: &path, meta, peer: None, bytes, at: None });
            } else {
                self.each_of_kept(next);
            }
        }
        self.held.put_back(waiting);
    }

    /// Drops what had come by an endpoint that is closed.
    pub(crate) fn drop_held(&mut self, socket: SocketId) {
        let datagrams = self.held.drop_socket(socket);
        self.arrivals += datagrams;
        self.io.stats.dropped_closed.add(datagrams);
    }

    /// No handler is left to have it.
    pub(crate) fn lose_held(&mut self) {
        let datagrams = self.held.drop_all();
        self.arrivals += datagrams;
        self.io.stats.dropped_panicked.add(datagrams);
    }
}
