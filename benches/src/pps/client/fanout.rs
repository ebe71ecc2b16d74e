//! One flow publishes, all others listen. The next publication leaves when one has reached everybody.

use std::io;
use std::time::{Duration, Instant};

use super::ledger::latencies;
use super::link::Link;
use super::{LOST_AFTER, Latency, Load, Outcome, PATIENCE, Phases, silent};
use crate::pps::child::Server;
use crate::pps::wire::{HEADER, Head, Kind, filling};

/// How often listeners that were not heard register again.
const AGAIN: Duration = Duration::from_millis(200);

/// A publication on its way.
#[derive(Clone, Copy)]
struct Publication {
    number: u64,
    at: Instant,
    missing: u64,
}

struct Room {
    link: Link,
    listeners: usize,
    publications: Vec<Publication>,
    /// The newest number each listener has heard.
    heard: Vec<u64>,
    pattern: Vec<u8>,
    next: u64,
    outcome: Outcome,
    received: u64,
    latency: hdrhistogram::Histogram<u64>,
}

impl Room {
    fn write(&mut self, kind: Kind, slot: usize, flow: usize, number: u64) {
        let head = Head { kind, slot: slot as u16, flow: flow as u32, number };
        self.link.outgoing.datagram(0)[..HEADER].copy_from_slice(&head.bytes());
    }

    /// All listeners send something until it has come back.
    fn register(&mut self) -> io::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let mut missing = self.listeners;
        let mut known = vec![false; self.listeners];
        while missing > 0 {
            for (listener, _) in known.iter().enumerate().filter(|(_, known)| !**known) {
                self.write(Kind::Register, 0, listener, 0);
                self.link.send(listener, 1)?;
            }
            let again = Instant::now() + AGAIN;
            while missing > 0 && Instant::now() < again {
                for index in 0..self.link.ready(false)? {
                    let listener = self.link.flow(index);
                    if self.link.receive(listener, 1, false)? > 0
                        && !std::mem::replace(&mut known[listener], true)
                    {
                        missing -= 1;
                    }
                }
            }
            if Instant::now() > deadline {
                return Err(silent());
            }
        }
        Ok(())
    }

    fn publish(&mut self, slot: usize) -> io::Result<()> {
        let number = self.next;
        self.next += 1;
        self.publications[slot] = Publication { number, at: Instant::now(), missing: self.listeners as u64 };
        self.write(Kind::Publish, slot, self.listeners, number);
        self.link.send(self.listeners, 1)
    }

    fn arrive(&mut self, listener: usize, datagram: usize, now: Instant) -> io::Result<()> {
        let bytes = self.link.incoming.bytes(datagram);
        let head = Head::read(bytes);
        let intact = bytes.len() == self.pattern.len() && bytes[HEADER..] == self.pattern[HEADER..];
        let Some(head) = head.filter(|head| intact && usize::from(head.slot) < self.publications.len())
        else {
            self.outcome.corrupted += 1;
            return Ok(());
        };
        let slot = usize::from(head.slot);
        if head.kind == Kind::Register || head.number != self.publications[slot].number {
            self.outcome.duplicated += u64::from(head.kind != Kind::Register);
            return Ok(());
        }
        self.outcome.reordered += u64::from(head.number < self.heard[listener]);
        self.heard[listener] = self.heard[listener].max(head.number);
        self.received += 1;
        let latency = now.duration_since(self.publications[slot].at).as_nanos() as u64;
        self.latency.saturating_record(latency.max(1));
        let missing = &mut self.publications[slot].missing;
        *missing = missing.saturating_sub(1);
        if *missing == 0 { self.publish(slot) } else { Ok(()) }
    }

    fn turn(&mut self) -> io::Result<()> {
        for index in 0..self.link.ready(true)? {
            let listener = self.link.flow(index);
            let came = self.link.receive(listener, usize::MAX, false)?;
            let now = Instant::now();
            for datagram in 0..came {
                self.arrive(listener, datagram, now)?;
            }
        }
        Ok(())
    }

    /// Gives up publications that did not reach all.
    fn give_up(&mut self, now: Instant) -> io::Result<()> {
        for slot in 0..self.publications.len() {
            let Publication { at, missing, .. } = self.publications[slot];
            if now > at + LOST_AFTER {
                self.outcome.lost += missing;
                self.publish(slot)?;
            }
        }
        Ok(())
    }
}

pub(super) fn run(load: &Load, server: &Server) -> io::Result<Outcome> {
    let listeners = load.flows as usize;
    let window = load.window.clamp(1, 1024) as usize;
    let unused = Publication { number: 0, at: Instant::now(), missing: 0 };
    let mut room = Room {
        link: Link::open(load, load.flows + 1, server.address())?,
        listeners,
        publications: vec![unused; window],
        heard: vec![0; listeners + 1],
        pattern: (0..load.size).map(filling).collect(),
        next: 1,
        outcome: Outcome::default(),
        received: 0,
        latency: latencies(),
    };
    room.register()?;
    for slot in 0..window {
        room.publish(slot)?;
    }
    let mut phases = Phases::start(load);
    let (mut last, mut heard) = (0, Instant::now());
    loop {
        room.turn()?;
        let now = Instant::now();
        room.give_up(now)?;
        if room.received != last {
            (last, heard) = (room.received, now);
        } else if now > heard + PATIENCE {
            return Err(silent());
        }
        if phases.begins(now, server, room.received)? {
            room.latency.reset();
            room.outcome = Outcome::default();
        }
        if phases.is_over(now) {
            break;
        }
    }
    let measured = phases.finish(server, room.received)?;
    let Outcome { lost, corrupted, duplicated, reordered, .. } = room.outcome;
    let latency = Latency::of(&room.latency);
    Ok(Outcome { lost, corrupted, duplicated, reordered, latency, ..measured })
}
