//! A flood that was begun, and how far it has to be.

use std::time::Duration;

use shardgram_sim::FloodId;

/// A flood that was begun, and what is known of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Torrent {
    pub(crate) id: FloodId,
    pub(crate) began: Duration,
    pub(crate) per_second: u64,
    /// How many datagrams it is to have. None if it goes on until it is ended.
    pub(crate) count: Option<u64>,
    pub(crate) ended: bool,
}

impl Torrent {
    /// How many it has sent after so much time: one at once, and then one for each interval that has passed.
    pub(crate) fn due(&self, elapsed: Duration) -> u64 {
        let since = elapsed.saturating_sub(self.began).as_nanos();
        let due = 1 + since * u128::from(self.per_second) / 1_000_000_000;
        u64::try_from(due).unwrap_or(u64::MAX).min(self.count.unwrap_or(u64::MAX))
    }
}
