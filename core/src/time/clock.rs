//! Time as an argument.
//!
//! Nothing in this crate reads a clock. A driver says what time it is ([`crate::driver::Driver::now`]),
//! once a turn; the simulator says it too, and there it is a virtual one. Between slices of work it is asked again, which
//! only ends work: callbacks see the time of the turn ([`crate::Io::now`]).

use std::time::{Duration, Instant};

use crate::time::moment::Moment;

/// Milliseconds since a shard began, for the coarse stamps that are kept per peer.
///
/// 32 bits of milliseconds last 49 days and wrap; [`CoarseClock::since`] is right as long as the time
/// asked about is less than that ago.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CoarseClock {
    start: Instant,
}

impl CoarseClock {
    pub(crate) fn new(start: Instant) -> Self {
        Self { start }
    }

    #[inline]
    pub(crate) fn at(&self, now: Instant) -> Moment {
        Moment { now, stamp: self.stamp(now) }
    }

    #[inline]
    fn stamp(&self, now: Instant) -> u32 {
        now.saturating_duration_since(self.start).as_millis() as u32
    }

    pub(crate) fn since(&self, stamp: u32, now: Instant) -> Duration {
        Duration::from_millis(u64::from(self.stamp(now).wrapping_sub(stamp)))
    }
}
