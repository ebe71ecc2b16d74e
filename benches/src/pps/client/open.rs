//! An open loop: datagrams leave when they are due, whatever has come back. Latency is taken from the moment a
//! datagram was due, so that a server that stalls cannot hide it.

use std::io;
use std::time::{Duration, Instant};

use super::acquaint::acquaint;
use super::ledger::Ledger;
use super::link::Link;
use super::{LOST_AFTER, Latency, Load, Outcome, PATIENCE, Phases, silent};
use crate::pps::child::Server;

/// Datagrams of a flow in flight, at most; one more that is due is lost.
const PLACES: u32 = 4096;
/// How often it is looked for what is lost.
const LOOK: Duration = Duration::from_millis(100);
/// Datagrams that leave before it is looked what came back.
const BURST: u64 = 64;

struct Open {
    link: Link,
    ledger: Ledger,
    flows: u64,
    interval_ns: f64,
    due: u64,
    /// Datagrams that were due and found no place.
    refused: u64,
}

impl Open {
    fn receive(&mut self) -> io::Result<()> {
        self.link.collect(&mut self.ledger, usize::MAX, false, |_| ())
    }

    /// Sends what is due by now, a burst at most, one flow after the other.
    fn send(&mut self, start_ns: u64) -> io::Result<()> {
        let now = self.ledger.ns(Instant::now());
        for _ in 0..BURST {
            let due_ns = start_ns + (self.due as f64 * self.interval_ns) as u64;
            if due_ns > now {
                break;
            }
            let flow = (self.due % self.flows) as usize;
            self.due += 1;
            if self.ledger.depart(flow, due_ns, self.link.outgoing.datagram(0)) {
                self.link.send(flow, 1)?;
            } else {
                self.refused += 1;
            }
        }
        Ok(())
    }
}

pub(super) fn run(load: &Load, rate: u64, server: &Server) -> io::Result<Outcome> {
    let mut open = Open {
        link: Link::open(load, load.flows, server.address())?,
        ledger: Ledger::new(load.flows, PLACES, load.size),
        flows: u64::from(load.flows),
        interval_ns: 1e9 / rate.max(1) as f64,
        due: 0,
        refused: 0,
    };
    acquaint(&mut open.link, &mut open.ledger, load.flows as usize, server)?;
    let start = open.ledger.ns(Instant::now());
    let mut phases = Phases::start(load);
    let (mut look, mut last, mut heard) = (Instant::now() + LOOK, 0, Instant::now());
    loop {
        open.send(start)?;
        open.receive()?;
        let now = Instant::now();
        if now >= look {
            look = now + LOOK;
            let before = open.ledger.ns(now).saturating_sub(LOST_AFTER.as_nanos() as u64);
            open.ledger.give_up(before);
            if open.ledger.received != last {
                (last, heard) = (open.ledger.received, now);
            } else if now > heard + PATIENCE {
                return Err(silent());
            }
        }
        if phases.begins(now, server, open.ledger.received)? {
            open.ledger.begin();
            open.refused = 0;
        }
        if phases.is_over(now) {
            break;
        }
    }
    let outcome = phases.finish(server, open.ledger.received)?;
    let deadline = Instant::now() + LOST_AFTER;
    while open.ledger.in_flight() > 0 && Instant::now() < deadline {
        open.receive()?;
    }
    open.ledger.give_up(u64::MAX);
    // What came while it was waited belongs to it: it was due before, and late.
    let latency = Latency::of(&open.ledger.latency);
    let Ledger { lost, corrupted, duplicated, reordered, .. } = open.ledger;
    Ok(Outcome { lost: lost + open.refused, corrupted, duplicated, reordered, latency, ..outcome })
}
