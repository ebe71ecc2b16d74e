//! When to look which peers have been idle for too long.

use std::ops::Range;
use std::time::{Duration, Instant};

/// Peers looked at in one step of the search for idle ones.
const SWEEP_STEP: u32 = 1024;
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
}
