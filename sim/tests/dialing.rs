//! Dials by the hundred on a bad network, with names that come, go and move: nothing is lost sight of, and nothing is
//! left behind. And dials one by one, of which it is known what they meet.

mod support;

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use shardgram_conformance::Echo;
use shardgram_core::{
    Accept, AttemptFault, CloseReason, Config, Context, Datagram, Dial, DialError, Endpoint, Handler,
    LookupError, Origin, PeerError, PeerId, SendError,
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
    let six = sim.server(&[ip("fd00::1")], &config, |_| Echo).expect("starts");
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

#[derive(Debug)]
enum Say {
    Redial,
    /// Takes the place of an endpoint that a dial has closed, before the dial can.
    BeQuicker,
    Open,
}

/// Dials one host so many times, greets each of its addresses, and notes what each peer meets.
struct One {
    dial: Dial,
    times: usize,
    quicker: bool,
    met: Rc<RefCell<Vec<Vec<Met>>>>,
}

impl Handler for One {
    type Peer = ();
    type Timer = ();
    type Message = Say;

    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
        panic!("an endpoint of a dial knows no strangers");
    }

    fn on_start(&mut self, cx: &mut Context<'_, Self>) {
        self.met.borrow_mut().resize(self.times, Vec::new());
        for _ in 0..self.times {
            cx.dial(self.dial.clone(), ()).expect("room for a peer");
        }
        assert!(self.met.borrow().iter().all(Vec::is_empty), "nothing is told within the call");
    }

    fn on_message(&mut self, cx: &mut Context<'_, Self>, _: Origin, say: Say) {
        match say {
            Say::Redial => cx.peers.iter().for_each(|(peer, _)| cx.io.redial(peer).expect("it was dialed")),
            Say::BeQuicker => self.quicker = true,
            Say::Open => drop(cx.io.endpoint(Endpoint::bound(addr("0.0.0.0:0")))),
        }
    }

    fn on_turn_end(&mut self, cx: &mut Context<'_, Self>) {
        let waits = |(peer, _): (PeerId, &())| cx.io.path(peer).is_none();
        if self.quicker && cx.peers.iter().any(waits) {
            cx.io.tell(0, Say::Open).expect("room");
            self.quicker = false;
        }
    }

    fn on_attempt(&mut self, cx: &mut Context<'_, Self>, peer: PeerId, remote: SocketAddr) {
        let path = cx.io.path(peer).expect("it has an address");
        assert_eq!((path.remote, path.local.is_ipv4()), (remote, remote.is_ipv4()));
        self.note(peer, Met::Tried(remote));
        cx.io.send(peer, b"hello").expect("room");
    }

    fn on_datagram(&mut self, _: &mut Context<'_, Self>, peer: PeerId, datagram: Datagram<'_>) {
        self.note(peer, Met::Heard(datagram.path().remote));
    }

    fn on_peer_error(&mut self, _: &mut Context<'_, Self>, peer: PeerId, error: PeerError) {
        self.note(peer, Met::Failed(error));
    }

    fn on_closed(&mut self, _: &mut Context<'_, Self>, peer: PeerId, (): (), why: CloseReason) {
        panic!("{peer} was closed: {why:?}");
    }
}

impl One {
    fn note(&self, peer: PeerId, met: Met) {
        self.met.borrow_mut()[peer.slot() as usize].push(met);
    }
}

/// What each peer met since it was asked for last.
struct Notes(Rc<RefCell<Vec<Vec<Met>>>>);

impl Notes {
    fn take(&self) -> Vec<Vec<Met>> {
        self.0.borrow_mut().iter_mut().map(std::mem::take).collect()
    }
}

