//! What the shard loop is to be told of sends.

use shardgram_core::datagram::SocketId;
use shardgram_core::driver::{SendFailure, SendFault, Sink};
use shardgram_core::outbox::Train;
use shardgram_core::{PeerError, PeerId};

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

    /// Whether something is to be told soon. What was refused as a train is told with the next arrivals.
    #[inline]
    pub(crate) fn any(&self) -> bool {
        !self.failures.is_empty() || !self.heard.is_empty()
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
    }
}
