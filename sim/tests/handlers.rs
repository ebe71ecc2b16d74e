//! Four handlers that hit the borrow checker's sore spots, and what they do.

mod support;

use std::net::SocketAddr;
use std::time::Duration;

use shardgram_conformance::Echo;
use shardgram_core::{
    Accept, CloseReason, Config, Context, Datagram, Endpoint, Full, Handler, Origin, PeerId, Via,
};
use shardgram_sim::{LinkConfig, Sim};
use support::{SECOND, addr, ip, listening, payloads};

/// Stateless: DNS or STUN makes no peers at all.
struct Oracle {
    asked: u64,
}

impl Handler for Oracle {
    type Peer = ();
    type Timer = ();
    type Message = ();
    fn accept(&mut self, cx: &mut Context<'_, Self>, query: &mut Datagram<'_>) -> Accept<()> {
        self.asked += 1;
        let Some(first) = query.first_mut() else { return Accept::Drop("empty") };
        *first |= 0x80;
        if self.asked.is_multiple_of(2) {
            let _ = cx.io.answer(query.path(), b"copied");
            return Accept::Done;
        }
        Accept::Reply(1)
    }
}

/// Typed state, fan-out of one payload while walking the states, closing while iterating, timers,
/// messages, in-place writes.
struct Arena {
    round: u32,
}

struct Player {
    score: u32,
    missed: u32,
}

enum Tick {
    Round,
}

#[derive(Debug, PartialEq, Eq)]
enum Order {
    Kick(PeerId),
    NewRound,
}

impl Handler for Arena {
    type Peer = Player;
    type Timer = Tick;
    type Message = Order;
    fn accept(&mut self, cx: &mut Context<'_, Self>, first: &mut Datagram<'_>) -> Accept<Player> {
        if first.starts_with(b"join") {
            return Accept::Peer(Player { score: 0, missed: 0 });
        }
        let cookie = cx.io.cookie(first.path());
        let _ = cx.io.answer(first.path(), &cookie);
        Accept::Done
    }
    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, from: PeerId, datagram: Datagram<'_>) {
        let Some(me) = cx.peers.get_mut(from) else { return };
        if datagram.starts_with(b"bye")
            && let Err(Full(_)) = cx.io.tell(1, Order::Kick(from))
        {
            return;
        }
        me.score += datagram.len() as u32; // payload, state ...
        if let Ok(mut out) = cx.io.slot(from, 64) {
            out[..4].copy_from_slice(&me.score.to_be_bytes()); // ... and outbox borrowed together
            let _ = out.commit(4);
        }
        self.round += 1;
        let Ok(snapshot) = cx.io.share(&self.round.to_be_bytes()) else { return };
        for (id, player) in cx.peers.iter_mut() {
            if cx.io.send_shared(id, snapshot).is_err() {
                player.missed += 1;
            }
            if player.missed > 64 {
                cx.io.close(id);
            }
        }
    }
    fn on_timer(&mut self, cx: &mut Context<'_, Self>, Tick::Round: Tick) {
        let at = cx.io.now() + Duration::from_micros(15_625);
        let _ = cx.io.set_timer(at, Tick::Round);
    }
    fn on_message(&mut self, cx: &mut Context<'_, Self>, _: Origin, order: Order) {
        match order {
            Order::Kick(id) => cx.io.close(id),
            Order::NewRound => self.round = 0,
        }
    }
    fn on_closed(&mut self, _: &mut Context<'_, Self>, _: PeerId, gone: Player, _: CloseReason) {
        self.round -= gone.score.min(self.round);
    }
}

/// Client: speaks first.
struct Probe {
    target: SocketAddr,
}

impl Handler for Probe {
    type Peer = u64;
    type Timer = PeerId;
    type Message = ();
    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<u64> {
        Accept::Drop("not asked")
    }
    fn on_start(&mut self, cx: &mut Context<'_, Self>) {
        let Ok(socket) = cx.io.endpoint(Endpoint::towards(self.target)) else { return };
        if let Ok(peer) = cx.open(Via::Endpoint(socket), self.target, 0) {
            let now = cx.io.now();
            let _ = cx.io.set_peer_timer(peer, now, peer);
        }
    }
    fn on_timer(&mut self, cx: &mut Context<'_, Self>, peer: PeerId) {
        if let Some(seq) = cx.peers.get_mut(peer) {
            *seq += 1;
            let _ = cx.io.send(peer, &seq.to_be_bytes());
        }
    }
}

