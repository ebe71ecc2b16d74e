//! When a turn is.

use std::time::Instant;

/// The time of a turn, the same for all its callbacks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) now: Instant,
    /// `now` in milliseconds since the start, for what is kept per peer: it wraps after 49 days.
    pub(crate) stamp: u32,
}

impl Moment {
    pub(crate) fn second(self) -> u32 {
        self.stamp / 1_000
    }
}
