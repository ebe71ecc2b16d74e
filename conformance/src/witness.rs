//! A server that says what it is told of each datagram.
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, Sender, channel};

use super::Bed;
use shardgram_core::{Accept, Config, Context, Datagram, Endpoint, Handler, Meta, Origin, PeerId, Tier, Via};

/// What its handler was told.
#[derive(Debug)]
pub(super) struct Heard {
    pub(super) meta: Meta,
    pub(super) tier: Option<Tier>,
    pub(super) bytes: Vec<u8>,
}

/// Says what it is told, and speaks first to whomever a message names.
struct Telling(Sender<Heard>);

impl Handler for Telling {
    type Peer = ();
    type Timer = ();
    type Message = SocketAddr;

    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
        Accept::Peer(())
    }

    fn on_message(&mut self, cx: &mut Context<'_, Self>, _: Origin, to: SocketAddr) {
        let endpoint = cx.io.endpoint(Endpoint::towards(to)).unwrap();
        let peer = cx.open(Via::Endpoint(endpoint), to, ()).unwrap();
        cx.io.send(peer, b"hello").unwrap();
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, from: PeerId, datagram: Datagram<'_>) {
        let (meta, tier) = (datagram.meta(), cx.io.tier(from));
        let _ = self.0.send(Heard { meta, tier, bytes: datagram.to_vec() });
    }
}

/// The server, and what it says.
pub(super) struct Witness<B: Bed> {
    pub(super) server: B::Server<SocketAddr>,
    told: Receiver<Heard>,
}

impl<B: Bed> Witness<B> {
    pub(super) fn serve(bed: &mut B, config: Config) -> Self {
        let (sender, told) = channel();
        Self { server: bed.serve(config, move |_| Telling(sender.clone())), told }
    }

    /// Makes the peer known, and waits until it has a socket of its own if it is to get one; says in which tier it
    /// is then.
    pub(super) fn acquaint(&self, bed: &mut B, peer: &B::Peer, at: SocketAddr, connected: bool) -> Tier {
        bed.send(peer, at, b"hello");
        heard(bed, self);
        if !connected {
            return Tier::Listener;
        }
        bed.until("it is connected", |bed| bed.stats(&self.server).promoted == 1);
        Tier::Connected
    }
}

/// What it says next.
pub(super) fn heard<B: Bed>(bed: &mut B, witness: &Witness<B>) -> Heard {
    bed.hear(&witness.told)
}
