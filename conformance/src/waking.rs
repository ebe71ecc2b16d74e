//! A shard that rests wakes for its bell, for its neighbours, for its deadlines and for datagrams, and for nothing else.
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use super::{Bed, Echo, loopback};
use shardgram_core::{Accept, Context, Datagram, Handler, Origin};

/// Long enough for an idle shard to be asleep.
const ASLEEP: Duration = Duration::from_millis(50);

enum Order {
    /// Hand it on to the last shard, which says that it was there.
    Pass(Sender<()>),
    /// Set this timer so often, each when the last one fired; say how late each was.
    Tick(Duration, u32, Sender<Duration>),
}

struct Sleeper;

impl Handler for Sleeper {
    type Peer = ();
    type Timer = (Instant, Duration, u32, Sender<Duration>);
    type Message = Order;

    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
        Accept::Drop("not asked")
    }

    fn on_message(&mut self, cx: &mut Context<'_, Self>, _: Origin, order: Order) {
        let next = cx.io.shard() + 1;
        match order {
            Order::Pass(end) if next == cx.io.shards() => end.send(()).unwrap(),
            pass @ Order::Pass(_) => assert!(cx.io.tell(next, pass).is_ok()),
            Order::Tick(pause, times, late) => {
                let at = cx.io.now() + pause;
                assert!(cx.io.set_timer(at, (at, pause, times, late)).is_ok());
            }
        }
    }

    fn on_timer(&mut self, cx: &mut Context<'_, Self>, (due, pause, times, late): Self::Timer) {
        let now = cx.io.now();
        let _ = late.send(now.checked_duration_since(due).expect("a timer never fires early"));
        if times > 1 {
            assert!(cx.io.set_timer(now + pause, (now + pause, pause, times - 1, late)).is_ok());
        }
    }
}

pub fn a_bell_ends_a_rest<B: Bed>(mut bed: B) {
    let server = bed.serve(loopback(), |_| Sleeper);
    for _ in 0..20 {
        bed.pass(ASLEEP / 5);
        let (sender, done) = channel();
        bed.tell(&server, 0, Order::Pass(sender));
        bed.hear(&done);
    }
    let turns = bed.drain(server).turns;
    assert!(turns < 100, "20 wakes took {turns} turns");
}

pub fn shards_wake_each_other<B: Bed>(mut bed: B) {
    let server = bed.serve(loopback().shards(3), |_| Sleeper);
    for _ in 0..20 {
        bed.pass(ASLEEP / 5);
        let (sender, done) = channel();
        bed.tell(&server, 0, Order::Pass(sender));
        bed.hear(&done);
    }
    let stats = bed.drain(server);
    assert_eq!(stats.messages, 60);
    assert!(stats.turns < 300, "20 rounds took {} turns", stats.turns);
}

pub fn an_idle_shard_takes_no_turns<B: Bed>(mut bed: B) {
    let server = bed.serve(loopback().idle_timeout(None), |_| Echo);
    bed.pass(ASLEEP);
    let before = bed.stats(&server).turns;
    bed.pass(4 * ASLEEP);
    let turns = bed.stats(&server).turns - before;
    assert!(turns <= 3, "{turns} turns while nothing happened");
    bed.drain(server);
}

pub fn deadlines_are_kept_without_spinning<B: Bed>(mut bed: B) {
    let server = bed.serve(loopback(), |_| Sleeper);
    let before = bed.stats(&server).turns;
    let (sender, fired) = channel();
    // Not a whole number of milliseconds: a rest that is rounded down ends before its time.
    bed.tell(&server, 0, Order::Tick(Duration::from_micros(1_300), 100, sender));
    let mut late: Vec<_> = (0..100).map(|_| bed.hear(&fired)).collect();
    late.sort();
    let turns = bed.stats(&server).turns - before;
    println!("late by {:?} in the median, {turns} turns", late[50]);
    assert!(late[50] < Duration::from_millis(3), "{late:?}");
    assert!(turns < 150, "100 timers took {turns} turns");
    bed.drain(server);
}

pub fn a_datagram_ends_a_rest<B: Bed>(mut bed: B) {
    let server = bed.serve(loopback(), |_| Echo);
    let at = bed.address(&server);
    let peer = bed.peer(at);
    for _ in 0..200 {
        assert_eq!(bed.ask(&peer, at, b"ping"), b"ping");
    }
    let turns = bed.drain(server).turns;
    assert!(turns < 500, "200 datagrams took {turns} turns");
}
