//! What the shard loop is to be told of sends.

use shardgram_core::datagram::SocketId;
use shardgram_core::driver::{SendFailure, SendFault, Sink};
use shardgram_core::outbox::Train;
use shardgram_core::{PeerError, PeerId};
use shardgram_sys::interfaces::has_lost_interface;

use crate::errno::hear;
use crate::sockets::Sockets;

/// What became of sends and was not told yet.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    failures: Vec<SendFailure>,
    /// Trains that were refused as such: whose, and how long their datagrams were.
    refusals: Vec<(Option<PeerId>, u32)>,
    /// What the network said of peers.
    heard: Vec<(SocketId, PeerError)>,
    /// Peers' own sockets whose interface has gone, of which a refused send is the only sign.
    useless: Vec<SocketId>,
}

impl Reports {
    /// A train did not leave.
    pub(crate) fn failed(&mut self, train: &Train, fault: SendFault) {
        self.add(SendFailure { peer: train.peer, datagrams: train.datagrams, fault });
    }

    pub(crate) fn add(&mut self, failure: SendFailure) {
        self.failures.push(failure);
    }

    /// A train of datagrams of this length was refused as such.
    pub(crate) fn refused(&mut self, peer: Option<PeerId>, segment: u32) {
        self.refusals.push((peer, segment));
    }

    /// Takes out of the socket in this place what the network said of its peer; whether it said anything.
    pub(crate) fn hear(&mut self, sockets: &Sockets, slot: u32) -> bool {
        let Some(socket) = sockets.get(slot).filter(|socket| socket.own.is_some()) else { return false };
        let heard = hear(&socket.socket);
        let any = !heard.is_empty();
        self.heard.extend(heard.into_iter().map(|error| (socket.id, error)));
        any
    }

    /// A send by the socket in this place was refused: if it is a peer's own whose interface has gone, the peer is better off
    /// without it.
    pub(crate) fn look_at_interface(&mut self, sockets: &Sockets, slot: u32) {
        let own = sockets.get(slot).filter(|socket| socket.own.is_some());
        if let Some(socket) = own.filter(|socket| has_lost_interface(&socket.socket)) {
            self.useless.push(socket.id);
        }
    }

    /// Whether something is to be told soon. What was refused as a train is told with the next arrivals.
    #[inline]
    pub(crate) fn any(&self) -> bool {
        !self.failures.is_empty() || !self.heard.is_empty() || !self.useless.is_empty()
    }

    /// Tells it.
    #[inline]
    pub(crate) fn tell(&mut self, sink: &mut impl Sink) {
        for failure in self.failures.drain(..) {
            sink.send_failed(failure);
        }
        for (peer, segment) in self.refusals.drain(..) {
            sink.train_refused(peer, segment);
        }
        for (socket, error) in self.heard.drain(..) {
            sink.peer_error(socket, error);
        }
        for socket in self.useless.drain(..) {
            sink.demote(socket);
        }
    }
}
