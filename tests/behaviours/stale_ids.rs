//! A stale id finds nothing and sends nothing, even when its slot has a new owner.
use crate::common::{Bed, loopback};
use shardgram::{Accept, CloseReason, Context, Datagram, Handler, PeerId, SendError};

/// Keeps the id of every peer it closed and tries each of them on every datagram.
#[derive(Default)]
struct Grudge {
    gone: Vec<PeerId>,
}

impl Handler for Grudge {
    type Peer = Vec<u8>;
    type Timer = ();
    type Message = ();

    fn accept(&mut self, _: &mut Context<'_, Self>, first: &mut Datagram<'_>) -> Accept<Vec<u8>> {
        Accept::Peer(first.to_vec())
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, from: PeerId, datagram: Datagram<'_>) {
        let later = cx.io.now() + std::time::Duration::from_secs(3600);
        for &old in &self.gone {
            assert!(cx.peers.get(old).is_none());
            assert_eq!(cx.io.send(old, b"to nobody"), Err(SendError::Gone));
            assert_eq!(cx.io.slot(old, 1).err(), Some(SendError::Gone));
            let shared = cx.io.share(b"to nobody").unwrap();
            assert_eq!(cx.io.send_shared(old, shared), Err(SendError::Gone));
            assert!(cx.io.set_peer_timer(old, later, ()).is_err());
            assert_eq!(cx.io.path(old), None);
            cx.io.close(old);
        }
        assert!(cx.peers.get(from).unwrap().starts_with(b"close"), "its own state, not another's");
        cx.io.send(from, format!("{} gone", self.gone.len()).as_bytes()).unwrap();
        if datagram.starts_with(b"close") {
            cx.io.close(from);
        }
    }

    fn on_closed(&mut self, cx: &mut Context<'_, Self>, peer: PeerId, _: Vec<u8>, why: CloseReason) {
        if why == CloseReason::Asked {
            assert!(!cx.peers.contains(peer), "stale before anyone is told");
            assert_eq!(peer.slot(), 0, "the slot is used again");
            self.gone.push(peer);
        }
    }
}

fn nothing_reaches_the_new_owner_of_a_slot(mut bed: Bed) {
    let server = bed.serve(loopback().max_peers(1), |_| Grudge::default());
    let at = bed.address(&server);
    for gone in 0..20 {
        let peer = bed.peer(at);
        assert_eq!(bed.ask(&peer, at, b"close me"), format!("{gone} gone").as_bytes());
    }
    let stats = bed.drain(server);
    assert_eq!((stats.peers_opened, stats.peers_closed, stats.sent()), (20, 20, 20));
    assert_eq!(stats.restarts, 0, "no assertion in the handler failed");
}

on_all_drivers!(nothing_reaches_the_new_owner_of_a_slot);
