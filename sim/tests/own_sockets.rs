//! Peers with sockets of their own: nothing is lost or overtakes when they get them and when they lose them, caps
//! hold, and what a system without descriptors refuses stays with the listener.

mod support;

use std::time::Duration;

use shardgram_core::{
    Accept, CloseReason, Config, Context, Datagram, Drain, Handler, Origin, PeerId, Tier, TierPolicy,
};
use shardgram_sim::{Sim, SocketKey};
use support::{SECOND, addr, ip, listening};

/// Sees to it that the numbers of each peer rise, and does to its peers what it is told.
#[derive(Default)]
struct Watch {
    peers: Vec<PeerId>,
    turns: u64,
    /// Put the peers from tier to tier every few turns.
    restless: bool,
}

#[derive(Clone, Copy, Debug)]
enum Order {
    Promote,
    Demote,
    Close,
    Rest,
}

#[derive(Default)]
struct Flow {
    next: u32,
    came: u32,
}

impl Handler for Watch {
    type Peer = Flow;
    type Timer = ();
    type Message = Order;

    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<Flow> {
        Accept::Peer(Flow::default())
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, from: PeerId, datagram: Datagram<'_>) {
        let number = u32::from_be_bytes(datagram[..4].try_into().expect("a number"));
        let flow = cx.peers.get_mut(from).expect("it is there");
        assert!(number >= flow.next, "{from}: {number} after {}", flow.next);
        flow.next = number + 1;
        if flow.came == 0 {
            self.peers.push(from);
        }
        flow.came += 1;
        let len = datagram.len();
        let _ = cx.io.reply(datagram, len);
    }

    fn on_turn_end(&mut self, cx: &mut Context<'_, Self>) {
        self.turns += 1;
        for (n, peer) in self.peers.iter().enumerate().filter(|_| self.restless) {
            match cx.io.tier(*peer) {
                Some(Tier::Listener) => cx.io.promote(*peer),
                Some(Tier::Connected) if (self.turns + n as u64).is_multiple_of(3 + n as u64 % 5) => {
                    cx.io.demote(*peer);
                }
                _ => {}
            }
        }
    }

    fn on_message(&mut self, cx: &mut Context<'_, Self>, _: Origin, order: Order) {
        self.restless &= !matches!(order, Order::Rest);
        for peer in &self.peers {
            match order {
                Order::Rest => {}
                Order::Promote => cx.io.promote(*peer),
                Order::Demote => cx.io.demote(*peer),
                Order::Close => cx.io.close(*peer),
            }
        }
    }

    fn on_closed(&mut self, _: &mut Context<'_, Self>, peer: PeerId, _: Flow, _: CloseReason) {
        self.peers.retain(|known| *known != peer);
    }

    fn on_drain(&mut self, _: &mut Context<'_, Self>, _: std::time::Instant) -> Drain {
        Drain::WhenIdle
    }
}

fn clients(sim: &mut Sim, count: u16) -> Vec<SocketKey> {
    (0..count).map(|n| sim.socket(addr(&format!("10.0.1.{}:{}", 1 + n % 200, 5_000 + n)))).collect()
}

fn server_at() -> Config {
    listening("10.0.0.1:7").receive_socket_bytes(4 << 20)
}

