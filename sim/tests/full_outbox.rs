//! Callbacks that fill the outbox of a turn: each kind has its turn, what is held back is not lost, and what needs more
//! than half of the outbox is learned.

mod support;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use shardgram_core::{
    Accept, Bound, CloseReason, Config, Context, Datagram, Drain, Endpoint, EndpointId, Handler, Origin,
    PeerId, SendError, Via,
};
use shardgram_sim::{LinkConfig, NodeId, Sim};
use support::{SECOND, addr, ip, listening, payloads};

/// What was called, in order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Called {
    Datagram,
    Message,
    Timer,
    TurnEnd,
    Refused(Bound),
}

type Calls = Rc<RefCell<Vec<Called>>>;

/// Sends so many datagrams in each callback.
struct Greedy {
    calls: Calls,
    /// For each datagram, message and timer.
    each: u32,
    /// For a datagram that begins so.
    large: (u8, u32),
    turn_end: u32,
    peer: Option<PeerId>,
}

impl Greedy {
    fn send(&self, cx: &mut Context<'_, Self>, called: Called, count: u32) {
        self.calls.borrow_mut().push(called);
        let Some(peer) = self.peer else { return };
        for _ in 0..count {
            match cx.io.send(peer, b"some") {
                Ok(()) => {}
                Err(SendError::Full(bound)) => {
                    return self.calls.borrow_mut().push(Called::Refused(bound));
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
}

impl Handler for Greedy {
    type Peer = ();
    type Timer = ();
    type Message = ();

    fn accept(&mut self, cx: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
        for _ in 0..100 {
            cx.io.set_timer(cx.io.now() + Duration::from_millis(1), ()).expect("room");
        }
        Accept::Peer(())
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, from: PeerId, datagram: Datagram<'_>) {
        self.peer = Some(from);
        let is_large = datagram.first() == Some(&self.large.0);
        self.send(cx, Called::Datagram, if is_large { self.large.1 } else { self.each });
    }

    fn on_message(&mut self, cx: &mut Context<'_, Self>, _: Origin, (): ()) {
        self.send(cx, Called::Message, self.each);
    }

    fn on_timer(&mut self, cx: &mut Context<'_, Self>, (): ()) {
        self.send(cx, Called::Timer, self.each);
    }

    fn on_turn_end(&mut self, cx: &mut Context<'_, Self>) {
        // Only where something was called, or the refusals of each turn would bring about another.
        let called = self.calls.borrow().last().is_some_and(|last| *last == Called::Datagram);
        if self.turn_end > 0 && called {
            self.send(cx, Called::TurnEnd, self.turn_end);
        }
    }

    fn on_drain(&mut self, _: &mut Context<'_, Self>, _: Instant) -> Drain {
        Drain::WhenIdle
    }
}

fn serve(
    sim: &mut Sim,
    config: &Config,
    (each, large, turn_end): (u32, (u8, u32), u32),
) -> (NodeId<()>, Calls) {
    let calls = Calls::default();
    let noted = Rc::clone(&calls);
    let make = move |_| Greedy { calls: Rc::clone(&noted), each, large, turn_end, peer: None };
    (sim.server(&[ip("10.0.0.1")], config, make).expect("starts"), calls)
}

const NONE: (u8, u32) = (0, 0);

#[test]
fn each_kind_of_callbacks_has_its_turn() {
    let mut sim = Sim::new(1);
    // Each callback takes more than half of it.
    let config = listening("10.0.0.1:7").outbox_datagrams(8).idle_timeout(None);
    let (server, calls) = serve(&mut sim, &config, (6, NONE, 0));
    let client = sim.socket(addr("10.0.0.2:5000"));
    for _ in 0..5_000 {
        sim.send(client, addr("10.0.0.1:7"), b"go");
    }
    sim.run_for(Duration::from_micros(500));
    (0..100).for_each(|_| server.tell(0, ()).expect("room"));
    assert!(sim.run_until_quiet(SECOND));
    let calls = calls.borrow();
    let count = |what| calls.iter().filter(|called| **called == what).count();
    assert_eq!([Called::Datagram, Called::Message, Called::Timer].map(count), [5_000, 100, 100]);
    assert_eq!(calls.len(), 5_200, "nothing was refused");
    for kind in [Called::Message, Called::Timer] {
        let places: Vec<_> = (0..calls.len()).filter(|at| calls[*at] == kind).collect();
        let most = places.windows(2).map(|pair| pair[1] - pair[0]).max();
        assert!(most <= Some(3), "{most:?} calls from one {kind:?} to the next, while all kinds have work");
    }
    assert_eq!(sim.stats(&server).sent(), 6 * 5_200);
}

#[test]
fn a_need_of_more_than_half_is_learned() {
    let mut sim = Sim::new(2);
    let config = listening("10.0.0.1:7").outbox_datagrams(160).idle_timeout(None);
    let (server, calls) = serve(&mut sim, &config, (4, (b'L', 130), 0));
    let client = sim.socket(addr("10.0.0.2:5000"));
    sim.send(client, addr("10.0.0.1:7"), b"l");
    assert!(sim.run_until_quiet(SECOND));
    calls.borrow_mut().clear();
    // The first of them comes in a turn in which others have queued 60.
    for _ in 0..20 {
        (0..15).for_each(|_| sim.send(client, addr("10.0.0.1:7"), b"s"));
        sim.send(client, addr("10.0.0.1:7"), b"L");
    }
    assert!(sim.run_until_quiet(SECOND));
    let refused: Vec<_> =
        calls.borrow().iter().filter(|called| matches!(called, Called::Refused(_))).copied().collect();
    assert_eq!(refused, [Called::Refused(Bound::OutboxDatagrams)], "and no other");
    assert_eq!(sim.stats(&server).delivered, 321);
}

#[test]
fn what_the_end_of_a_turn_needs_is_left_free() {
    let mut sim = Sim::new(3);
    let config = listening("10.0.0.1:7").outbox_datagrams(160).idle_timeout(None);
    let (server, calls) = serve(&mut sim, &config, (5, NONE, 75));
    let client = sim.socket(addr("10.0.0.2:5000"));
    sim.send(client, addr("10.0.0.1:7"), b"s");
    assert!(sim.run_until_quiet(SECOND));
    (0..1_000).for_each(|_| sim.send(client, addr("10.0.0.1:7"), b"s"));
    assert!(sim.run_until_quiet(SECOND));
    assert_eq!(calls.borrow().iter().find(|called| matches!(called, Called::Refused(_))), None);
    assert_eq!((sim.stats(&server).delivered, sim.stats(&server).send_refused_full), (1_001, 0));
}

#[test]
fn a_need_that_nothing_can_meet_slows_down_nobody() {
    let mut sim = Sim::new(4);
    let config = listening("10.0.0.1:7").outbox_datagrams(1_600).idle_timeout(None);
    let (server, calls) = serve(&mut sim, &config, (1, NONE, 2_000));
    let client = sim.socket(addr("10.0.0.2:5000"));
    (0..6_400).for_each(|_| sim.send(client, addr("10.0.0.1:7"), b"s"));
    assert!(sim.run_until_quiet(SECOND));
    let turns = calls.borrow().iter().filter(|called| **called == Called::TurnEnd).count();
    assert!(turns < 120, "{turns} turns for what takes 100 with 64 each");
    assert_eq!(sim.stats(&server).delivered, 6_400);
}

/// A server that got a train of ten, each of which fills the outbox, and has handed over the first.
fn holding(sim: &mut Sim) -> (NodeId<()>, Calls) {
    sim.link(LinkConfig::new().trains(true));
    let config = listening("10.0.0.1:7").outbox_datagrams(8).idle_timeout(None);
    let (server, calls) = serve(sim, &config, (6, NONE, 0));
    let client = sim.socket(addr("10.0.0.2:5000"));
    sim.send_train(client, addr("10.0.0.1:7"), &[1; 20], 2);
    while sim.stats(&server).received == 0 {
        assert!(sim.step_within(SECOND));
    }
    let stats = sim.stats(&server);
    assert_eq!((stats.received, stats.delivered, stats.held_back, stats.unaccounted()), (10, 1, 9, 0));
    (server, calls)
}

#[test]
fn the_rest_of_a_train_outlasts_a_drain_and_a_stop() {
    for drains in [true, false] {
        let mut sim = Sim::new(5);
        let (server, calls) = holding(&mut sim);
        if drains {
            sim.drain(&server, SECOND);
        } else {
            sim.stop(&server);
        }
        assert!(sim.run_until_quiet(SECOND));
        assert!(sim.ended(&server).is_some());
        let datagrams = calls.borrow().iter().filter(|called| **called == Called::Datagram).count();
        let stats = sim.stats(&server);
        assert_eq!((datagrams, stats.delivered, stats.held_back, stats.sent()), (10, 10, 0, 60), "{stats:?}");
        assert!(!calls.borrow().iter().any(|called| matches!(called, Called::Refused(_))));
    }
}

/// Closes its endpoint when it hears the first datagram, for which it fills the outbox.
struct Closing {
    endpoint: Option<EndpointId>,
    heard: Rc<RefCell<Vec<u8>>>,
}

impl Handler for Closing {
    type Peer = ();
    type Timer = ();
    type Message = ();

    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
        Accept::Done
    }

    fn on_start(&mut self, cx: &mut Context<'_, Self>) {
        let endpoint = cx.io.endpoint(Endpoint::bound(addr("10.0.0.1:900"))).expect("room");
        let peer = cx.open(Via::Endpoint(endpoint), addr("10.0.0.2:5000"), ()).expect("room");
        cx.io.send(peer, b"hello").expect("room");
        self.endpoint = Some(endpoint);
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, from: PeerId, datagram: Datagram<'_>) {
        self.heard.borrow_mut().extend(&*datagram);
        (0..6).for_each(|_| cx.io.send(from, b"bye").expect("room"));
        if let Some(endpoint) = self.endpoint.take() {
            cx.close_endpoint(endpoint);
        }
    }
}

#[test]
fn a_closed_endpoint_takes_along_what_was_held_back() {
    let mut sim = Sim::new(6);
    sim.link(LinkConfig::new().trains(true));
    let heard = Rc::<RefCell<Vec<u8>>>::default();
    let noted = Rc::clone(&heard);
    let config = Config::new().outbox_datagrams(8).idle_timeout(None);
    let make = move |_| Closing { endpoint: None, heard: Rc::clone(&noted) };
    let node = sim.server(&[ip("10.0.0.1")], &config, make).expect("starts");
    let friend = sim.socket(addr("10.0.0.2:5000"));
    assert!(sim.run_until_quiet(SECOND));
    assert_eq!(payloads(&mut sim, friend), [b"hello"]);
    sim.send_train(friend, addr("10.0.0.1:900"), &[1, 2, 3, 4], 1);
    assert!(sim.run_until_quiet(SECOND));
    let stats = sim.stats(&node);
    assert_eq!((&*heard.borrow(), stats.dropped_closed, stats.held_back), (&vec![1], 3, 0), "{stats:?}");
    assert_eq!(stats.unaccounted(), 0);
}

/// Sends so much to so many of its peers, unless it is refused.
struct Pouring(Rc<RefCell<Vec<SendError>>>);

impl Handler for Pouring {
    type Peer = ();
    type Timer = ();
    type Message = (usize, u32);

    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
        Accept::Peer(())
    }

    fn on_message(&mut self, cx: &mut Context<'_, Self>, _: Origin, (peers, each): (usize, u32)) {
        for (peer, ()) in cx.peers.iter().take(peers) {
            for _ in 0..each {
                if let Err(error) = cx.io.send(peer, &[0; 1_000]) {
                    self.0.borrow_mut().push(error);
                    break;
                }
            }
        }
    }
}

#[test]
fn a_fan_out_to_full_sockets_is_told_which_bound_it_met() {
    let mut sim = Sim::new(7);
    sim.uplink(ip("10.0.0.1"), Some(100_000)).expect("in range");
    let config = listening("10.0.0.1:7")
        .send_socket_bytes(4 << 10)
        .send_queue_bytes(16 << 10)
        .send_backlog_bytes(64 << 10)
        .idle_timeout(None);
    let errors = Rc::<RefCell<Vec<SendError>>>::default();
    let noted = Rc::clone(&errors);
    let make = move |_| Pouring(Rc::clone(&noted));
    let server = sim.server(&[ip("10.0.0.1")], &config, make).expect("starts");
    for port in 0..8 {
        sim.send_from(addr(&format!("10.0.0.2:{}", 5_000 + port)), addr("10.0.0.1:7"), b"join");
    }
    assert!(sim.run_until_quiet(SECOND));
    // Something waits; then too much for two of them; then too much for all.
    for what in [(8, 2), (2, 20), (8, 20)] {
        server.tell(0, what).expect("room");
        sim.run_for(Duration::from_millis(1));
    }
    let stats = sim.stats(&server);
    let of = |bound| errors.borrow().iter().filter(|error| **error == SendError::Full(bound)).count() as u64;
    let (queue, backlog) = (of(Bound::PeerQueue), of(Bound::Backlog));
    assert!(queue > 0 && backlog > 0, "{:?}", errors.borrow());
    assert_eq!((stats.send_refused_full, stats.send_refused_outbox), (queue + backlog, 0), "{stats:?}");
    assert!(stats.send_waiting <= (64 << 10) / 1_128, "{stats:?}");
}

/// Tells the others of each peer that leaves.
struct Farewell;

impl Handler for Farewell {
    type Peer = ();
    type Timer = ();
    type Message = ();

    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
        Accept::Peer(())
    }

    fn on_closed(&mut self, cx: &mut Context<'_, Self>, _: PeerId, (): (), _: CloseReason) {
        for (peer, ()) in cx.peers.iter() {
            let _ = cx.io.send(peer, b"one less"); // a refusal is counted
        }
    }
}

#[test]
fn last_words_have_room_and_an_end() {
    for (peers, all) in [(10, true), (200, false)] {
        let mut sim = Sim::new(8);
        let config = listening("10.0.0.1:7").outbox_datagrams(400).idle_timeout(None);
        let config = if all { config.outbox_datagrams(20) } else { config };
        let server = sim.server(&[ip("10.0.0.1")], &config, |_| Farewell).expect("starts");
        for port in 0..peers {
            sim.send_from(addr(&format!("10.0.0.2:{}", 5_000 + port)), addr("10.0.0.1:7"), b"join");
        }
        assert!(sim.run_until_quiet(SECOND));
        sim.stop(&server);
        assert!(sim.run_until_quiet(SECOND));
        assert!(sim.ended(&server).is_some());
        let stats = sim.stats(&server);
        let words = peers * (peers - 1) / 2;
        assert_eq!(stats.sent() + stats.send_refused_full, words, "{stats:?}");
        if all {
            assert_eq!(stats.send_refused_full, 0, "{stats:?}");
        } else {
            assert!((16 * 200..=17 * 400).contains(&stats.sent()), "{stats:?}");
        }
    }
}
