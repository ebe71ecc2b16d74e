//! A stale id finds nothing and sends nothing, even when its slot has a new owner.
use super::{Bed, loopback};
use shardgram_core::{Accept, CloseReason, Context, Datagram, Handler, Origin, PeerId, SendError};

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

pub fn nothing_reaches_the_new_owner_of_a_slot<B: Bed>(mut bed: B) {
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

/// Tells its neighbour of each peer; the neighbour tries everything with the id.
struct Gossip;

impl Handler for Gossip {
    type Peer = ();
    type Timer = ();
    type Message = PeerId;

    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
        Accept::Peer(())
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, from: PeerId, datagram: Datagram<'_>) {
        let neighbour = 1 - cx.io.shard();
        cx.io.tell(neighbour, from).unwrap();
        let len = datagram.len();
        cx.io.reply(datagram, len).unwrap();
    }

    fn on_message(&mut self, cx: &mut Context<'_, Self>, _: Origin, foreign: PeerId) {
        let own = cx.peers.iter().map(|(id, ())| id).find(|id| id.slot() == foreign.slot());
        let path = own.and_then(|id| cx.io.path(id));
        assert!(!cx.peers.contains(foreign));
        assert_eq!(cx.io.path(foreign), None);
        assert_eq!(cx.io.send(foreign, b"secret"), Err(SendError::Gone));
        assert_eq!(cx.io.slot(foreign, 1).err(), Some(SendError::Gone));
        let at = cx.io.now();
        assert!(cx.io.set_peer_timer(foreign, at, ()).is_err());
        if let Some(path) = path {
            assert_eq!(cx.io.use_path(foreign, path), Err(SendError::Gone));
        }
        cx.io.validated(foreign);
        cx.io.close(foreign);
    }
}

pub fn an_id_of_another_shard_is_nobody_here<B: Bed>(mut bed: B) {
    let server = bed.serve(loopback().shards(2), |_| Gossip);
    let at = bed.address(&server);
    // Both shards have peers in the same slots and generations.
    let peers: Vec<_> = (0..20).map(|_| bed.peer(at)).collect();
    for round in 0..5_u8 {
        for peer in &peers {
            assert_eq!(bed.ask(peer, at, &[round]), [round]);
        }
    }
    let stats = bed.drain(server);
    assert_eq!((stats.messages, stats.sent(), stats.peers_closed), (100, 100, 20));
    assert_eq!(stats.restarts, 0, "no assertion in the handler failed");
}
