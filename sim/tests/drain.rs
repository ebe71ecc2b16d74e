//! A node drains just when its peers are gone, misses its deadline by nothing, or stops.

mod support;

use std::time::{Duration, Instant};

use shardgram_core::shard_loop::Ending;
use shardgram_core::{Accept, CloseReason, Context, Datagram, Drain, Handler, PeerId};
use shardgram_sim::{NodeId, Sim};
use support::{SECOND, addr, echo, ip, listening, payloads};

/// Says goodbye to its peers and waits until each has said it too.
struct Polite;

impl Handler for Polite {
    type Peer = ();
    type Timer = ();
    type Message = ();
    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
        Accept::Peer(())
    }
    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, from: PeerId, datagram: Datagram<'_>) {
        if datagram.starts_with(b"bye") {
            cx.io.close(from);
        }
    }
    fn on_drain(&mut self, cx: &mut Context<'_, Self>, _: Instant) -> Drain {
        for (peer, ()) in cx.peers.iter() {
            let _ = cx.io.send(peer, b"bye");
        }
        Drain::WhenPeersGone
    }
    fn on_closed(&mut self, cx: &mut Context<'_, Self>, _: PeerId, (): (), why: CloseReason) {
        assert!(why == CloseReason::Asked || why == CloseReason::Drained);
        assert!(cx.io.shards() == 2);
    }
}

fn endings<M>(sim: &Sim, node: &NodeId<M>) -> Vec<String> {
    sim.ended(node).expect("it ended").iter().map(|e| format!("{e:?}")).collect()
}

/// Drains a polite server with one peer, which may say goodbye a second later; how it ended, and when.
fn polite(farewell: bool) -> (Vec<String>, Duration) {
    let mut sim = Sim::new(2);
    let config = listening("10.0.0.1:7").shards(2);
    let server = sim.server(&[ip("10.0.0.1")], &config, |_| Polite).expect("starts");
    let client = sim.socket(addr("10.0.0.2:5000"));
    sim.send(client, addr("10.0.0.1:7"), b"hello");
    sim.run_for(SECOND);
    sim.drain(&server, 3 * SECOND);
    let asked = sim.elapsed();
    sim.run_for(SECOND);
    assert_eq!(payloads(&mut sim, client), [b"bye"]);
    assert!(sim.ended(&server).is_none(), "a peer is left");
    if farewell {
        sim.send(client, addr("10.0.0.1:7"), b"bye");
    }
    assert!(sim.run_until_quiet(10 * SECOND));
    assert_eq!(sim.stats(&server).peers(), 0);
    (endings(&sim, &server), sim.elapsed() - asked)
}

#[test]
fn a_drain_ends_when_the_peers_are_gone() {
    let (endings, took) = polite(true);
    assert_eq!(endings, ["Drained", "Drained"]);
    assert!(took < SECOND + Duration::from_millis(4), "{took:?}");
}

#[test]
fn a_drain_ends_at_its_deadline() {
    let (endings, took) = polite(false);
    assert_eq!(endings, ["DrainDeadline", "DrainDeadline"]);
    assert!(took >= 3 * SECOND && took < 3 * SECOND + Duration::from_millis(1), "{took:?}");
}

#[test]
fn stop_waits_for_nothing() {
    let mut sim = Sim::new(3);
    let server = echo(&mut sim, &listening("10.0.0.1:7").shards(2));
    sim.run_for(SECOND);
    sim.stop(&server);
    assert!(sim.run_until_quiet(SECOND));
    assert!(sim.ended(&server).expect("ended").iter().all(|e| matches!(e, Ending::Stopped)));
}
