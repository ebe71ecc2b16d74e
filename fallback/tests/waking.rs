//! A blocked shard wakes for its bell, for its neighbours and for its deadlines, and for nothing else.

mod support;

use std::time::{Duration, Instant};

use shardgram_sys::SocketOptions;
use support::{Bound, Seen, config, echo_at, job};

/// Long enough for an idle shard to be asleep.
const ASLEEP: Duration = Duration::from_millis(50);

#[test]
fn a_bell_ends_a_wait() {
    let shards = echo_at("127.0.0.1:0");
    for _ in 0..20 {
        std::thread::sleep(ASLEEP / 5);
        let (sender, done) = std::sync::mpsc::channel();
        shards.run(0, move |_, _| sender.send(()).expect("the test waits"));
        done.recv_timeout(support::PATIENCE).expect("the shard woke");
    }
    let turns = shards.stop().turns;
    assert!(turns < 100, "20 wakes took {turns} turns");
}

#[test]
fn shards_wake_each_other() {
    let bound = Bound::new(config(&["127.0.0.1:0"]).shards(3), SocketOptions::default());
    let shards = bound.start(true);
    for _ in 0..20 {
        std::thread::sleep(ASLEEP / 5);
        let (sender, done) = std::sync::mpsc::channel();
        shards.run(0, move |_, cx| {
            let pass = job(move |_, cx| {
                let end = job(move |_, _| sender.send(()).expect("the test waits"));
                assert!(cx.io.tell(2, end).is_ok());
            });
            assert!(cx.io.tell(1, pass).is_ok());
        });
        done.recv_timeout(support::PATIENCE).expect("all woke");
    }
    shards.stop();
}

#[test]
fn an_idle_shard_does_not_turn() {
    let shards = echo_at("127.0.0.1:0");
    std::thread::sleep(ASLEEP);
    let before = shards.snapshot().turns;
    std::thread::sleep(4 * ASLEEP);
    let turns = shards.snapshot().turns - before;
    assert!(turns <= 3, "{turns} turns while nothing happened");
    shards.stop();
}

#[test]
fn deadlines_are_kept_without_spinning() {
    let shards = echo_at("127.0.0.1:0");
    let before = shards.snapshot().turns;
    // Not a whole number of milliseconds: a wait that is rounded down ends before its time.
    let pause = Duration::from_micros(1_300);
    shards.run(0, move |probe, cx| {
        probe.again = (pause, 99);
        let first = cx.io.now() + pause;
        assert!(cx.io.set_timer(first, first).is_ok());
    });
    let mut lates: Vec<Duration> = (0..100)
        .map(|_| match shards.next() {
            Seen::Timer { late } => late,
            other => panic!("a timer was to fire, not {other:?}"),
        })
        .collect();
    lates.sort();
    let turns = shards.snapshot().turns - before;
    println!("late by {:?} in the median, {turns} turns", lates[50]);
    assert!(lates[50] < Duration::from_millis(3), "{lates:?}");
    assert!(turns < 150, "100 timers took {turns} turns");
    shards.stop();
}

#[test]
fn a_datagram_ends_a_wait() {
    let shards = echo_at("127.0.0.1:0");
    let client = support::client("127.0.0.1:0");
    let begin = Instant::now();
    for _ in 0..200 {
        client.send_to(b"ping", shards.address()).expect("send");
        support::receive(&client);
    }
    println!("a round trip takes {:?}", begin.elapsed() / 200);
    let turns = shards.stop().turns;
    assert!(turns < 500, "200 datagrams took {turns} turns");
}
