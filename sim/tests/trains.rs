//! Trains: cut into datagrams, or handed over whole where the link carries them.

mod support;

use std::cell::RefCell;
use std::rc::Rc;

use shardgram_core::outbox::TrainLimits;
use shardgram_core::{Accept, Context, Datagram, Handler, PeerId};
use shardgram_sim::{LinkConfig, Sim};
use support::{SECOND, addr, echo, ip, listening, payloads};

/// Echoes, and notes how many datagrams of the same train follow.
struct Noting(Rc<RefCell<Vec<(usize, u16)>>>);

impl Handler for Noting {
    type Peer = ();
    type Timer = ();
    type Message = ();
    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
        Accept::Peer(())
    }
    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, _: PeerId, datagram: Datagram<'_>) {
        let len = datagram.len();
        self.0.borrow_mut().push((len, datagram.meta().rest_of_train));
        let _ = cx.io.reply(datagram, len);
    }
}

#[test]
fn a_link_that_carries_trains_hands_them_over_whole() {
    for (carried, want) in [(true, [(2, 2), (2, 1), (1, 0)]), (false, [(2, 0), (2, 0), (1, 0)])] {
        let mut sim = Sim::new(1);
        sim.trace(true);
        sim.link(LinkConfig::new().trains(carried));
        let seen = Rc::new(RefCell::new(Vec::new()));
        let notes = Rc::clone(&seen);
        let config = listening("10.0.0.1:7");
        let server =
            sim.server(&[ip("10.0.0.1")], &config, move |_| Noting(Rc::clone(&notes))).expect("starts");
        let client = sim.socket(addr("10.0.0.2:5000"));
        sim.send_train(client, addr("10.0.0.1:7"), b"aabbc", 2);
        assert!(sim.run_until_quiet(SECOND));
        assert_eq!(*seen.borrow(), want);
        assert_eq!(payloads(&mut sim, client), [&b"aa"[..], b"bb", b"c"]);
        let stats = sim.stats(&server);
        assert_eq!((stats.received, stats.received_bytes, stats.sent()), (3, 5, 3));
        let counts = sim.counts();
        assert_eq!((counts.sent, counts.delivered, counts.unaccounted()), (6, 6, 0));
        let launches = sim.lines().iter().filter(|l| l.contains("Sent")).count();
        assert_eq!(launches, if carried { 2 } else { 6 }, "a whole train is sent once, there and back");
    }
}

#[test]
fn without_offload_each_datagram_leaves_alone() {
    let mut sim = Sim::new(2);
    sim.trace(true);
    sim.train_limits(TrainLimits::SINGLE);
    sim.link(LinkConfig::new().trains(true));
    let server = echo(&mut sim, &listening("10.0.0.1:7"));
    let client = sim.socket(addr("10.0.0.2:5000"));
    sim.send_train(client, addr("10.0.0.1:7"), &[7; 6400], 100);
    assert!(sim.run_until_quiet(SECOND));
    assert_eq!(payloads(&mut sim, client), vec![vec![7; 100]; 64]);
    assert_eq!(sim.stats(&server).sent(), 64);
    let launches = sim.lines().iter().filter(|l| l.contains("Sent")).count();
    assert_eq!(launches, 1 + 64);
}

#[test]
fn faults_befall_whole_trains() {
    let seed = 4;
    let mut sim = Sim::new(seed);
    let link = LinkConfig::new().trains(true).loss(0.5).and_then(|l| l.duplication(0.5));
    // One way only: replies to several trains make other trains.
    sim.link_between(ip("10.0.0.2"), ip("10.0.0.1"), link.expect("in range"));
    let server = echo(&mut sim, &listening("10.0.0.1:7"));
    let client = sim.socket(addr("10.0.0.2:5000"));
    for _ in 0..200 {
        sim.send_train(client, addr("10.0.0.1:7"), &[7; 1000], 100);
    }
    assert!(sim.run_until_quiet(SECOND));
    let counts = sim.counts();
    assert_eq!(counts.unaccounted(), 0, "seed {seed}");
    assert!(counts.lost > 500 && counts.lost.is_multiple_of(10), "seed {seed}: {counts:?}");
    assert!(counts.duplicated > 300 && counts.duplicated.is_multiple_of(10), "seed {seed}: {counts:?}");
    assert_eq!(sim.stats(&server).unaccounted(), 0);
}
