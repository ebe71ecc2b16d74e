//! Counters add up exactly: what was sent was received or dropped, and every drop is counted somewhere.
use super::{Bed, Echo, loopback};
use shardgram_core::{Accept, Context, Datagram, Handler};

/// Refuses one kind of stranger, answers another without state, and takes the rest.
struct Sorter;

impl Handler for Sorter {
    type Peer = ();
    type Timer = ();
    type Message = ();

    fn accept(&mut self, _: &mut Context<'_, Self>, first: &mut Datagram<'_>) -> Accept<()> {
        match first.first() {
            Some(0) => Accept::Peer(()),
            Some(1) => Accept::Reply(first.len()),
            Some(2) => Accept::Done,
            Some(3) => Accept::Drop("three"),
            _ => Accept::Drop("other"),
        }
    }
}

const PEERS: u32 = 250;

pub fn each_datagram_has_one_outcome<B: Bed>(mut bed: B) {
    let server = bed.serve(loopback().shards(2).max_peers(10), |_| Sorter);
    let at = bed.address(&server);
    // All of them stay open, so that no port is used again with another kind.
    let peers: Vec<_> = (0..PEERS).map(|_| bed.peer(at)).collect();
    for (kind, peer) in peers.iter().enumerate() {
        for _ in 0..4 {
            bed.send(peer, at, &[(kind % 5) as u8, 0]);
        }
    }
    let sent = u64::from(PEERS * 4);
    bed.until("all of it is received", |bed| bed.stats(&server).received == sent);
    let stats = bed.drain(server);
    let each = sent / 5;
    assert_eq!(stats.received_bytes, 2 * sent);
    assert_eq!(stats.stateless, 2 * each);
    let refused = |reason| stats.refused.iter().find(|r| r.0 == reason).map(|r| r.1);
    assert_eq!((refused("three"), refused("other")), (Some(each), Some(each)));
    assert_eq!(stats.delivered, each);
    assert_eq!(stats.peers_opened - stats.peers_displaced, 20, "as many as fit, on each shard");
    assert_eq!(stats.dropped_peers_full, 0);
    assert_eq!((stats.queued, stats.submitted, stats.sent()), (each, each, each));
}

pub fn source_port_zero_is_dropped_and_counted<B: Bed>(mut bed: B) {
    let server = bed.serve(loopback(), |_| Echo);
    let at = bed.address(&server);
    if !bed.send_from_port_zero(at, b"from nowhere") {
        return;
    }
    bed.until("it is counted", |bed| bed.stats(&server).dropped_port_zero == 1);
    let peer = bed.peer(at);
    assert_eq!(bed.ask(&peer, at, b"x"), b"x", "and others are served");
    let stats = bed.drain(server);
    assert_eq!((stats.received, stats.delivered), (2, 1));
}
