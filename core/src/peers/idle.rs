//! Walks over the table of peers, a slice at a time: for those idle for too long, and for those of a local
//! address that went.

use std::net::IpAddr;
use std::ops::Range;
use std::time::{Duration, Instant};

use crate::types::datagram::SocketId;

/// Peers looked at in one step of a walk.
const SWEEP_STEP: u32 = 1024;

/// A local address that went, and how far the search for its peers has come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gone {
    pub(crate) socket: SocketId,
    pub(crate) ip: IpAddr,
    pub(crate) next_slot: u32,
}

impl Gone {
    /// The slots to look at next, `None` when all have been.
    pub(crate) fn step(&mut self, extent: u32) -> Option<Range<u32>> {
        let start = self.next_slot;
        self.next_slot = start.saturating_add(SWEEP_STEP).min(extent);
        (start < extent).then_some(start..self.next_slot)
    }
}

/// Looks for idle peers a slice at a time: the whole table eight times in one timeout, so that a peer is
/// closed at most an eighth late and no turn looks at more than [`SWEEP_STEP`] of them.
pub(crate) struct IdleSweep {
    pub(crate) timeout: Duration,
    next_slot: u32,
    next_at: Instant,
}

impl IdleSweep {
    pub(crate) fn new(timeout: Duration, now: Instant) -> Self {
        Self { timeout, next_slot: 0, next_at: now + timeout / 8 }
    }

    pub(crate) fn deadline(&self, extent: u32) -> Option<Instant> {
        (extent > 0).then_some(self.next_at)
    }

    pub(crate) fn due(&mut self, now: Instant, extent: u32) -> Option<Range<u32>> {
        if now < self.next_at {
            return None;
        }
        let steps = extent.div_ceil(SWEEP_STEP).max(1);
        self.next_at = now + self.timeout / 8 / steps;
        let start = if self.next_slot >= extent { 0 } else { self.next_slot };
        let end = (start + SWEEP_STEP).min(extent);
        self.next_slot = end;
        Some(start..end)
    }

    /// A turn had no time, or no room in the outbox, for more of the step than up to this slot: the next one goes on there.
    pub(crate) fn go_on_at(&mut self, slot: u32, now: Instant) {
        (self.next_slot, self.next_at) = (slot, now);
    }
}
