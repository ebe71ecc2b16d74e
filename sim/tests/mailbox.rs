//! Messages wake a shard at once, are given back by a full mailbox, and come from other nodes too.

mod support;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use shardgram_core::{Accept, Config, Context, Datagram, Full, Handler, Origin, ShardInfo};
use shardgram_sim::{NodeId, Sim};
use support::{SECOND, addr, ip, listening};

type Seen = Rc<RefCell<Vec<(u16, Origin, u32)>>>;

/// Passes each number it is told on to every other shard, thrice the number and more, and notes what it
/// gets from them.
struct Gossip {
    seen: Seen,
    me: ShardInfo,
}

impl Handler for Gossip {
    type Peer = ();
    type Timer = ();
    type Message = u32;
    fn accept(&mut self, cx: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
        self.tell_all(cx, 1_000);
        Accept::Done
    }
    fn on_message(&mut self, cx: &mut Context<'_, Self>, from: Origin, message: u32) {
        self.seen.borrow_mut().push((self.me.shard, from, message));
        if from == Origin::Handle {
            self.tell_all(cx, message);
        }
    }
}

impl Gossip {
    fn tell_all(&self, cx: &mut Context<'_, Self>, message: u32) {
        for shard in (0..self.me.shards).filter(|s| *s != self.me.shard) {
            for i in 0..3 {
                assert_eq!(cx.io.tell(shard, message * 3 + i), Ok(()));
            }
        }
    }
}

fn gossips(sim: &mut Sim, config: &Config) -> (NodeId<u32>, Seen) {
    let seen = Seen::default();
    let notes = Rc::clone(&seen);
    let make = move |me| Gossip { seen: Rc::clone(&notes), me };
    (sim.server(&[ip("10.0.0.1")], config, make).expect("starts"), seen)
}

#[test]
fn a_sleeping_shard_is_woken_at_once() {
    let mut sim = Sim::new(2);
    let (_, seen) = gossips(&mut sim, &listening("10.0.0.1:7").shards(2));
    sim.run_for(SECOND); // both sleep, with nothing to wake them
    let arrives = sim.elapsed() + Duration::from_micros(50);
    sim.send_from(addr("10.0.0.2:5000"), addr("10.0.0.1:7"), b"x");
    assert!(sim.run_until_quiet(SECOND));
    assert_eq!(seen.borrow().iter().map(|(_, _, n)| *n).collect::<Vec<_>>(), [3000, 3001, 3002]);
    assert!(sim.elapsed() - arrives <= Duration::from_micros(10), "{:?}", sim.elapsed() - arrives);
}

#[test]
fn a_full_mailbox_gives_the_message_back() {
    let mut sim = Sim::new(3);
    let (node, seen) = gossips(&mut sim, &Config::new().mailbox_len(4));
    for message in 0..4 {
        assert_eq!(node.tell(0, message), Ok(()));
    }
    assert_eq!(node.tell(0, 4), Err(Full(4)));
    assert_eq!(node.tell(1, 5), Err(Full(5)), "there is no shard 1");
    assert!(sim.run_until_quiet(SECOND));
    assert_eq!(seen.borrow().len(), 4);
    sim.stop(&node);
    assert!(sim.run_until_quiet(SECOND));
    assert_eq!(node.tell(0, 6), Err(Full(6)), "the shard has ended");
}

/// Hands each datagram's length to another node.
struct Relay(NodeId<u32>);

impl Handler for Relay {
    type Peer = ();
    type Timer = ();
    type Message = ();
    fn accept(&mut self, _: &mut Context<'_, Self>, first: &mut Datagram<'_>) -> Accept<()> {
        let _ = self.0.tell(0, first.len() as u32);
        Accept::Done
    }
}

#[test]
fn a_handler_may_tell_another_node() {
    let mut sim = Sim::new(4);
    let (node, seen) = gossips(&mut sim, &Config::new());
    let config = listening("10.0.0.9:7");
    sim.server(&[ip("10.0.0.9")], &config, move |_| Relay(node.clone())).expect("starts");
    sim.run_for(SECOND);
    sim.send_from(addr("10.0.0.2:5000"), addr("10.0.0.9:7"), b"four");
    assert!(sim.run_until_quiet(SECOND));
    assert_eq!(*seen.borrow(), [(0, Origin::Handle, 4)]);
}