/// A host that dials this so many times, from 10.0.0.2 and fd00::2.
fn dialing(sim: &mut Sim, config: &Config, dial: &Dial, times: usize) -> (NodeId<Say>, Notes) {
    let met = Rc::new(RefCell::new(Vec::new()));
    let (dial, kept) = (dial.clone(), Rc::clone(&met));
    let make = move |_| One { dial: dial.clone(), times, quicker: false, met: Rc::clone(&kept) };
    (sim.server(&[ip("10.0.0.2"), ip("fd00::2")], config, make).expect("starts"), Notes(met))
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
        let (node, met) = dialing(&mut sim, &Config::new().broadcast(true), &dial, 1);
        sim.run_for(SECOND);
        let none = Met::Failed(PeerError::Unresolved { why: LookupError::NoAddress });
        assert_eq!(met.take(), [[none]], "{host}");
        // So it is told as often as it is asked.
        assert!(node.tell(0, Say::Redial).is_ok());
        assert!(sim.run_until_quiet(SECOND), "{host}");
        assert_eq!(met.take(), [[none]], "{host}");
        let stats = sim.stats(&node);
        assert_eq!((stats.attempts, stats.lookups_failed, stats.peers()), (0, 0, 1), "{host}");
    }
}

/// A host whose IPv6 address, which is its first, leads nowhere.
fn half_reachable(sim: &mut Sim) -> Dial {
    echo(sim, &listening("10.0.0.1:7"));
    sim.name("half.test", Ok(vec![ip("fd00::9"), ip("10.0.0.1"), ip("fd00::8")]), Duration::ZERO);
    Dial::to("half.test", 7).expect("a host").try_for(Duration::from_millis(100))
}

#[test]
fn the_other_family_is_tried_where_there_is_an_endpoint_for_each_dial_and_no_more() {
    for times in [1, 20] {
        let mut sim = Sim::new(1);
        let dial = half_reachable(&mut sim);
        let (node, met) = dialing(&mut sim, &Config::new().max_endpoints(times), &dial, times as usize);
        let [nowhere, there] = [addr("[fd00::9]:7"), addr("10.0.0.1:7")];
        let want = vec![[Met::Tried(nowhere), Met::Tried(there), Met::Heard(there)]; times as usize];
        assert!(sim.run_until_quiet(5 * SECOND));
        assert_eq!(met.take(), want);
        // Now they have to give IPv4 up for IPv6, and IPv6 for IPv4 again.
        assert!(node.tell(0, Say::Redial).is_ok());
        assert!(sim.run_until_quiet(5 * SECOND));
        assert_eq!(met.take(), want);
        let stats = sim.stats(&node);
        let times = u64::from(times);
        assert_eq!((stats.attempts, stats.attempts_failed, stats.peers()), (4 * times, 2 * times, times));
    }
}

#[test]
fn an_endpoint_that_could_not_be_opened_makes_room_for_the_next() {
    let mut sim = Sim::new(1);
    let from = Endpoint::bound(addr("10.77.7.7:0"));
    sim.name("many.test", Ok(vec![ip("10.0.0.1"), ip("10.0.0.3"), ip("10.0.0.4")]), Duration::ZERO);
    let dial = Dial::to("many.test", 7).expect("a host").endpoint(from);
    let (node, met) = dialing(&mut sim, &Config::new().max_endpoints(1), &dial, 1);
    assert!(sim.run_until_quiet(SECOND));
    let met = &met.take()[0];
    let tried = ["10.0.0.1:7", "10.0.0.3:7", "10.0.0.4:7"].map(|remote| Met::Tried(addr(remote)));
    assert_eq!(met[..3], tried);
    let Met::Failed(PeerError::NoAnswer { addresses: 3, last: AttemptFault::NotOpened { .. } }) = met[3]
    else {
        panic!("{met:?}")
    };
    assert_eq!(met.len(), 4);
    let stats = sim.stats(&node);
    assert_eq!((stats.attempts, stats.attempts_failed), (3, 3));
}

#[test]
fn a_dial_whose_place_was_taken_comes_to_an_end() {
    let mut sim = Sim::new(1);
    let dial = half_reachable(&mut sim);
    let (node, met) = dialing(&mut sim, &Config::new().max_endpoints(1), &dial, 1);
    sim.run_for(Duration::from_millis(50));
    assert!(node.tell(0, Say::BeQuicker).is_ok());
    assert!(sim.run_until_quiet(SECOND));
    let last = AttemptFault::NoEndpoint;
    let want = [Met::Tried(addr("[fd00::9]:7")), Met::Failed(PeerError::NoAnswer { addresses: 3, last })];
    assert_eq!(met.take(), [want]);
    let stats = sim.stats(&node);
    assert_eq!((stats.attempts, stats.attempts_failed, stats.peers()), (3, 3, 1));
}
