//! A closed loop: each flow keeps a window of datagrams in flight.
//!
//! With a window of 1 an answer is answered at once. With larger ones, the client sends again when half of all that
//! may be in flight has come back, and then for all flows: in bursts. Without that, a server that is faster than
//! the client's calls would be handed its datagrams by ones and twos, at the client's pace, and what it spends on
//! each would tell the client's speed instead of its own.

use std::io;
use std::time::{Duration, Instant};

use super::acquaint::acquaint;
use super::ledger::Ledger;
use super::link::Link;
use super::{LOST_AFTER, Latency, Load, Outcome, PATIENCE, Phases, silent};
use crate::pps::child::Server;

/// How often it is looked for what is lost.
const LOOK: Duration = Duration::from_millis(100);
/// Flows that start before it is looked what came back, so that not all windows arrive at once.
const START: usize = 64;

struct Closed {
    link: Link,
    ledger: Ledger,
    window: usize,
    /// Flows send again when there is no more in flight than that.
    refill: usize,
    /// Flows that have free places.
    idle: Vec<usize>,
    draining: bool,
}

impl Closed {
    fn fill(&mut self, flow: usize) -> io::Result<()> {
        let mut free = self.ledger.free(flow);
        let now = self.ledger.ns(Instant::now());
        while free > 0 {
            let count = free.min(self.link.outgoing.capacity());
            for at in 0..count {
                self.ledger.depart(flow, now, self.link.outgoing.datagram(at));
            }
            self.link.send(flow, count)?;
            free -= count;
        }
        Ok(())
    }

    /// Takes what has come, and sends as much again.
    fn turn(&mut self, wait: bool) -> io::Result<()> {
        let idle = &mut self.idle;
        self.link.collect(&mut self.ledger, self.window, wait, |flow| idle.push(flow))?;
        self.fill_idle()
    }

    fn fill_idle(&mut self) -> io::Result<()> {
        if self.draining || self.ledger.in_flight() > self.refill {
            return Ok(());
        }
        let mut idle = std::mem::take(&mut self.idle);
        for flow in idle.drain(..) {
            self.fill(flow)?; // nothing, if it is here twice
        }
        self.idle = idle;
        Ok(())
    }

    fn give_up(&mut self, now: Instant) -> io::Result<()> {
        let before = self.ledger.ns(now).saturating_sub(LOST_AFTER.as_nanos() as u64);
        self.idle.extend(self.ledger.give_up(before));
        self.fill_idle()
    }
}

pub(super) fn run(load: &Load, server: &Server) -> io::Result<Outcome> {
    let window = load.window.max(1) as usize;
    let most = load.flows as usize * window;
    let mut closed = Closed {
        link: Link::open(load, load.flows, server.address())?,
        ledger: Ledger::new(load.flows, load.window, load.size),
        window,
        refill: if window == 1 { most } else { most / 2 },
        idle: Vec::new(),
        draining: false,
    };
    acquaint(&mut closed.link, &mut closed.ledger, load.flows as usize, server)?;
    for flow in 0..load.flows as usize {
        closed.fill(flow)?;
        if flow % START == START - 1 {
            closed.turn(false)?;
        }
    }
    let mut phases = Phases::start(load);
    let (mut look, mut last, mut heard) = (Instant::now() + LOOK, 0, Instant::now());
    loop {
        closed.turn(true)?;
        let now = Instant::now();
        if now >= look {
            look = now + LOOK;
            closed.give_up(now)?;
            if closed.ledger.received != last {
                (last, heard) = (closed.ledger.received, now);
            } else if now > heard + PATIENCE {
                return Err(silent());
            }
        }
        if phases.begins(now, server, closed.ledger.received)? {
            closed.ledger.begin();
        }
        if phases.is_over(now) {
            break;
        }
    }
    let outcome = phases.finish(server, closed.ledger.received)?;
    let latency = Latency::of(&closed.ledger.latency);
    drain(&mut closed)?;
    let Ledger { lost, corrupted, duplicated, reordered, .. } = closed.ledger;
    Ok(Outcome { lost, corrupted, duplicated, reordered, latency, ..outcome })
}

/// Waits for what is in flight; what does not come is lost.
fn drain(closed: &mut Closed) -> io::Result<()> {
    closed.draining = true;
    let deadline = Instant::now() + LOST_AFTER;
    while closed.ledger.in_flight() > 0 && Instant::now() < deadline {
        closed.turn(true)?;
    }
    closed.ledger.give_up(u64::MAX);
    Ok(())
}