#[test]
fn echo_replies_in_place_to_each_datagram_of_a_train() {
    let mut sim = Sim::new(42);
    sim.link(LinkConfig::new().trains(true));
    let server = sim.server(&[ip("10.0.0.1")], &listening("10.0.0.1:9"), |_| Echo).expect("starts");
    let client = sim.socket(addr("10.0.0.2:5000"));
    sim.send_train(client, addr("10.0.0.1:9"), b"aabbc", 2); // a train of three
    assert!(sim.run_until_quiet(SECOND));
    assert_eq!(payloads(&mut sim, client), [b"aa".to_vec(), b"bb".to_vec(), b"c".to_vec()]);
    assert_eq!(sim.buffers_out(&server), 0, "every receive buffer came back");
}

#[test]
fn an_oracle_answers_without_state() {
    let mut sim = Sim::new(7);
    let config = listening("10.0.0.1:53");
    let server = sim.server(&[ip("10.0.0.1")], &config, |_| Oracle { asked: 0 }).expect("starts");
    let client = sim.socket(addr("10.0.0.2:5000"));
    for query in [&[1, 2, 3][..], &[4], &[]] {
        sim.send(client, addr("10.0.0.1:53"), query);
    }
    assert!(sim.run_until_quiet(SECOND));
    assert_eq!(payloads(&mut sim, client), [vec![0x81], b"copied".to_vec()]);
    let stats = sim.stats(&server);
    assert_eq!((stats.peers_opened, stats.stateless), (0, 2));
    assert_eq!(stats.refused, [("empty", 1)]);
}

#[test]
fn an_arena_fans_out_while_it_walks_its_peers() {
    let mut sim = Sim::new(7);
    let config = listening("10.0.0.1:7777");
    let server = sim
        .server(&[ip("10.0.0.1")], &config, |shard| Arena { round: u32::from(shard.shard) })
        .expect("starts");
    let clients: Vec<_> = (0..3).map(|i| sim.socket(addr(&format!("10.0.0.{}:5000", i + 2)))).collect();
    for client in &clients {
        sim.send(*client, addr("10.0.0.1:7777"), b"join");
    }
    assert!(sim.run_until_quiet(SECOND));
    let got: usize = clients.iter().map(|c| payloads(&mut sim, *c).len()).sum();
    assert_eq!(got, 3 + 1 + 2 + 3);
    assert_eq!(server.tell(0, Order::NewRound), Ok(()));
    sim.send(clients[0], addr("10.0.0.1:7777"), b"12345678");
    assert!(sim.run_until_quiet(SECOND));
    assert_eq!(payloads(&mut sim, clients[0]), [12_u32.to_be_bytes(), 1_u32.to_be_bytes()]);
    sim.drain(&server, SECOND);
    assert!(sim.run_until_quiet(2 * SECOND));
    assert!(sim.ended(&server).is_some());
    assert_eq!(sim.stats(&server).unaccounted(), 0);
}

#[test]
fn an_arena_gives_strangers_a_cookie() {
    let mut cookies = Vec::new();
    for seed in [7, 7, 8] {
        let mut sim = Sim::new(seed);
        sim.server(&[ip("10.0.0.1")], &listening("10.0.0.1:7777"), |_| Arena { round: 0 }).expect("starts");
        let client = sim.socket(addr("10.0.0.2:5000"));
        sim.send(client, addr("10.0.0.1:7777"), b"let me in");
        assert!(sim.run_until_quiet(SECOND));
        cookies.extend(payloads(&mut sim, client));
    }
    assert_eq!(cookies[0].len(), 16);
    assert_eq!(cookies[0], cookies[1], "the keys come from the seed");
    assert_ne!(cookies[0], cookies[2]);
}

#[test]
fn a_probe_speaks_first() {
    let mut sim = Sim::new(7);
    let target = addr("10.0.0.1:9");
    let listener = sim.socket(target);
    sim.server(&[ip("10.0.0.2")], &Config::new(), move |_| Probe { target }).expect("starts");
    assert!(sim.run_until_quiet(SECOND));
    assert_eq!(payloads(&mut sim, listener), [1_u64.to_be_bytes()]);
}
