//! Addresses that nodes get and lose while they run.

mod support;

use std::cell::RefCell;

use shardgram_core::{Accept, CloseReason, Context, Datagram, Handler, PeerError, PeerId, TierPolicy};
use shardgram_sim::{NodeId, Sim, SimError, SocketKey};
use support::{SECOND, addr, ip, listening, payloads};

thread_local! {
    static HEARD: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Answers with its name and notes what becomes of its peers.
struct Named(&'static str);

impl Named {
    fn say(what: String) {
        HEARD.with_borrow_mut(|heard| heard.push(what));
    }
}

impl Handler for Named {
    type Peer = ();
    type Timer = ();
    type Message = ();

    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
        Accept::Peer(())
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, from: PeerId, _: Datagram<'_>) {
        cx.io.send(from, self.0.as_bytes()).expect("room");
    }

    fn on_message(&mut self, cx: &mut Context<'_, Self>, _: shardgram_core::Origin, (): ()) {
        for (peer, ()) in cx.peers.iter() {
            cx.io.send(peer, b"news").expect("room");
        }
    }

    fn on_closed(&mut self, _: &mut Context<'_, Self>, _: PeerId, (): (), why: CloseReason) {
        Self::say(format!("{why:?}"));
    }

    fn on_peer_error(&mut self, cx: &mut Context<'_, Self>, peer: PeerId, error: PeerError) {
        assert_eq!(error, PeerError::Unreachable);
        Self::say(format!("unreachable from {}", cx.io.path(peer).expect("it is there").local));
    }
}

fn heard() -> Vec<String> {
    HEARD.take()
}

fn ask(sim: &mut Sim, client: SocketKey, to: &str) -> String {
    sim.send(client, addr(to), b"who is there?");
    assert!(sim.run_until_quiet(SECOND));
    payloads(sim, client).into_iter().map(|bytes| String::from_utf8(bytes).expect("a name")).collect()
}

fn start(sim: &mut Sim, name: &'static str, host: &str, listen: &str, tier: TierPolicy) -> NodeId<()> {
    let config = listening(listen).shards(2).tier(tier);
    sim.server(&[ip(host)], &config, move |_| Named(name)).expect("starts")
}

#[test]
fn a_listener_for_every_address_has_what_comes_and_loses_what_goes() {
    for tier in [TierPolicy::Listener, TierPolicy::Connected] {
        let mut sim = Sim::new(1);
        let node = start(&mut sim, "a", "10.0.0.1", "0.0.0.0:7", tier);
        let clients = [5000, 5001, 5002].map(|port| sim.socket(addr(&format!("10.0.1.1:{port}"))));
        assert_eq!(ask(&mut sim, clients[0], "10.0.0.2:7"), "");
        sim.add_address(&node, ip("10.0.0.2")).expect("free");
        sim.add_address(&node, ip("10.0.0.2")).expect("it has it");
        sim.add_address(&node, ip("fd00::2")).expect("free");
        for client in clients {
            assert_eq!(ask(&mut sim, client, "10.0.0.2:7"), "a");
        }
        assert_eq!(ask(&mut sim, clients[1], "10.0.0.1:7"), "a");
        assert_eq!((sim.stats(&node).peers(), heard()), (4, vec![]));
        assert!(sim.remove_address(&node, ip("10.0.0.2")) && !sim.remove_address(&node, ip("10.0.0.2")));
        assert!(sim.run_until_quiet(SECOND));
        assert_eq!(heard(), ["AddressGone"; 3]);
        assert_eq!(ask(&mut sim, clients[0], "10.0.0.2:7"), "");
        assert_eq!(ask(&mut sim, clients[1], "10.0.0.1:7"), "a");
        sim.add_address(&node, ip("10.0.0.2")).expect("free");
        assert_eq!(ask(&mut sim, clients[0], "10.0.0.2:7"), "a", "{tier}");
        let stats = sim.stats(&node);
        assert_eq!((stats.peers(), stats.unaccounted(), sim.counts().unclaimed), (2, 0, 2), "{stats:?}");
    }
}

#[test]
fn a_listener_bound_to_what_goes_is_deaf_until_it_is_back() {
    for tier in [TierPolicy::Listener, TierPolicy::Connected] {
        let mut sim = Sim::new(2);
        let node = start(&mut sim, "a", "10.0.0.1", "10.0.0.1:7", tier);
        let client = sim.socket(addr("10.0.1.1:5000"));
        assert_eq!(ask(&mut sim, client, "10.0.0.1:7"), "a");
        assert!(sim.remove_address(&node, ip("10.0.0.1")));
        assert_eq!(ask(&mut sim, client, "10.0.0.1:7"), "");
        (0..2).for_each(|shard| node.tell(shard, ()).expect("room"));
        assert!(sim.run_until_quiet(SECOND));
        assert_eq!(heard(), ["unreachable from 10.0.0.1:7"]);
        sim.add_address(&node, ip("10.0.0.1")).expect("free");
        assert_eq!(ask(&mut sim, client, "10.0.0.1:7"), "a", "{tier}");
        assert_eq!((sim.stats(&node).peers_opened, heard()), (1, vec![]));
    }
}

#[test]
fn an_address_moves_to_another_node() {
    for tier in [TierPolicy::Listener, TierPolicy::Connected] {
        let mut sim = Sim::new(3);
        let (floating, client) = (ip("10.0.0.100"), sim.socket(addr("10.0.1.1:5000")));
        let a = start(&mut sim, "a", "10.0.0.1", "0.0.0.0:7", tier);
        let b = start(&mut sim, "b", "10.0.0.2", "0.0.0.0:7", tier);
        sim.add_address(&a, floating).expect("free");
        assert_eq!(sim.add_address(&b, floating), Err(SimError::InUse(addr("10.0.0.100:7"))));
        assert_eq!(ask(&mut sim, client, "10.0.0.100:7"), "a");
        sim.remove_address(&a, floating);
        sim.add_address(&b, floating).expect("free");
        assert_eq!(ask(&mut sim, client, "10.0.0.100:7"), "b");
        // The first node ends, and takes nothing along that is the second one's.
        sim.stop(&a);
        assert!(sim.run_until_quiet(SECOND));
        assert_eq!(ask(&mut sim, client, "10.0.0.100:7"), "b", "{tier}");
        heard();
    }
}
