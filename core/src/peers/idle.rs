//! Walks over the table of peers, a slice at a time: for those idle for too long, and for those of a local
//! address that went.

use std::net::IpAddr;
use std::ops::Range;
use std::time::{Duration, Instant};

use crate::time::silence::Silence;
use crate::types::datagram::SocketId;

/// Peers looked at in one step of a walk.
pub(crate) const SWEEP_STEP: u32 = 1024;

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

/// Slots passed over in one step because nobody lives there, at most: 128 KiB of bits.
const EMPTY_STEP: u32 = 1 << 20;

/// Looks for idle peers a slice at a time: a walk over the table takes an eighth of the timeout, and the next one begins
/// when the first of those that were seen may have been silent for too long. So a peer is closed at most an eighth late, no
/// turn looks at more than [`SWEEP_STEP`] of them, and where nobody is, or all spoke lately, nothing is looked at.
/// Where the shard has not handed over all that has arrived, it is put off, for a timeout at most.
pub(crate) struct IdleSweep {
    pub(crate) timeout: Duration,
    /// Where the walk goes on, and when.
    next_slot: u32,
    next_at: Instant,
    /// When this walk began.
    began: Instant,
    /// When the first of those that it has seen will have been silent for too long.
    soonest: Instant,
    silence: Silence,
}

impl IdleSweep {
    pub(crate) fn new(timeout: Duration, now: Instant) -> Self {
        let silence = Silence::new(timeout);
        Self { timeout, next_slot: 0, next_at: now + timeout / 8, began: now, soonest: now, silence }
    }

    /// When to look next, where there are so many peers.
    pub(crate) fn deadline(&self, peers: usize) -> Option<Instant> {
        (peers > 0).then_some(self.next_at)
    }

    /// When to look next.
    pub(crate) fn next_at(&self) -> Instant {
        self.next_at
    }

    /// Up to when silence can be judged: see [`Silence::judged_until`].
    pub(crate) fn judged_until(
        &mut self,
        heard: Option<Instant>,
        before: Instant,
        now: Instant,
    ) -> Option<Instant> {
        self.silence.judged_until(heard, before, now).filter(|until| self.next_at <= *until)
    }

    /// The slots to look at now, in a table of which so many were ever used.
    pub(crate) fn step(&mut self, now: Instant, extent: u32) -> Range<u32> {
        if self.next_slot == 0 {
            (self.began, self.soonest) = (now, now + self.timeout);
        }
        self.next_slot..extent.min(self.next_slot.saturating_add(EMPTY_STEP))
    }

    /// A peer that was looked at has not been silent for too long before this time.
    pub(crate) fn stays_until(&mut self, at: Instant) {
        self.soonest = self.soonest.min(at);
    }

    /// Everybody was looked at up to this slot, of so many peers and slots. The next step has its share of the time.
    pub(crate) fn looked_up_to(&mut self, slot: u32, now: Instant, peers: usize, extent: u32) {
        if slot < extent {
            let steps = (peers as u32).div_ceil(SWEEP_STEP) + extent / EMPTY_STEP;
            (self.next_slot, self.next_at) = (slot, now + self.timeout / 8 / steps.max(1));
        } else {
            (self.next_slot, self.next_at) = (0, self.soonest.max(self.began + self.timeout / 8));
            self.silence.is_judged();
        }
    }

    /// A turn had no time, or no room in the outbox, for more of the step than up to this slot: the next one goes on there.
    pub(crate) fn go_on_at(&mut self, slot: u32, now: Instant) {
        (self.next_slot, self.next_at) = (slot, now);
    }
}