/// What comes for a peer while it moves is handed over in order, however much its listener still holds.
#[test]
fn order_holds_there_and_back() {
    for seed in 0..50 {
        let mut sim = Sim::new(seed);
        // One datagram a turn, so that much waits at the listener, and then in the peers' sockets.
        let config = server_at().turn_budget(1);
        let server = sim.server(&[ip("10.0.0.1")], &config, |_| Watch::default()).expect("starts");
        let clients = clients(&mut sim, 3);
        let mut number = 0;
        let mut send = |sim: &mut Sim, count| {
            for _ in 0..count {
                clients.iter().for_each(|c| sim.send(*c, addr("10.0.0.1:7"), &u32::to_be_bytes(number)));
                number += 1;
            }
        };
        send(&mut sim, 40);
        for order in [Order::Promote, Order::Demote, Order::Promote] {
            sim.run_for(Duration::from_micros(80));
            send(&mut sim, 30);
            server.tell(0, order).expect("room");
            sim.run_for(Duration::from_micros(2));
            send(&mut sim, 30);
        }
        assert!(sim.run_until_quiet(SECOND), "seed {seed}");
        let stats = sim.stats(&server);
        assert_eq!((stats.received, stats.delivered), (660, 660), "seed {seed}: {stats:?}");
        assert_eq!((stats.promoted, stats.demoted, stats.connected()), (6, 3, 3), "seed {seed}");
        assert_eq!((stats.redispatched, stats.dropped_closed, stats.peers_opened), (0, 0, 3));
        assert_eq!((stats.unaccounted(), sim.buffers_out(&server)), (0, 0), "seed {seed}");
    }
}

/// Peers that go to and fro while sends wait: nothing is lost and each peer is one peer.
#[test]
fn restless_peers_lose_nothing() {
    for seed in 0..20 {
        let mut sim = Sim::new(seed);
        sim.uplink(ip("10.0.0.1"), Some(20_000_000)).expect("in range");
        let config = server_at().shards(3).send_socket_bytes(32 << 10);
        let make = |_| Watch { restless: true, ..Watch::default() };
        let server = sim.server(&[ip("10.0.0.1")], &config, make).expect("starts");
        let clients = clients(&mut sim, 40);
        for number in 0..300_u32 {
            clients.iter().for_each(|client| sim.send(*client, addr("10.0.0.1:7"), &number.to_be_bytes()));
            sim.run_for(Duration::from_micros(50));
        }
        (0..3).for_each(|shard| server.tell(shard, Order::Rest).expect("room"));
        assert!(sim.run_until_quiet(10 * SECOND), "seed {seed}");
        let stats = sim.stats(&server);
        assert_eq!((stats.received, stats.delivered), (12_000, 12_000), "seed {seed}: {stats:?}");
        assert!(stats.demoted > 1_000, "seed {seed}: {stats:?}");
        assert_eq!((stats.peers_opened, stats.unaccounted(), sim.buffers_out(&server)), (40, 0, 0));
        let echoed: usize = clients.iter().map(|c| support::all(&mut sim, *c).len()).sum();
        assert_eq!(echoed, 12_000, "seed {seed}: {stats:?}");
        sim.drain(&server, SECOND);
        assert!(sim.run_until_quiet(10 * SECOND));
        assert!(sim.ended(&server).is_some(), "seed {seed}");
        assert_eq!(sim.stats(&server).connected(), 0);
    }
}

#[test]
fn caps_hold_and_the_silent_give_way() {
    let mut sim = Sim::new(1);
    let config = server_at().shards(2).max_connected(6).tier(TierPolicy::Connected);
    let server = sim.server(&[ip("10.0.0.1")], &config, |_| Watch::default()).expect("starts");
    let clients = clients(&mut sim, 40);
    for round in 0..20_u32 {
        for client in &clients {
            sim.send(*client, addr("10.0.0.1:7"), &round.to_be_bytes());
            sim.run_for(Duration::from_millis(7));
            let stats = [0, 1].map(|shard| sim.shard_stats(&server, shard).connected());
            assert!(stats.iter().all(|connected| *connected <= 3), "{stats:?}");
        }
    }
    let stats = sim.stats(&server);
    assert_eq!((stats.connected(), stats.delivered), (6, 800), "{stats:?}");
    assert!(stats.promoted > 20, "{stats:?}");
    let nobody = server_at().max_connected(0);
    let other = nobody.listen(addr("10.0.0.1:8"));
    let mut sim = Sim::new(1);
    let server = sim.server(&[ip("10.0.0.1")], &other, |_| Watch::default()).expect("starts");
    let client = sim.socket(addr("10.0.1.1:5000"));
    sim.send(client, addr("10.0.0.1:8"), &[0; 4]);
    assert!(sim.run_until_quiet(SECOND));
    server.tell(0, Order::Promote).expect("room");
    assert!(sim.run_until_quiet(SECOND));
    assert_eq!((sim.stats(&server).promoted, sim.stats(&server).promotions_refused), (0, 1));
}

