//! An hour in seconds: 200 clients of four servers that are each other's clients, with faults all along.

mod support;

use std::cell::Cell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use shardgram_core::{
    Accept, CloseReason, Config, Context, Datagram, Endpoint, Handler, PeerId, TierPolicy, Via,
};
use shardgram_sim::{Flood, LinkConfig, NatConfig, NodeId, Sim};
use support::{SECOND, ip};

const SERVERS: u8 = 4;
const CLIENTS: u8 = 200;
const HOUR: Duration = Duration::from_secs(3_600);
/// How often a client shows that it is there, and how often a server asks its neighbour.
const KEEPALIVE: Duration = Duration::from_secs(15);
const GOSSIP: Duration = Duration::from_secs(5);

fn server_ip(n: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, n])
}

fn server_addr(n: u8) -> SocketAddr {
    SocketAddr::new(server_ip(n), 7_000)
}

fn client_ip(n: u8) -> IpAddr {
    IpAddr::from([10, 0, 1, n])
}

/// What all handlers count together.
#[derive(Default)]
struct Tally {
    answers: Cell<u64>,
    gossip: Cell<u64>,
    moved: Cell<u64>,
}

fn one_more(counter: &Cell<u64>) {
    counter.set(counter.get() + 1);
}

/// Answers keepalives, and asks its neighbour how it does from a socket of its own.
struct Server {
    tally: Rc<Tally>,
    neighbour: SocketAddr,
    asks: bool,
}

impl Handler for Server {
    type Peer = ();
    /// Ask the neighbour.
    type Timer = PeerId;
    type Message = ();

    fn accept(&mut self, _: &mut Context<'_, Self>, first: &mut Datagram<'_>) -> Accept<()> {
        match first.first() {
            Some(b'k' | b'g') => Accept::Peer(()),
            _ => Accept::Drop("noise"),
        }
    }

    fn on_start(&mut self, cx: &mut Context<'_, Self>) {
        if self.asks {
            let socket = cx.io.endpoint(Endpoint::towards(self.neighbour)).expect("room");
            let peer = cx.open(Via::Endpoint(socket), self.neighbour, ()).expect("open");
            let _ = cx.io.set_timer(cx.io.now() + GOSSIP, peer);
        }
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, _: PeerId, mut datagram: Datagram<'_>) {
        match datagram[0] {
            b'k' | b'g' => {
                datagram[0] = datagram[0].to_ascii_uppercase();
                let len = datagram.len();
                let _ = cx.io.reply(datagram, len);
            }
            _ => one_more(&self.tally.gossip),
        }
    }

    fn on_timer(&mut self, cx: &mut Context<'_, Self>, peer: PeerId) {
        let _ = cx.io.send(peer, b"gossip");
        let _ = cx.io.set_timer(cx.io.now() + GOSSIP, peer);
    }

    fn on_closed(&mut self, cx: &mut Context<'_, Self>, peer: PeerId, (): (), why: CloseReason) {
        // The neighbour was not heard of for long: it may be again.
        if why == CloseReason::Idle && self.asks && cx.io.path(peer).is_none() {
            one_more(&self.tally.moved);
        }
    }
}

/// Shows a server that it is there, and goes to the next one when it is not answered.
struct Client {
    tally: Rc<Tally>,
    server: u8,
    unanswered: u32,
}

impl Client {
    fn go_on(&self, cx: &mut Context<'_, Self>) {
        let at = server_addr(self.server);
        let socket = cx.io.endpoint(Endpoint::towards(at)).expect("room");
        let peer = cx.open(Via::Endpoint(socket), at, ()).expect("open");
        let _ = cx.io.set_timer(cx.io.now() + KEEPALIVE / 15 * u32::from(1 + self.server), peer);
    }
}

impl Handler for Client {
    type Peer = ();
    type Timer = PeerId;
    type Message = ();

    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
        Accept::Drop("not asked")
    }

    fn on_start(&mut self, cx: &mut Context<'_, Self>) {
        self.go_on(cx);
    }

    fn on_datagram(&mut self, _: &mut Context<'_, Self>, _: PeerId, datagram: Datagram<'_>) {
        assert_eq!(datagram[0], b'K');
        self.unanswered = 0;
        one_more(&self.tally.answers);
    }

    fn on_timer(&mut self, cx: &mut Context<'_, Self>, peer: PeerId) {
        self.unanswered += 1;
        if self.unanswered > 3 {
            self.unanswered = 0;
            self.server = 1 + self.server % SERVERS;
            one_more(&self.tally.moved);
            // Closing the peer alone would keep its socket.
            cx.io.close(peer);
            return self.go_on(cx);
        }
        let _ = cx.io.send(peer, b"keepalive");
        let _ = cx.io.set_timer(cx.io.now() + KEEPALIVE, peer);
    }
}

