//! Dials by the hundred on a bad network, with names that come, go and move: nothing is lost sight of, and nothing is
//! left behind. And dials one by one, of which it is known what they meet.

mod support;

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use shardgram_core::{
    Accept, CloseReason, Config, Context, Datagram, Dial, DialError, Endpoint, Handler, LookupError, Origin,
    PeerError, PeerId, SendError,
};
use shardgram_sim::{LinkConfig, NodeId, Sim};
use support::{SECOND, addr, echo, ip, listening};

const PEERS: usize = 40;
const NAMES: u32 = 6;

/// What a peer waits for, so that a call for anything else is found out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Now {
    LookedUp,
    Tried(SocketAddr),
    Settled,
    Failed,
}

enum Order {
    Dial(u32),
    Redial(u32),
    Close(u32),
    CloseAll,
    /// Opens as many endpoints as there is room for.
    Fill,
}

struct Client {
    seed: u64,
    filled: Rc<Cell<u32>>,
}

impl Client {
    fn nth(cx: &Context<'_, Self>, n: u32) -> Option<PeerId> {
        let all: Vec<_> = cx.peers.iter().map(|(peer, _)| peer).collect();
        (!all.is_empty()).then(|| all[n as usize % all.len()])
    }

    fn dial(&self, cx: &mut Context<'_, Self>, n: u32) {
        let host =
            if n.is_multiple_of(7) { "10.0.0.1".to_owned() } else { format!("host{}.test", n % NAMES) };
        let dial = Dial::to(&host, 7).expect("a host").try_for(Duration::from_millis(10 + u64::from(n % 50)));
        match cx.dial(dial.look_up_within(Duration::from_millis(20)), Now::LookedUp) {
            Ok(_) | Err(DialError::LookupsFull | DialError::TableFull) => {}
            Err(other) => panic!("seed {}: {other}", self.seed),
        }
    }
}

impl Handler for Client {
    type Peer = Now;
    type Timer = ();
    type Message = Order;

    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<Now> {
        panic!("seed {}: an endpoint of a dial knows no strangers", self.seed);
    }

    fn on_message(&mut self, cx: &mut Context<'_, Self>, _: Origin, order: Order) {
        match order {
            Order::Dial(n) => self.dial(cx, n),
            Order::Redial(n) => {
                if let Some(peer) = Self::nth(cx, n)
                    && cx.io.redial(peer).is_ok()
                    && let Some(now) = cx.peers.get_mut(peer)
                {
                    *now = Now::LookedUp;
                }
            }
            Order::Close(n) => Self::nth(cx, n).into_iter().for_each(|peer| cx.io.close(peer)),
            Order::Fill => {
                let any = || Endpoint::bound(addr("0.0.0.0:0"));
                while cx.io.endpoint(any()).is_ok() {
                    self.filled.set(self.filled.get() + 1);
                }
            }
            Order::CloseAll => cx.peers.iter().for_each(|(peer, _)| cx.io.close(peer)),
        }
    }

    fn on_attempt(&mut self, cx: &mut Context<'_, Self>, peer: PeerId, remote: SocketAddr) {
        let now = cx.peers.get_mut(peer).expect("it is there");
        assert!(matches!(now, Now::LookedUp | Now::Tried(_)), "seed {}: {now:?}", self.seed);
        *now = Now::Tried(remote);
        assert_eq!(cx.io.path(peer).map(|path| path.remote), Some(remote));
        cx.io.send(peer, &remote.port().to_be_bytes()).expect("room");
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, peer: PeerId, datagram: Datagram<'_>) {
        let now = cx.peers.get_mut(peer).expect("it is there");
        if let Now::Tried(remote) = *now {
            assert_eq!(datagram.path().remote, remote, "seed {}: it answers who was asked", self.seed);
            *now = Now::Settled;
        }
    }