#[test]
fn without_descriptors_peers_stay_with_the_listener() {
    let mut sim = Sim::new(2);
    sim.refuse_sockets(1.0).expect("in range");
    let config = server_at().tier(TierPolicy::Connected);
    let server = sim.server(&[ip("10.0.0.1")], &config, |_| Watch::default()).expect("starts");
    let client = sim.socket(addr("10.0.1.1:5000"));
    let send = |sim: &mut Sim, number: u32| {
        sim.send(client, addr("10.0.0.1:7"), &number.to_be_bytes());
        assert!(sim.run_until_quiet(3 * SECOND));
    };
    send(&mut sim, 0);
    send(&mut sim, 1);
    let stats = sim.stats(&server);
    assert_eq!((stats.promotions_failed, stats.promoted, stats.delivered), (1, 0, 2), "{stats:?}");
    sim.refuse_sockets(0.0).expect("in range");
    sim.run_for(2 * SECOND);
    server.tell(0, Order::Promote).expect("room");
    send(&mut sim, 2);
    assert_eq!((sim.stats(&server).promoted, sim.stats(&server).delivered), (1, 3));
}

#[test]
fn its_own_buffer_overflows_alone() {
    let mut sim = Sim::new(3);
    let config = listening("10.0.0.1:7").receive_socket_bytes(16 << 10).tier(TierPolicy::Connected);
    let server = sim.server(&[ip("10.0.0.1")], &config, |_| Watch::default()).expect("starts");
    let clients = clients(&mut sim, 2);
    for client in &clients {
        sim.send(*client, addr("10.0.0.1:7"), &0_u32.to_be_bytes());
        assert!(sim.run_until_quiet(SECOND));
    }
    // They arrive at once: 16 of 512 bytes fit, each charged with as much again.
    let mut bytes = [0; 512];
    for number in 1..=100_u32 {
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        sim.send(clients[0], addr("10.0.0.1:7"), &bytes);
    }
    sim.send(clients[1], addr("10.0.0.1:7"), &1_u32.to_be_bytes());
    assert!(sim.run_until_quiet(SECOND));
    sim.refresh(&server);
    let stats = sim.stats(&server);
    assert_eq!((stats.delivered, stats.kernel_dropped), (2 + 16 + 1, 84), "{stats:?}");
    assert_eq!((sim.counts().overflowed, sim.counts().unaccounted()), (84, 0));
}

/// A peer that is closed and comes back while its last socket goes is a new peer, and gets a new socket.
#[test]
fn a_peer_that_comes_back_at_once() {
    let mut sim = Sim::new(4);
    let config = server_at().tier(TierPolicy::Connected);
    let server = sim.server(&[ip("10.0.0.1")], &config, |_| Watch::default()).expect("starts");
    let client = sim.socket(addr("10.0.1.1:5000"));
    for _ in 0..50 {
        sim.send(client, addr("10.0.0.1:7"), &0_u32.to_be_bytes());
        sim.run_for(Duration::from_micros(53));
        server.tell(0, Order::Close).expect("room");
        sim.run_for(Duration::from_micros(5));
    }
    assert!(sim.run_until_quiet(SECOND));
    let stats = sim.stats(&server);
    let lost = stats.dropped_closed;
    assert_eq!(stats.delivered + lost, 50, "{stats:?}");
    assert_eq!((stats.peers(), stats.connected(), stats.unaccounted()), (0, 0, 0), "{stats:?}");
    assert!(stats.promoted > 1 && stats.peers_opened > 25, "{stats:?}");
}
