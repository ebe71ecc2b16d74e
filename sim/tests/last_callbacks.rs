//! Callbacks that come last: of a shard that ends, and of a handler that is about to be replaced.

mod support;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use shardgram_core::{Accept, CloseReason, Context, Datagram, Handler, OpenError, PeerId, Via};
use shardgram_sim::Sim;
use support::{SECOND, addr, ip, listening};

/// What the handlers of a test have seen.
#[derive(Debug, Default)]
struct Seen {
    closed: Vec<(u32, CloseReason)>,
    opened: Vec<Result<PeerId, OpenError>>,
}

/// Opens a peer for each that goes.
struct Tireless(Rc<RefCell<Seen>>);

impl Handler for Tireless {
    type Peer = u32;
    type Timer = ();
    type Message = ();

    fn accept(&mut self, _: &mut Context<'_, Self>, first: &mut Datagram<'_>) -> Accept<u32> {
        Accept::Peer(first.len() as u32)
    }

    fn on_closed(&mut self, cx: &mut Context<'_, Self>, _: PeerId, number: u32, why: CloseReason) {
        let opened = cx.open(Via::Listener(addr("10.0.0.1:7")), addr("10.0.0.9:9"), 99);
        let mut seen = self.0.borrow_mut();
        seen.closed.push((number, why));
        seen.opened.push(opened);
    }
}

#[test]
fn no_peer_is_opened_while_a_shard_closes_its_last_ones() {
    let mut sim = Sim::new(1);
    let seen = Rc::<RefCell<Seen>>::default();
    let notes = Rc::clone(&seen);
    let make = move |_| Tireless(Rc::clone(&notes));
    let server = sim.server(&[ip("10.0.0.1")], &listening("10.0.0.1:7"), make).expect("starts");
    for len in [1, 2] {
        let client = sim.socket(addr(&format!("10.0.0.2:{len}")));
        sim.send(client, addr("10.0.0.1:7"), &vec![0; len]);
    }
    sim.run_for(Duration::from_millis(1));
    sim.stop(&server);
    assert!(sim.run_until_quiet(SECOND));
    let seen = seen.take();
    assert_eq!(seen.closed, [(1, CloseReason::Drained), (2, CloseReason::Drained)]);
    assert_eq!(seen.opened, [Err(OpenError::Ending); 2]);
    let stats = sim.stats(&server);
    assert_eq!((stats.peers_opened, stats.peers_closed), (2, 2));
}

/// Closes its peer when a stranger comes, and fails as it hears of that.
struct Jealous {
    seen: Rc<RefCell<Seen>>,
    peer: Option<PeerId>,
}

impl Handler for Jealous {
    type Peer = u32;
    type Timer = ();
    type Message = ();

    fn accept(&mut self, cx: &mut Context<'_, Self>, first: &mut Datagram<'_>) -> Accept<u32> {
        if let Some(peer) = self.peer {
            cx.io.close(peer);
        }
        Accept::Peer(first.len() as u32)
    }

    fn on_datagram(&mut self, _: &mut Context<'_, Self>, from: PeerId, _: Datagram<'_>) {
        self.peer = Some(from);
    }

    fn on_closed(&mut self, _: &mut Context<'_, Self>, _: PeerId, number: u32, why: CloseReason) {
        self.seen.borrow_mut().closed.push((number, why));
        if why == CloseReason::Asked {
            std::panic::resume_unwind(Box::new("it was the last straw"));
        }
    }
}

#[test]
fn what_accept_decided_before_a_panic_is_not_done() {
    let mut sim = Sim::new(1);
    let seen = Rc::<RefCell<Seen>>::default();
    let notes = Rc::clone(&seen);
    let make = move |_| Jealous { seen: Rc::clone(&notes), peer: None };
    let server = sim.server(&[ip("10.0.0.1")], &listening("10.0.0.1:7"), make).expect("starts");
    for len in [1, 2] {
        let client = sim.socket(addr(&format!("10.0.0.2:{len}")));
        sim.send(client, addr("10.0.0.1:7"), &vec![0; len]);
        sim.run_for(Duration::from_millis(1));
    }
    let stats = sim.stats(&server);
    assert_eq!((stats.received, stats.delivered, stats.dropped_panicked), (2, 1, 1), "{stats}");
    assert_eq!((stats.peers_opened, stats.peers_closed, stats.restarts, stats.unaccounted()), (1, 1, 1, 0));
    assert_eq!(seen.take().closed, [(1, CloseReason::Asked)]);
}
