//! Marks are carried there and back, and arrivals say when they came, where that is asked for.

mod support;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use shardgram_core::{Accept, Context, Datagram, Ecn, Handler, Meta, PeerId};
use shardgram_sim::{LinkConfig, Sim};
use support::{SECOND, addr, all, ip, listening};

const MARKS: [Ecn; 4] = [Ecn::Ect0, Ecn::Ce, Ecn::NotEct, Ecn::Ect1];

/// Sends two datagrams back for each, marked as that was sent.
struct Mirror(Rc<RefCell<Vec<Meta>>>);

impl Handler for Mirror {
    type Peer = ();
    type Timer = ();
    type Message = ();
    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
        Accept::Peer(())
    }
    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, from: PeerId, datagram: Datagram<'_>) {
        self.0.borrow_mut().push(datagram.meta());
        cx.io.set_ecn(from, Ecn::from_bits(datagram[0]));
        for _ in 0..2 {
            cx.io.send(from, &datagram).expect("room");
        }
    }
}

#[test]
fn as_asked_for() {
    for (on, trains) in [(true, true), (true, false), (false, false)] {
        let mut sim = Sim::new(1);
        let began = sim.now();
        sim.link(LinkConfig::new().trains(trains).delay(Duration::from_millis(3)).expect("in range"));
        let seen = Rc::new(RefCell::new(Vec::new()));
        let notes = Rc::clone(&seen);
        let config = listening("10.0.0.1:7").ecn(on).receive_timestamps(on);
        let make = move |_| Mirror(Rc::clone(&notes));
        sim.server(&[ip("10.0.0.1")], &config, make).expect("starts");
        let client = sim.socket(addr("10.0.0.2:5000"));
        for mark in MARKS {
            let sent = sim.now();
            sim.send_marked(client, addr("10.0.0.1:7"), &[mark.bits()], mark);
            assert!(sim.run_until_quiet(SECOND));
            let meta = seen.borrow_mut().pop().expect("it came");
            assert_eq!(meta.ecn, if on { mark } else { Ecn::NotEct });
            let time = sent - began + Duration::from_millis(3);
            assert_eq!(meta.kernel_time, on.then_some(time));
            let back: Vec<_> = all(&mut sim, client).iter().map(|got| got.ecn).collect();
            assert_eq!(back, [mark, mark]);
        }
    }
}