    fn on_peer_error(&mut self, cx: &mut Context<'_, Self>, peer: PeerId, error: PeerError) {
        let now = cx.peers.get_mut(peer).expect("it is there");
        match error {
            PeerError::Unresolved { .. } => assert_eq!(*now, Now::LookedUp, "seed {}", self.seed),
            PeerError::NoAnswer { .. } => {
                assert!(matches!(now, Now::Tried(_)), "seed {}: {now:?}", self.seed);
            }
            other => panic!("seed {}: {other}", self.seed),
        }
        *now = Now::Failed;
        match cx.io.send(peer, b"?") {
            Ok(()) | Err(SendError::NoAddress) => {}
            Err(other) => panic!("seed {}: {other}", self.seed),
        }
    }

    fn on_closed(&mut self, _: &mut Context<'_, Self>, _: PeerId, _: Now, why: CloseReason) {
        assert_eq!(why, CloseReason::Asked, "seed {}", self.seed);
    }
}

/// Whom a name stands for at the moment.
fn addresses(n: u32) -> Result<Vec<IpAddr>, LookupError> {
    match n % 5 {
        0 => Err(LookupError::NotFound),
        1 => Ok(vec![ip("10.9.9.9"), ip("10.0.0.1")]),
        2 => Ok(vec![ip("fd00::9"), ip("10.0.0.1"), ip("fd00::1")]),
        3 => Ok(vec![ip("10.9.9.9"), ip("10.9.9.8")]),
        _ => Ok(vec![ip("fd00::1")]),
    }
}

fn round(seed: u64) {
    let mut sim = Sim::new(seed);
    let link = LinkConfig::new().loss(0.2).and_then(|link| link.delay(Duration::from_millis(3)));
    sim.link(link.expect("in range"));
    let four = echo(&mut sim, &listening("10.0.0.1:7").shards(2));
    let config = Config::new().listen(addr("[fd00::1]:7"));
    let six = sim.server(&[ip("fd00::1")], &config, |_| support::Echo).expect("starts");
    let limits = Config::new().max_peers(PEERS as u32).max_lookups(16).max_endpoints(2 * PEERS as u32);
    let filled = Rc::new(Cell::new(0));
    let kept = Rc::clone(&filled);
    let make = move |_| Client { seed, filled: Rc::clone(&kept) };
    let client = sim.server(&[ip("10.0.0.2"), ip("fd00::2")], &limits, make).expect("starts");
    let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut draw = |below: u32| {
        x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (x >> 33) as u32 % below
    };
    for _ in 0..600 {
        let (what, n) = (draw(10), draw(1_000));
        let order = match what {
            0..=4 => Order::Dial(n),
            5 | 6 => Order::Redial(n),
            7 => Order::Close(n),
            _ => {
                let takes = Duration::from_millis(u64::from(draw(30)));
                sim.name(&format!("host{}.test", n % NAMES), addresses(draw(5)), takes);
                continue;
            }
        };
        assert!(client.tell(0, order).is_ok(), "seed {seed}");
        sim.run_for(Duration::from_micros(u64::from(draw(8_000))));
    }
    sim.run_for(5 * SECOND);
    let stats = sim.stats(&client);
    assert!(
        stats.lookups_stale > 0 && stats.lookups_failed > 0 && stats.attempts_failed > 0,
        "seed {seed}: {stats:?}"
    );
    assert!(stats.delivered > 0, "seed {seed}: some are answered");
    assert!(client.tell(0, Order::CloseAll).is_ok());
    assert!(sim.run_until_quiet(5 * SECOND), "seed {seed}: it comes to rest");
    let stats = sim.stats(&client);
    assert_eq!((stats.peers(), stats.restarts, stats.unaccounted()), (0, 0, 0), "seed {seed}");
    for server in [&four, &six] {
        assert_eq!(sim.stats(server).unaccounted(), 0, "seed {seed}");
    }
    assert!(client.tell(0, Order::Fill).is_ok());
    sim.run_for(SECOND);
    assert_eq!(filled.get(), 2 * PEERS as u32, "seed {seed}: every endpoint of a dial is closed");
}

