//! What is said to the next address of a dialed peer joins nothing that was said to the one before.

mod support;

use std::net::SocketAddr;
use std::time::Duration;

use shardgram_core::{Accept, Config, Context, Datagram, Dial, Handler, Origin, PeerId};
use shardgram_sim::Sim;
use support::{SECOND, addr, ip, payloads};

const TRY_FOR: Duration = Duration::from_millis(10);

/// Says its last word to an address in the turn in which it tries the next one.
struct Caller {
    attempts: u8,
}

impl Handler for Caller {
    type Peer = ();
    type Timer = PeerId;
    type Message = (PeerId, u8);

    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
        Accept::Done
    }

    fn on_start(&mut self, cx: &mut Context<'_, Self>) {
        let dial = Dial::to("two.test", 9).expect("a name").try_for(TRY_FOR);
        cx.dial(dial, ()).expect("room");
    }

    fn on_attempt(&mut self, cx: &mut Context<'_, Self>, peer: PeerId, _: SocketAddr) {
        self.attempts += 1;
        cx.io.send(peer, &[b'0' + self.attempts; 5]).expect("room");
        // A turn costs a millisecond, so the one of the timer is not over when the time of the attempt is. One of the
        // messages that follow comes in the turn that tries the next address.
        let soon = cx.io.now() + TRY_FOR - Duration::from_micros(500);
        cx.io.set_timer(soon, peer).expect("room");
    }

    fn on_timer(&mut self, cx: &mut Context<'_, Self>, peer: PeerId) {
        cx.io.tell(0, (peer, 12)).expect("room");
    }

    fn on_message(&mut self, cx: &mut Context<'_, Self>, _: Origin, (peer, left): (PeerId, u8)) {
        cx.io.send(peer, b"again").expect("room");
        if left > 1 {
            cx.io.tell(0, (peer, left - 1)).expect("room");
        }
    }
}

#[test]
fn each_address_hears_what_was_meant_for_it() {
    let mut sim = Sim::new(1);
    sim.turn_cost(Duration::from_millis(1), Duration::ZERO).expect("in range");
    sim.name("two.test", Ok(vec![ip("10.0.0.2"), ip("10.0.0.3")]), Duration::from_millis(1));
    let [first, second] = ["10.0.0.2:9", "10.0.0.3:9"].map(|address| sim.socket(addr(address)));
    sim.server(&[ip("10.0.0.1")], &Config::new().event_budget(1), |_| Caller { attempts: 0 })
        .expect("starts");
    sim.run_for(SECOND);
    let (first, second) = (payloads(&mut sim, first), payloads(&mut sim, second));
    assert_eq!((&first[0][..], &second[0][..]), (&b"11111"[..], &b"22222"[..]));
    assert!(first[1..].iter().all(|bytes| bytes == b"again"), "{first:?}");
    assert!((1..12).contains(&(first.len() - 1)), "the next address was tried in between: {first:?}");
}
