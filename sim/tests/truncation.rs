//! A datagram longer than the receive buffer comes cut off and says so.

mod support;

use std::cell::RefCell;
use std::rc::Rc;

use shardgram_core::{Accept, Context, Datagram, Handler};
use shardgram_sim::Sim;
use support::{SECOND, addr, ip, listening};

type Lengths = Rc<RefCell<Vec<(usize, Option<usize>)>>>;

struct Measuring(Lengths);

impl Handler for Measuring {
    type Peer = ();
    type Timer = ();
    type Message = ();
    fn accept(&mut self, _: &mut Context<'_, Self>, first: &mut Datagram<'_>) -> Accept<()> {
        self.0.borrow_mut().push((first.len(), first.meta().truncated_from));
        Accept::Reply(first.len())
    }
}

#[test]
fn it_is_cut_flagged_and_counted() {
    let mut sim = Sim::new(1);
    let seen = Lengths::default();
    let notes = Rc::clone(&seen);
    let config = listening("10.0.0.1:7").max_datagram(1200);
    let server =
        sim.server(&[ip("10.0.0.1")], &config, move |_| Measuring(Rc::clone(&notes))).expect("starts");
    let client = sim.socket(addr("10.0.0.2:5000"));
    for len in [1199, 1200, 1201, 65_507] {
        sim.send(client, addr("10.0.0.1:7"), &vec![7; len]);
        assert!(sim.run_until_quiet(SECOND));
        assert_eq!(sim.receive(client).map(|r| r.bytes), Some(vec![7; len.min(1200)]));
    }
    assert_eq!(*seen.borrow(), [(1199, None), (1200, None), (1200, Some(1201)), (1200, Some(65_507))]);
    assert_eq!(sim.stats(&server).truncated, 2);
}