struct World {
    sim: Sim,
    tally: Rc<Tally>,
    servers: Vec<NodeId<()>>,
    clients: Vec<NodeId<()>>,
}

fn world(seed: u64) -> World {
    let mut sim = Sim::new(seed);
    let tally = Rc::new(Tally::default());
    let link =
        LinkConfig::new().delay(Duration::from_millis(20)).and_then(|l| l.jitter(Duration::from_millis(10)));
    let link = link.and_then(|l| l.loss(0.02)).and_then(|l| l.duplication(0.01)).expect("in range");
    sim.link(link);
    sim.mis_steer(0.05).expect("in range");
    let servers = (1..=SERVERS).map(|n| {
        let tier = if n % 2 == 0 { TierPolicy::Connected } else { TierPolicy::Listener };
        let config = Config::new().listen(server_addr(n)).shards(2).tier(tier).max_peers(2_000);
        let (tally, neighbour) = (Rc::clone(&tally), server_addr(1 + n % SERVERS));
        let make = move |info: shardgram_core::ShardInfo| Server {
            tally: Rc::clone(&tally),
            neighbour,
            asks: info.shard == 0,
        };
        sim.server(&[server_ip(n)], &config, make).expect("starts")
    });
    let servers = servers.collect();
    let config = || Config::new().max_peers(16).max_timers(16).max_endpoints(64);
    let clients = (1..=CLIENTS).map(|n| {
        let tally = Rc::clone(&tally);
        let make = move |_| Client { tally: Rc::clone(&tally), server: 1 + n % SERVERS, unanswered: 0 };
        sim.server(&[client_ip(n)], &config(), make).expect("starts")
    });
    let clients = clients.collect();
    World { sim, tally, servers, clients }
}

/// Something goes wrong every few minutes.
fn trouble(sim: &mut Sim) {
    let minutes = |n: u64| Duration::from_secs(60 * n);
    let half: Vec<_> = (1..=100).map(client_ip).collect();
    sim.at(minutes(5), move |sim| {
        let split = sim.partition(&half, &[server_ip(1), server_ip(2)]);
        sim.after(minutes(5), move |sim| assert!(sim.heal(split)));
    });
    let behind: Vec<_> = (101..=150).map(client_ip).collect();
    let nat = sim.nat(NatConfig::new(ip("203.0.113.1"), &behind));
    for n in 1..6 {
        sim.at(minutes(10 * n), move |sim| sim.nat_rebind(nat));
    }
    sim.at(minutes(20), |sim| {
        let noise = |n: u64| vec![b'x'; (n % 64) as usize];
        sim.flood(Flood::new(server_addr(3), 500).expect("in range").count(30_000).payload(noise));
    });
    sim.at(minutes(30), |sim| sim.uplink(server_ip(4), Some(500)).expect("in range"));
    sim.at(minutes(35), |sim| sim.uplink(server_ip(4), None).expect("in range"));
    sim.at(minutes(40), |sim| {
        let down = LinkConfig::new().unreachable(true);
        (1..=50).for_each(|n| sim.link_between(server_ip(2), client_ip(n), down));
    });
}

fn an_hour(seed: u64) -> (u64, u64) {
    let World { mut sim, tally, servers, clients } = world(seed);
    trouble(&mut sim);
    sim.run_for(HOUR);
    for node in servers.iter().chain(&clients) {
        let stats = sim.stats(node);
        assert_eq!(
            (stats.unaccounted(), sim.buffers_out(node), stats.restarts),
            (0, 0, 0),
            "seed {seed}: {stats:?}"
        );
        // Nobody polls: there are a few turns for each datagram and timer, and for the searches for idle peers.
        let reasons = stats.received + stats.timers_fired + stats.submitted + stats.promoted;
        assert!(stats.turns < 2 * reasons + 12_000, "seed {seed}: {stats:?}");
    }
    assert_eq!(sim.counts().unaccounted(), 0, "seed {seed}");
    // 240 keepalives each, less what was lost or sent during the partitions.
    let all = u64::from(CLIENTS) * HOUR.as_secs() / KEEPALIVE.as_secs();
    let answers = tally.answers.get();
    assert!(answers > all * 8 / 10 && answers < all * 11 / 10, "seed {seed}: {answers} of {all}");
    assert!(tally.gossip.get() > 1_000 && tally.moved.get() > 50, "seed {seed}: {}", tally.moved.get());
    for node in &servers {
        sim.drain(node, SECOND);
    }
    sim.run_for(2 * SECOND);
    assert!(servers.iter().all(|node| sim.ended(node).is_some()), "seed {seed}");
    (sim.log_hash(), sim.events())
}

#[test]
fn two_hundred_clients_for_an_hour() {
    let (first, events) = an_hour(1);
    assert!(events > 200_000, "{events}");
    assert_eq!(an_hour(1), (first, events));
}
