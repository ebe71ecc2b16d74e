//! How much is handed over before the time is looked at again.
//!
//! Datagrams of a train count one by one, and a train that a handler takes whole counts as one. Where callbacks are
//! slow the rest of a train waits too: 64 datagrams of 100 us would otherwise keep everybody waiting for 6 ms.

/// Callbacks that datagrams and whole trains had, and how many there may have been.
#[derive(Debug)]
pub(crate) struct Quota {
    handled: u64,
    /// So many before another arrival is handed over.
    enough: u64,
    /// So many before the next datagram of a train.
    cut: u64,
}

impl Default for Quota {
    fn default() -> Self {
        Self { handled: 0, enough: u64::MAX, cut: u64::MAX }
    }
}

impl Quota {
    /// All there ever were.
    #[inline]
    pub(crate) fn handled(&self) -> u64 {
        self.handled
    }

    #[inline]
    pub(crate) fn count_one(&mut self) {
        self.handled += 1;
    }

    /// Whether no other arrival may be handed over.
    #[inline]
    pub(crate) fn is_over(&self) -> bool {
        self.handled >= self.enough
    }

    /// Whether the rest of a train has to wait.
    #[inline]
    pub(crate) fn cuts_trains(&self) -> bool {
        self.handled >= self.cut
    }

    /// So many datagrams may be handed over, at least one, before the time is looked at. Where that is `strict` the rest of a
    /// train waits, like whatever the outbox has no room for.
    #[inline]
    pub(crate) fn limit(&mut self, datagrams: usize, strict: bool) {
        self.enough = self.handled + datagrams.max(1) as u64;
        self.cut = if strict { self.enough } else { u64::MAX };
    }

    /// There is no limit any more. Whether it was reached.
    #[inline]
    pub(crate) fn lift(&mut self) -> bool {
        self.cut = u64::MAX;
        self.handled >= std::mem::replace(&mut self.enough, u64::MAX)
    }
}
