//! A shard that is stalled takes no turn; what comes meanwhile waits as far as there is room, and nothing is lost uncounted.

mod support;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use shardgram_conformance::Echo;
use shardgram_core::flow::flow_shard;
use shardgram_core::{Accept, Context, Datagram, Handler, PeerId};
use shardgram_sim::Sim;
use support::{SECOND, addr, all, ip, listening};

const STALL: Duration = Duration::from_millis(300);

#[test]
fn what_comes_meanwhile_waits_and_what_finds_no_room_is_counted() {
    let mut sim = Sim::new(1);
    // Room for 10 datagrams of 100 bytes.
    let config = listening("10.0.0.1:7").receive_socket_bytes(6_200);
    let server = sim.server(&[ip("10.0.0.1")], &config, |_| Echo).expect("starts");
    let client = sim.socket(addr("10.0.0.2:5000"));
    assert!(sim.run_until_quiet(SECOND));
    sim.stall(&server, 0, STALL);
    for _ in 0..25 {
        sim.send(client, addr("10.0.0.1:7"), &[7; 100]);
    }
    sim.run_for(STALL - Duration::from_millis(1));
    assert_eq!((all(&mut sim, client).len(), sim.stats(&server).received), (0, 0), "it has no turn");
    assert!(sim.run_until_quiet(SECOND));
    sim.refresh(&server);
    let stats = sim.stats(&server);
    assert_eq!((all(&mut sim, client).len(), stats.received, stats.kernel_dropped), (10, 10, 15));
    assert_eq!((stats.unaccounted(), sim.counts().unaccounted()), (0, 0));
}

#[test]
fn other_shards_go_on_and_a_killed_one_stays_so() {
    let mut sim = Sim::new(2);
    let config = listening("10.0.0.1:7").shards(2);
    let server = sim.server(&[ip("10.0.0.1")], &config, |_| Echo).expect("starts");
    sim.stall(&server, 0, STALL);
    sim.stall(&server, 2, STALL);
    let clients: Vec<_> = (5_000..5_016).map(|port| sim.socket(([10, 0, 0, 2], port).into())).collect();
    for client in &clients {
        sim.send(*client, addr("10.0.0.1:7"), b"x");
    }
    sim.run_for(STALL / 2);
    let of_other = sim.shard_stats(&server, 1).delivered;
    assert!(of_other > 0 && of_other < 16, "{of_other} of 16 belong to the other shard");
    assert_eq!(sim.stats(&server).delivered, of_other);
    sim.kill(&server);
    assert!(sim.run_until_quiet(SECOND));
    assert_eq!(sim.stats(&server).delivered, of_other);
    assert_eq!(sim.counts().unaccounted(), 0);
}

/// The first who comes is a peer, and all others are paths of that one.
#[derive(Clone, Default)]
struct OneConversation(Arc<Mutex<Option<PeerId>>>);

impl Handler for OneConversation {
    type Peer = ();
    type Timer = ();
    type Message = ();

    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
        self.0.lock().expect("nobody failed").map_or(Accept::Peer(()), Accept::PathOf)
    }

    fn on_datagram(&mut self, _: &mut Context<'_, Self>, peer: PeerId, _: Datagram<'_>) {
        self.0.lock().expect("nobody failed").get_or_insert(peer);
    }
}

#[test]
fn a_peer_is_not_silent_whose_path_is_owned_by_a_shard_that_stands_still() {
    let (mut sim, handler) = (Sim::new(3), OneConversation::default());
    let config = listening("10.0.0.1:7").shards(2).idle_timeout(Some(SECOND));
    let server = sim.server(&[ip("10.0.0.1")], &config, move |_| handler.clone()).expect("starts");
    let mut client_of = |shard: u16| {
        let of = |address: &SocketAddr| flow_shard(*address, 2) == shard;
        let address = (5_000..6_000).map(|port| ([10, 0, 0, 2], port).into()).find(of).expect("one of many");
        sim.socket(address)
    };
    let (first, moved) = (client_of(0), client_of(1));
    sim.send(first, addr("10.0.0.1:7"), b"hello");
    let speak = |sim: &mut Sim, tenths: u32| {
        for _ in 0..tenths {
            sim.send(moved, addr("10.0.0.1:7"), b"from elsewhere");
            sim.run_for(SECOND / 10);
        }
    };
    sim.run_for(SECOND / 10);
    // A first look for silence.
    speak(&mut sim, 4);
    sim.stall(&server, 1, SECOND * 12 / 10);
    speak(&mut sim, 14);
    let stats = sim.stats(&server);
    assert_eq!((stats.delivered, stats.peers_opened, stats.peers_closed), (19, 1, 0), "{stats:?}");
    let turns = stats.turns;
    assert!(turns < 500, "who waits for another sleeps: {turns} turns");
    sim.run_for(SECOND * 5 / 4);
    assert_eq!(sim.stats(&server).peers_closed, 1, "now it is");
}