#[test]
fn nothing_is_left_behind() {
    let seeds = match std::env::var("SHARDGRAM_SEED") {
        Ok(seed) => vec![seed.parse().expect("a number")],
        Err(_) => (1..=20).collect(),
    };
    for seed in seeds {
        round(seed);
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Met {
    Tried(SocketAddr),
    Heard(SocketAddr),
    Failed(PeerError),
}

/// Dials one host, greets each of its addresses, and notes what the peer meets.
struct One {
    dial: Dial,
    met: Rc<RefCell<Vec<Met>>>,
}

impl Handler for One {
    type Peer = ();
    type Timer = ();
    type Message = ();

    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
        panic!("an endpoint of a dial knows no strangers");
    }

    fn on_start(&mut self, cx: &mut Context<'_, Self>) {
        cx.dial(self.dial.clone(), ()).expect("room for a peer");
        assert!(self.met.borrow().is_empty(), "nothing is told within the call");
    }

    fn on_message(&mut self, cx: &mut Context<'_, Self>, _: Origin, (): ()) {
        let peer = cx.peers.iter().next().expect("it is there").0;
        cx.io.redial(peer).expect("it was dialed");
    }

    fn on_attempt(&mut self, cx: &mut Context<'_, Self>, peer: PeerId, remote: SocketAddr) {
        let path = cx.io.path(peer).expect("it has an address");
        assert_eq!((path.remote, path.local.is_ipv4()), (remote, remote.is_ipv4()));
        self.met.borrow_mut().push(Met::Tried(remote));
        cx.io.send(peer, b"hello").expect("room");
    }

    fn on_datagram(&mut self, _: &mut Context<'_, Self>, _: PeerId, datagram: Datagram<'_>) {
        self.met.borrow_mut().push(Met::Heard(datagram.path().remote));
    }

    fn on_peer_error(&mut self, _: &mut Context<'_, Self>, _: PeerId, error: PeerError) {
        self.met.borrow_mut().push(Met::Failed(error));
    }
}

/// A host that dials this, from 10.0.0.2 and fd00::2.
fn dialing(sim: &mut Sim, config: &Config, dial: &Dial) -> (NodeId<()>, Rc<RefCell<Vec<Met>>>) {
    let met = Rc::new(RefCell::new(Vec::new()));
    let (dial, kept) = (dial.clone(), Rc::clone(&met));
    let make = move |_| One { dial: dial.clone(), met: Rc::clone(&kept) };
    (sim.server(&[ip("10.0.0.2"), ip("fd00::2")], config, make).expect("starts"), met)
}

#[test]
fn an_address_that_cannot_be_written_to_is_told_as_a_name_without_one_is() {
    let (any, four, six) = (None, Some("10.0.0.2:0"), Some("[fd00::2]:0"));
    for (host, from) in [
        ("0.0.0.0", any),
        ("::", any),
        ("224.0.0.1", any),
        ("ff02::1", any),
        ("255.255.255.255", any),
        ("10.0.0.1", six),
        ("::ffff:10.0.0.1", six),
        ("fd00::1", four),
    ] {
        let mut sim = Sim::new(1);
        let mut dial = Dial::to(host, 7).expect("a host");
        if let Some(from) = from {
            dial = dial.endpoint(Endpoint::bound(addr(from)));
        }
        let (node, met) = dialing(&mut sim, &Config::new().broadcast(true), &dial);
        sim.run_for(SECOND);
        let none = Met::Failed(PeerError::Unresolved { why: LookupError::NoAddress });
        assert_eq!(*met.borrow(), [none], "{host}");
        // So it is told as often as it is asked.
        assert!(node.tell(0, ()).is_ok());
        assert!(sim.run_until_quiet(SECOND), "{host}");
        assert_eq!(*met.borrow(), [none; 2], "{host}");
        let stats = sim.stats(&node);
        assert_eq!((stats.attempts, stats.lookups_failed, stats.peers()), (0, 0, 1), "{host}");
    }
}
