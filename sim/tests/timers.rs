//! Timers fire when they are due, in virtual time, however far off.

mod support;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use shardgram_core::{Accept, CloseReason, Config, Context, Datagram, Handler, PeerId};
use shardgram_sim::Sim;
use support::{SECOND, addr, ip, listening};

type Fired = Rc<RefCell<Vec<(Instant, Instant)>>>;

/// Sets timers at its start and notes for when they were set and when they came.
struct Clockwork {
    fired: Fired,
    delays: &'static [Duration],
}

impl Handler for Clockwork {
    type Peer = ();
    type Timer = Instant;
    type Message = ();
    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
        Accept::Drop("not asked")
    }
    fn on_start(&mut self, cx: &mut Context<'_, Self>) {
        for delay in self.delays {
            let at = cx.io.now() + *delay;
            assert!(cx.io.set_timer(at, at).is_ok());
        }
    }
    fn on_timer(&mut self, cx: &mut Context<'_, Self>, due: Instant) {
        self.fired.borrow_mut().push((due, cx.io.now()));
    }
}

fn clockwork(sim: &mut Sim, delays: &'static [Duration]) -> Fired {
    let fired = Fired::default();
    let notes = Rc::clone(&fired);
    let make = move |_| Clockwork { fired: Rc::clone(&notes), delays };
    sim.server(&[ip("10.0.0.1")], &Config::new(), make).expect("starts");
    fired
}

#[test]
fn they_fire_in_order_and_exactly_to_a_tick_of_the_wheel() {
    const DELAYS: &[Duration] = &[
        Duration::from_secs(3600),
        Duration::from_micros(1500),
        Duration::from_secs(1),
        Duration::from_nanos(1),
        Duration::from_millis(20),
        Duration::from_secs(86_400 * 365),
    ];
    let mut sim = Sim::new(1);
    let start = sim.now();
    let fired = clockwork(&mut sim, DELAYS);
    while sim.step() {}
    let fired = fired.take();
    let mut want = DELAYS.to_vec();
    want.sort();
    assert_eq!(fired.iter().map(|(due, _)| *due - start).collect::<Vec<_>>(), want);
    for (due, at) in fired {
        assert!(at >= due, "never early");
        assert!(at - due <= Duration::from_nanos(1024 + 2000), "late by {:?}", at - due);
    }
}

#[test]
fn quiet_waits_for_timers_within_its_limit_only() {
    const DELAYS: &[Duration] = &[Duration::from_millis(500), Duration::from_secs(3600)];
    let mut sim = Sim::new(2);
    let fired = clockwork(&mut sim, DELAYS);
    assert!(sim.run_until_quiet(SECOND));
    assert_eq!(fired.borrow().len(), 1);
    assert!(sim.elapsed() < SECOND, "the clock stays where the last thing happened");
    sim.run_for(Duration::from_secs(3600));
    assert_eq!(fired.borrow().len(), 2);
}

/// Peers that say nothing are closed as idle.
struct Idlers(Rc<RefCell<Vec<(Instant, CloseReason)>>>);

impl Handler for Idlers {
    type Peer = ();
    type Timer = ();
    type Message = ();
    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
        Accept::Peer(())
    }
    fn on_closed(&mut self, cx: &mut Context<'_, Self>, _: PeerId, (): (), why: CloseReason) {
        self.0.borrow_mut().push((cx.io.now(), why));
    }
}

#[test]
fn idle_peers_are_closed_to_an_eighth_of_the_timeout() {
    let mut sim = Sim::new(3);
    let closed = Rc::new(RefCell::new(Vec::new()));
    let notes = Rc::clone(&closed);
    let config = listening("10.0.0.1:7").idle_timeout(Some(Duration::from_secs(80)));
    sim.server(&[ip("10.0.0.1")], &config, move |_| Idlers(Rc::clone(&notes))).expect("starts");
    let mut said = Vec::new();
    for i in 0..5 {
        sim.send_from(addr(&format!("10.0.1.{i}:5000")), addr("10.0.0.1:7"), b"x");
        said.push(sim.now());
        sim.run_for(Duration::from_secs(7));
    }
    sim.run_for(Duration::from_secs(200));
    let closed = closed.take();
    assert_eq!(closed.len(), 5);
    for (said, (closed, why)) in said.iter().zip(closed) {
        assert_eq!(why, CloseReason::Idle);
        let after = closed - *said;
        assert!(
            after >= Duration::from_millis(79_999) && after <= Duration::from_millis(90_010),
            "{after:?}"
        );
    }
}
