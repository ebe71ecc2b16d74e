//! A handler that panics is replaced; one that panics too often ends its server.

mod support;

use std::cell::RefCell;
use std::rc::Rc;

use shardgram_core::{Accept, CloseReason, Context, Datagram, Handler, PeerId, ShardInfo};
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

fn brittle(sim: &mut Sim, shards: u16) -> (NodeId<()>, Closed) {
    let closed = Closed::default();
    let notes = Rc::clone(&closed);
    let config = listening("10.0.0.1:7").shards(shards);
    let make = move |_: ShardInfo| Brittle(Rc::clone(&notes));
    (sim.server(&[ip("10.0.0.1")], &config, make).expect("starts"), closed)
}

#[test]
fn the_rest_of_a_train_is_dropped_and_counted() {
    let mut sim = Sim::new(5);
    sim.link(shardgram_sim::LinkConfig::new().trains(true));
    let (server, _) = brittle(&mut sim, 1);
    let client = sim.socket(addr("10.0.0.2:5000"));
    sim.send_train(client, addr("10.0.0.1:7"), b"one boomtwo four", 4);
    assert!(sim.run_until_quiet(SECOND));
    assert_eq!(payloads(&mut sim, client), [b"one "]);
    let stats = sim.stats(&server);
    assert_eq!((stats.received, stats.delivered, stats.dropped_panicked), (4, 2, 2));
    assert_eq!(stats.unaccounted(), 0);
    assert_eq!(sim.buffers_out(&server), 0);
}

#[test]
fn too_many_restarts_end_the_server() {
    let mut sim = Sim::new(2);
    let (server, _) = brittle(&mut sim, 3);
    for _ in 0..5 {
        sim.send_from(addr("10.0.0.2:5000"), addr("10.0.0.1:7"), b"boom");
        assert!(sim.run_until_quiet(SECOND));
    }
    assert_eq!(sim.stats(&server).restarts, 5);
    assert!(sim.ended(&server).is_none());
    sim.send_from(addr("10.0.0.2:5000"), addr("10.0.0.1:7"), b"boom");
    assert!(sim.run_until_quiet(SECOND));
    let mut endings: Vec<_> =
        sim.ended(&server).expect("it ended").iter().map(|e| format!("{e:?}")).collect();
    endings.sort();
    assert_eq!(endings, ["Stopped", "Stopped", "TooManyRestarts"]);
    assert_eq!(sim.stats(&server).unaccounted(), 0);
}

#[test]
fn panics_a_minute_apart_end_nothing() {
    let mut sim = Sim::new(3);
    let (server, _) = brittle(&mut sim, 1);
    for _ in 0..20 {
        sim.send_from(addr("10.0.0.2:5000"), addr("10.0.0.1:7"), b"boom");
        sim.run_for(13 * SECOND);
    }
    assert_eq!(sim.stats(&server).restarts, 20);
    assert!(sim.ended(&server).is_none());
}
