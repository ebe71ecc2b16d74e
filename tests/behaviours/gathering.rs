//! A peer that sends several datagrams in a row is given time to send more: the shard does not wake up before that time is
//! over. Who sends one datagram and waits is not kept waiting.

use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

use crate::common::gate::{Gate, STALL};
use crate::common::{Bed, PATIENCE, loopback, skip};
use shardgram::{Accept, Backend, Context, Datagram, Handler, PeerId};

/// As long as it can be, so that it is told from what a busy machine takes.
const GATHERS: Duration = Duration::from_millis(10);
const ROUNDS: usize = 20;

/// Tells when it sees what.
struct Watcher {
    gate: Gate,
    tell: Sender<(u8, Instant)>,
}

impl Handler for Watcher {
    type Peer = ();
    type Timer = ();
    type Message = ();

    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
        Accept::Peer(())
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, _: PeerId, datagram: Datagram<'_>) {
        if &datagram[..] == STALL {
            return self.gate.pass();
        }
        // A test that has what it wants listens no more.
        let _ = self.tell.send((datagram[0], cx.io.now()));
    }
}

fn next(seen: &Receiver<(u8, Instant)>, number: u8) -> Instant {
    let (came, at) = seen.recv_timeout(PATIENCE).expect("a datagram comes");
    assert_eq!(came, number);
    at
}

/// From two datagrams in a row to the next one, and from that to one more: the shortest times in which the shard sees
/// what is sent as soon as it has seen what came before.
fn shortest(bed: &mut Bed, gather_us: u32) -> [Duration; 2] {
    let (gate, (tell, seen)) = (Gate::default(), mpsc::channel());
    let behind = gate.clone();
    // What is in a row is in one turn, and the stall is no reason to end that early.
    let config = loopback().gather_us(gather_us).turn_time_us(1_000_000).idle_timeout(None);
    let server = bed.serve(config, move |_| Watcher { gate: behind.clone(), tell: tell.clone() });
    let at = bed.address(&server);
    let (slow, peer) = (bed.peer(at), bed.peer(at));
    let mut shortest = [Duration::MAX; 2];
    for _ in 0..ROUNDS {
        bed.send(&slow, at, STALL);
        gate.is_stalled();
        (0..2).for_each(|n| bed.send(&peer, at, &[n]));
        gate.open();
        next(&seen, 0);
        let mut last = next(&seen, 1);
        for (n, shortest) in (2..).zip(&mut shortest) {
            bed.send(&peer, at, &[n]);
            let now = next(&seen, n);
            // What comes while the turn still lasts is handled in it, so there was no sleep that could have been long.
            if n != 2 || now > last {
                *shortest = (*shortest).min(now - last);
            }
            last = now;
        }
    }
    bed.drain(server);
    shortest
}

fn who_sends_in_a_row_is_given_time_and_nobody_else(mut bed: Bed) {
    if matches!(bed, Bed::Real(Backend::Uring)) && !waits_for_many() {
        return skip::record("before Linux 6.12 io_uring does not wait for many");
    }
    let [after_two, after_one] = shortest(&mut bed, GATHERS.as_micros() as u32);
    println!("{after_two:?} after two in a row, {after_one:?} after one");
    assert!(after_two >= GATHERS, "{after_two:?}");
    assert!(after_one < GATHERS, "{after_one:?}");
    let [after_two, _] = shortest(&mut bed, 0);
    assert!(after_two < GATHERS, "{after_two:?} where it is off");
}

/// `min_wait_usec` of io_uring_enter(2).
fn waits_for_many() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("proc is mounted");
    let mut numbers = release.split(['.', '-']).map_while(|number| number.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(6), Some(12))
}

on_real_drivers!(who_sends_in_a_row_is_given_time_and_nobody_else);
