//! Load for a server that sends nothing back. The client sees in the shared tally how far the server is, and stays
//! no further ahead than all windows together, so that none has to be lost.

use std::io;
use std::time::{Duration, Instant};

use super::link::Link;
use super::{LOST_AFTER, Load, Outcome, PATIENCE, Phases, silent};
use crate::pps::child::Server;
use crate::pps::wire::{HEADER, Head, Kind};

/// Pauses between two looks at the tally while the server is behind: each takes its cache line from the server.
const SPINS: u32 = 512;

pub(super) fn run(load: &Load, server: &Server) -> io::Result<Outcome> {
    let mut link = Link::open(load, load.flows, server.address())?;
    let mut ahead = u64::from(load.flows) * u64::from(load.window);
    let count = (load.window as usize).min(link.outgoing.capacity());
    ahead = ahead.max(count as u64);
    let (mut sent, mut lost, mut flow) = (0_u64, 0_u64, 0);
    // A datagram's number does not matter to a sink: the heads are written once.
    let head = Head { kind: Kind::Load, slot: 0, flow: 0, number: 1 };
    (0..count).for_each(|at| link.outgoing.datagram(at)[..HEADER].copy_from_slice(&head.bytes()));
    let (mut last, mut heard) = (0, Instant::now());
    let mut phases = Phases::start(load);
    let mut lost_before = 0;
    loop {
        let counted = server.counted();
        if sent - lost + count as u64 <= counted + ahead {
            link.send(flow, count)?;
            sent += count as u64;
            flow = (flow + 1) % load.flows as usize;
        } else {
            (0..SPINS).for_each(|_| std::hint::spin_loop());
        }
        let now = Instant::now();
        if counted != last {
            (last, heard) = (counted, now);
        } else if now > heard + PATIENCE {
            return Err(silent());
        } else if now > heard + LOST_AFTER && sent - lost > counted {
            lost = sent - counted;
        }
        if phases.begins(now, server, counted)? {
            lost_before = lost;
        }
        if phases.is_over(now) {
            break;
        }
    }
    let outcome = phases.finish(server, server.counted())?;
    let deadline = Instant::now() + LOST_AFTER;
    while server.counted() < sent - lost && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(1));
    }
    let lost = sent.saturating_sub(server.counted()).saturating_sub(lost_before);
    Ok(Outcome { lost, ..outcome })
}
