//! Micro benches of the timer wheel. Times of `set`, `cancel` and `fire` are of all timers together, and the counter
//! says timers for each second; `set_again` is one timer among so many. `set` touches memory of the wheel for the
//! first time, as a young shard does.

mod common;

use std::time::{Duration, Instant};

use common::Numbers;
use divan::Bencher;
use divan::counter::ItemsCount;
use shardgram_core::TimerId;
use shardgram_core::bench_support::Timers;

const TIMERS: [u64; 2] = [1_000, 1_000_000];
/// Timers are due at random times up to this one.
const SPAN_NS: u64 = 10_000_000_000;
/// Time from one look at the wheel to the next: a shard under some load.
const TURN: Duration = Duration::from_millis(1);

fn main() {
    divan::main();
}

/// Times relative to the start, in nanoseconds.
fn times(count: u64) -> Vec<u64> {
    let mut numbers = Numbers::default();
    (0..count).map(|_| 1 + numbers.below(SPAN_NS)).collect()
}

fn set_all(timers: &mut Timers, start: Instant, times: &[u64]) {
    for time in times {
        timers.set(start, start + Duration::from_nanos(*time), *time).expect("room");
    }
}

/// A wheel with so many timers, and their ids.
fn filled(start: Instant, times: &[u64]) -> (Timers, Vec<TimerId>) {
    let mut timers = Timers::new(times.len(), start);
    let set = |time: &u64| timers.set(start, start + Duration::from_nanos(*time), *time).expect("room");
    let ids = times.iter().map(set).collect();
    (timers, ids)
}

#[divan::bench(args = TIMERS, sample_count = 10, sample_size = 1)]
fn set(bencher: Bencher<'_, '_>, count: u64) {
    let (start, times) = (Instant::now(), times(count));
    bencher
        .counter(ItemsCount::new(count))
        .with_inputs(|| Timers::new(times.len(), start))
        .bench_local_refs(|timers| set_all(timers, start, &times));
}

#[divan::bench(args = TIMERS, sample_count = 10, sample_size = 1)]
fn cancel(bencher: Bencher<'_, '_>, count: u64) {
    let (start, times) = (Instant::now(), times(count));
    bencher.counter(ItemsCount::new(count)).with_inputs(|| filled(start, &times)).bench_local_refs(
        |(timers, ids)| {
            for id in ids {
                timers.cancel(*id).expect("set");
            }
        },
    );
}

/// Each in its time, with a look at the next deadline each turn.
#[divan::bench(args = TIMERS, sample_count = 10, sample_size = 1)]
fn fire(bencher: Bencher<'_, '_>, count: u64) {
    let (start, times) = (Instant::now(), times(count));
    bencher.counter(ItemsCount::new(count)).with_inputs(|| filled(start, &times)).bench_local_refs(
        |(timers, _)| {
            let (mut now, mut fired) = (start, 0);
            while timers.next_deadline().is_some() {
                now += TURN;
                fired += std::iter::from_fn(|| timers.fire(now)).count() as u64;
            }
            assert_eq!(fired, count);
        },
    );
}

/// Takes a timer back and sets it later, as one does with every datagram of a peer.
#[divan::bench(args = TIMERS)]
fn set_again(bencher: Bencher<'_, '_>, count: u64) {
    let (start, times) = (Instant::now(), times(count));
    let (mut timers, mut ids) = filled(start, &times);
    let mut numbers = Numbers::default();
    bencher.bench_local(|| {
        let id = &mut ids[numbers.below(count) as usize];
        let time = timers.cancel(*id).expect("set");
        *id = timers.set(start, start + Duration::from_nanos(SPAN_NS + time), time).expect("room");
    });
}
