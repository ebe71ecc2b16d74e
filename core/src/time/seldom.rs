//! Warnings that a remote party can bring about, and that therefore must not fill a log.

use std::time::{Duration, Instant};

/// How long such a warning keeps quiet after it was given.
const QUIET: Duration = Duration::from_secs(60);

/// Says when a warning may be given: at once, and then once a minute at most.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seldom {
    last: Option<Instant>,
    held_back: u64,
}

impl Seldom {
    /// Whether to warn now. Gives the number of occasions on which it was not warned since the last warning.
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// let (mut seldom, start) = (shardgram_core::seldom::Seldom::default(), Instant::now());
    /// assert_eq!(seldom.due(start), Some(0));
    /// assert_eq!(seldom.due(start + Duration::from_secs(59)), None);
    /// assert_eq!(seldom.due(start + Duration::from_secs(60)), Some(1));
    /// ```
    pub fn due(&mut self, now: Instant) -> Option<u64> {
        if self.last.is_some_and(|last| now.saturating_duration_since(last) < QUIET) {
            self.held_back += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.held_back))
    }
}
