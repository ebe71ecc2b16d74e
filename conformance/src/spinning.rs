//! A shard that always spins receives in another way, and does the same.
use shardgram_core::{Accept, Config, Context, Datagram, Handler, PeerId, WaitPolicy};

use super::{Bed, Echo, loopback, pattern, tiers, to_loopback};

fn spinning(config: Config) -> Config {
    config.wait(WaitPolicy::Spin)
}

/// On more sockets than are received from in that way, specific and wildcard, of both families.
pub fn every_size_comes_back<B: Bed>(mut bed: B) {
    let mut config = spinning(Config::new());
    for at in ["127.0.0.1:0", "[::1]:0", "0.0.0.0:0", "127.0.0.1:0", "127.0.0.1:0", "[::]:0"] {
        config = config.listen(at.parse().unwrap());
    }
    let server = bed.serve(config, |_| Echo);
    let addresses = bed.addresses(&server);
    for at in addresses {
        let to = to_loopback(at);
        let peer = bed.peer(to);
        for len in [0, 1, 1_400, 9_000, 65_507, 0, 7] {
            assert_eq!(bed.ask(&peer, to, &pattern(len)), pattern(len), "{len} bytes to {at}");
        }
    }
    let stats = bed.drain(server);
    assert_eq!((stats.received, stats.sent(), stats.copied_bytes), (42, 42, 0), "{stats:?}");
}

/// More at once than one call receives, from many, in order.
pub fn bursts_come_in_order<B: Bed>(mut bed: B) {
    let server = bed.serve(spinning(loopback()).turn_budget(3), |_| Echo);
    let at = bed.address(&server);
    let peers: Vec<B::Peer> = (0..5).map(|_| bed.peer(at)).collect();
    for round in 0..20_u8 {
        for number in 0..50_u8 {
            peers.iter().for_each(|peer| bed.send(peer, at, &[round, number]));
        }
        for peer in &peers {
            (0..50).for_each(|number| assert_eq!(bed.receive(peer).1, [round, number]));
        }
    }
    assert_eq!(bed.drain(server).received, 5 * 20 * 50);
}

/// Peers that get sockets of their own where there are such, whose handover goes through the listener.
pub fn peers_with_sockets_of_their_own<B: Bed>(mut bed: B) {
    for tier in tiers(&bed) {
        let server = bed.serve(spinning(loopback()).tier(tier), |_| Echo);
        let at = bed.address(&server);
        let peers: Vec<B::Peer> = (0..20).map(|_| bed.peer(at)).collect();
        for round in 0..30 {
            for peer in &peers {
                assert_eq!(bed.ask(peer, at, &pattern(100 + round)), pattern(100 + round));
            }
        }
        let stats = bed.drain(server);
        assert_eq!((stats.received, stats.sent(), stats.handovers_timed_out), (600, 600, 0), "{stats:?}");
    }
}

/// Answers with a train and a datagram that is no part of it.
struct TrainAndMore;

impl Handler for TrainAndMore {
    type Peer = ();
    type Timer = ();
    type Message = ();

    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
        Accept::Peer(())
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, from: PeerId, _: Datagram<'_>) {
        for bytes in [&b"first"[..], b"secnd", b"the third"] {
            cx.io.send(from, bytes).expect("room");
        }
    }
}

pub fn what_leaves_in_different_ways_leaves_in_order<B: Bed>(mut bed: B) {
    for tier in tiers(&bed) {
        let server = bed.serve(spinning(loopback()).tier(tier), |_| TrainAndMore);
        let at = bed.address(&server);
        let peer = bed.peer(at);
        for round in 0..100 {
            bed.send(&peer, at, b"go");
            let came = [(); 3].map(|()| bed.receive(&peer).1);
            assert_eq!(came, [&b"first"[..], b"secnd", b"the third"], "round {round}");
        }
        assert_eq!(bed.drain(server).sent(), 300);
    }
}

/// Fails once.
struct Frail;

impl Handler for Frail {
    type Peer = ();
    type Timer = ();
    type Message = ();

    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
        Accept::Peer(())
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, _: PeerId, datagram: Datagram<'_>) {
        assert_ne!(&*datagram, b"fail", "as it was told");
        let len = datagram.len();
        cx.io.reply(datagram, len).expect("room for a reply");
    }
}

pub fn handlers_that_fail_are_replaced<B: Bed>(mut bed: B) {
    let server = bed.serve(spinning(loopback()), |_| Frail);
    let at = bed.address(&server);
    let peer = bed.peer(at);
    (0..20).for_each(|_| bed.send(&peer, at, b"before"));
    bed.send(&peer, at, b"fail");
    bed.until("it is replaced", |bed| bed.stats(&server).restarts == 1);
    let another = bed.peer(at);
    assert_eq!(bed.ask(&another, at, b"after"), b"after");
    let stats = bed.drain(server);
    assert_eq!((stats.received, stats.restarts), (22, 1), "{stats:?}");
}
