//! Timers fire in order and never early, under load too; a cancelled one and a closed peer's never fire.
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use super::{Bed, loopback};
use shardgram_core::{Accept, Context, Datagram, Handler, PeerId, TimerId};

struct Fired {
    number: u32,
    asked: Instant,
    at: Instant,
}

/// Sets a thousand timers when told to start, while datagrams keep coming.
struct Clockwork {
    fired: Sender<Fired>,
    cancelled: Option<TimerId>,
}

struct Tick {
    number: u32,
    asked: Instant,
}

const TIMERS: u32 = 1000;
const NEVER: u32 = u32::MAX;
/// Far enough for a slow host to cancel it in time.
const TO_BE_CANCELLED: Duration = Duration::from_millis(500);

impl Handler for Clockwork {
    type Peer = ();
    type Timer = Tick;
    type Message = ();

    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
        Accept::Peer(())
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, from: PeerId, datagram: Datagram<'_>) {
        let now = cx.io.now();
        match &datagram[..] {
            b"start" => {
                for number in 0..TIMERS {
                    // Deadlines go back and forth, from 1 to 100 ms.
                    let asked = now + Duration::from_micros(1000 + u64::from(number * 7919 % 99_000));
                    assert!(cx.io.set_timer(asked, Tick { number, asked }).is_ok());
                }
            }
            b"to be cancelled" => {
                let asked = now + TO_BE_CANCELLED;
                self.cancelled = cx.io.set_timer(asked, Tick { number: NEVER, asked }).ok();
            }
            b"cancel" => {
                let id = self.cancelled.unwrap();
                assert_eq!(cx.io.cancel(id).map(|tick| tick.number), Some(NEVER));
                assert!(cx.io.cancel(id).is_none(), "once is all");
            }
            b"close" => {
                let asked = now + Duration::from_millis(1);
                assert!(cx.io.set_peer_timer(from, asked, Tick { number: NEVER, asked }).is_ok());
                cx.io.close(from);
            }
            _ => {}
        }
        let len = datagram.len();
        cx.io.reply(datagram, len).unwrap();
    }

    fn on_timer(&mut self, cx: &mut Context<'_, Self>, tick: Tick) {
        let _ = self.fired.send(Fired { number: tick.number, asked: tick.asked, at: cx.io.now() });
    }
}

pub fn they_fire_in_order_and_never_early<B: Bed>(mut bed: B) {
    let (sender, receiver) = channel();
    let config = loopback().max_timers(TIMERS + 2);
    let server = bed.serve(config, move |_| Clockwork { fired: sender.clone(), cancelled: None });
    let at = bed.address(&server);
    let (peer, passing) = (bed.peer(at), bed.peer(at));
    bed.ask(&peer, at, b"to be cancelled");
    bed.ask(&peer, at, b"cancel");
    bed.ask(&peer, at, b"start");
    bed.ask(&passing, at, b"close");
    let mut fired = Vec::new();
    bed.until("all timers fire", |bed| {
        bed.ask(&peer, at, b"load");
        fired.extend(receiver.try_iter());
        fired.len() >= TIMERS as usize
    });
    bed.pass(TO_BE_CANCELLED);
    fired.extend(receiver.try_iter());
    assert_eq!(fired.len(), TIMERS as usize, "each once, the cancelled one and the closed peer's never");
    assert!(fired.iter().all(|f| f.at >= f.asked), "never early");
    let slack = Duration::from_micros(2);
    assert!(fired.windows(2).all(|w| w[1].asked + slack >= w[0].asked || w[1].at > w[0].at), "in order");
    let mut numbers: Vec<_> = fired.iter().map(|f| f.number).collect();
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq(0..TIMERS));
    let stats = bed.drain(server);
    assert_eq!((stats.timers_fired, stats.restarts), (u64::from(TIMERS), 0));
}

/// Sets a timer at its start and nothing else happens.
struct Alarm(Sender<Duration>);

impl Handler for Alarm {
    type Peer = ();
    type Timer = Instant;
    type Message = ();

    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
        Accept::Done
    }

    fn on_start(&mut self, cx: &mut Context<'_, Self>) {
        let now = cx.io.now();
        cx.io.set_timer(now + Duration::from_millis(30), now).unwrap_or_else(|_| panic!("there is room"));
    }

    fn on_timer(&mut self, cx: &mut Context<'_, Self>, set: Instant) {
        let _ = self.0.send(cx.io.now() - set);
    }
}

pub fn a_sleeping_shard_wakes_for_its_timer<B: Bed>(mut bed: B) {
    let (sender, receiver) = channel();
    let server = bed.serve(loopback(), move |_| Alarm(sender.clone()));
    let mut after = None;
    bed.until("the timer fires", |_| {
        after = receiver.try_iter().next();
        after.is_some()
    });
    assert!(after.unwrap() >= Duration::from_millis(30));
    let stats = bed.drain(server);
    assert!(stats.turns < 50, "it slept, and did not spin: {} turns", stats.turns);
}

pub fn a_full_wheel_gives_the_timer_back<B: Bed>(mut bed: B) {
    struct Greedy(Sender<(usize, u32)>);
    impl Handler for Greedy {
        type Peer = ();
        type Timer = u32;
        type Message = ();
        fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
            Accept::Done
        }
        fn on_start(&mut self, cx: &mut Context<'_, Self>) {
            let at = cx.io.now() + Duration::from_secs(60);
            let refused: Vec<_> = (0..10).filter_map(|i| cx.io.set_timer(at, i).err()).collect();
            let _ = self.0.send((refused.len(), refused[0].0));
        }
    }
    let (sender, receiver) = channel();
    let server = bed.serve(loopback().max_timers(7), move |_| Greedy(sender.clone()));
    assert_eq!(bed.hear(&receiver), (3, 7));
    bed.drain(server);
}
