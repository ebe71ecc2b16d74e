//! A handler that panics is replaced, and its source refused; one that panics more often than was allowed ends its server.

mod support;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use shardgram_core::{Accept, AfterPanic, CloseReason, Context, Datagram, Handler, PeerId, ShardInfo};
use shardgram_sim::{NodeId, Sim};
use support::{SECOND, addr, ip, listening, payloads};

type Closed = Rc<RefCell<Vec<CloseReason>>>;

/// Echoes, but for what starts with "boom".
struct Brittle(Closed);

impl Handler for Brittle {
    type Peer = ();
    type Timer = ();
    type Message = ();
    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
        Accept::Peer(())
    }
    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, _: PeerId, datagram: Datagram<'_>) {
        assert!(!datagram.starts_with(b"boom"), "this panic is part of the test");
        let len = datagram.len();
        let _ = cx.io.reply(datagram, len);
    }
    fn on_closed(&mut self, _: &mut Context<'_, Self>, _: PeerId, (): (), why: CloseReason) {
        self.0.borrow_mut().push(why);
    }
}

fn brittle(sim: &mut Sim, shards: u16, panics: Option<u32>) -> (NodeId<()>, Closed) {
    let closed = Closed::default();
    let notes = Rc::clone(&closed);
    let config = listening("10.0.0.1:7").shards(shards).max_restarts_per_minute(panics);
    let make = move |_: ShardInfo| Brittle(Rc::clone(&notes));
    (sim.server(&[ip("10.0.0.1")], &config, make).expect("starts"), closed)
}

#[test]
fn the_rest_of_a_train_is_dropped_and_counted() {
    let mut sim = Sim::new(5);
    sim.link(shardgram_sim::LinkConfig::new().trains(true));
    let (server, _) = brittle(&mut sim, 1, None);
    let client = sim.socket(addr("10.0.0.2:5000"));
    sim.send_train(client, addr("10.0.0.1:7"), b"one boomtwo four", 4);
    assert!(sim.run_until_quiet(SECOND));
    assert_eq!(payloads(&mut sim, client), [b"one "]);
    let stats = sim.stats(&server);
    assert_eq!((stats.received, stats.delivered, stats.dropped_panicked), (4, 2, 2));
    assert_eq!(stats.unaccounted(), 0);
    assert_eq!(sim.buffers_out(&server), 0);
}

/// Keeps its handler.
struct Sturdy(Brittle);

impl Handler for Sturdy {
    type Peer = ();
    type Timer = ();
    type Message = ();
    const AFTER_PANIC: AfterPanic = AfterPanic::ClosePeer;
    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
        Accept::Peer(())
    }
    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, _: PeerId, datagram: Datagram<'_>) {
        assert!(!datagram.starts_with(b"boom"), "this panic is part of the test");
        let len = datagram.len();
        let _ = cx.io.reply(datagram, len);
    }
    fn on_closed(&mut self, _: &mut Context<'_, Self>, _: PeerId, (): (), why: CloseReason) {
        self.0.0.borrow_mut().push(why);
    }
}

#[test]
fn the_rest_of_a_train_is_refused_where_the_handler_stays_and_others_are_handed_over_in_the_same_turn() {
    let mut sim = Sim::new(5);
    sim.link(shardgram_sim::LinkConfig::new().trains(true));
    // All arrive in one turn.
    sim.turn_cost(SECOND / 10, Duration::ZERO).expect("in range");
    let closed = Closed::default();
    let notes = Rc::clone(&closed);
    let make = move |_: ShardInfo| Sturdy(Brittle(Rc::clone(&notes)));
    let server = sim.server(&[ip("10.0.0.1")], &listening("10.0.0.1:7"), make).expect("starts");
    let [before, bad, after] = [1, 2, 3].map(|n| sim.socket(addr(&format!("10.0.{n}.2:5000"))));
    sim.send(before, addr("10.0.0.1:7"), b"before");
    sim.send_train(bad, addr("10.0.0.1:7"), b"one boomtwo four", 4);
    sim.send(after, addr("10.0.0.1:7"), b"after");
    assert!(sim.run_until_quiet(SECOND));
    assert_eq!(payloads(&mut sim, before), [b"before"]);
    assert_eq!(payloads(&mut sim, bad), [b"one "]);
    assert_eq!(payloads(&mut sim, after), [b"after"]);
    assert_eq!(closed.take(), [CloseReason::Panicked]);
    let stats = sim.stats(&server);
    assert_eq!((stats.received, stats.delivered, stats.dropped_refused_source), (6, 4, 2));
    assert_eq!((stats.restarts, stats.dropped_panicked, stats.unaccounted()), (1, 0, 0));
    assert_eq!(sim.buffers_out(&server), 0);
}

/// Sources that have nothing in common.
fn stranger(number: u32) -> SocketAddr {
    addr(&format!("10.1.{number}.2:5000"))
}

#[test]
fn too_many_restarts_end_the_server_if_it_was_asked_for() {
    let mut sim = Sim::new(2);
    let (server, _) = brittle(&mut sim, 3, Some(5));
    for number in 0..5 {
        sim.send_from(stranger(number), addr("10.0.0.1:7"), b"boom");
        assert!(sim.run_until_quiet(SECOND));
    }
    assert_eq!(sim.stats(&server).restarts, 5);
    assert!(sim.ended(&server).is_none());
    let mut number = 5;
    while sim.ended(&server).is_none() {
        // Five on one shard, and then one more.
        sim.send_from(stranger(number), addr("10.0.0.1:7"), b"boom");
        assert!(sim.run_until_quiet(SECOND));
        number += 1;
    }
    let mut endings: Vec<_> =
        sim.ended(&server).expect("it ended").iter().map(|e| format!("{e:?}")).collect();
    endings.sort();
    assert_eq!(endings[..2], ["Stopped", "Stopped"]);
    assert_eq!(endings[2], "TooManyRestarts { callback: \"on_datagram\", panics: 6 }");
    assert_eq!(sim.stats(&server).unaccounted(), 0);
}

#[test]
fn panics_a_minute_apart_end_nothing() {
    let mut sim = Sim::new(3);
    let (server, _) = brittle(&mut sim, 1, Some(5));
    for number in 0..20 {
        sim.send_from(stranger(number), addr("10.0.0.1:7"), b"boom");
        sim.run_for(13 * SECOND);
    }
    assert_eq!(sim.stats(&server).restarts, 20);
    assert!(sim.ended(&server).is_none());
}

/// A forger has a panic for each source that it makes up, and nobody else notices: no pause, no loss, no end.
#[test]
fn a_bad_datagram_a_tenth_of_a_second_from_forged_sources_leaves_everybody_served() {
    let mut sim = Sim::new(4);
    let (server, _) = brittle(&mut sim, 1, None);
    let client = sim.socket(addr("10.0.0.2:5000"));
    for number in 0..200 {
        sim.send_from(stranger(number), addr("10.0.0.1:7"), b"boom");
        for _ in 0..5 {
            sim.send(client, addr("10.0.0.1:7"), b"hello");
            sim.run_for(SECOND / 50);
            assert_eq!(payloads(&mut sim, client), [b"hello"], "answered at once after {number}");
        }
    }
    let stats = sim.stats(&server);
    assert_eq!(
        (stats.restarts, stats.received, stats.delivered, stats.unaccounted()),
        (200, 1_200, 1_200, 0)
    );
}
