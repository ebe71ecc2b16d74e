//! What one shard counted of the datagrams of each interval, by when they were sent.
//!
//! An interval is over when nothing sent in it can be answered in time any more: at once if everything was
//! answered, after the timeout at the latest. So in each `sent = received + lost`, and their sum is the run.

use std::collections::VecDeque;

use hdrhistogram::Histogram;

use super::tally;

/// More intervals than can be open, for headers that lie.
const MOST_OPEN: u64 = 256;

/// The datagrams of one shard that were sent in one interval.
#[derive(Clone, Debug)]
pub(crate) struct Slice {
    /// When it ended, in ns since the run began.
    pub(crate) end_ns: u64,
    pub(crate) sent: u64,
    /// First replies in time.
    pub(crate) received: u64,
    /// First replies after the timeout, as far as they came before the interval was over.
    pub(crate) late: u64,
    /// Latency from the intended send time.
    pub(crate) latency: Histogram<u64>,
}

impl Slice {
    fn new() -> Self {
        Self { end_ns: 0, sent: 0, received: 0, late: 0, latency: tally::histogram() }
    }

    /// Adds another shard's.
    pub(crate) fn add(&mut self, other: &Self) {
        self.end_ns = self.end_ns.max(other.end_ns);
        self.sent += other.sent;
        self.received += other.received;
        self.late += other.late;
        self.latency.add(&other.latency).expect("equal bounds");
    }
}

/// Where intervals begin and end, in ns since the run began.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grid {
    pub(crate) start_ns: u64,
    pub(crate) step_ns: u64,
    pub(crate) stop_ns: u64,
    pub(crate) timeout_ns: u64,
}

impl Grid {
    /// The interval of a moment. A send that is a little late belongs to the last one.
    fn index(&self, ns: u64) -> u64 {
        let last = self.stop_ns.saturating_sub(1);
        ns.min(last).saturating_sub(self.start_ns) / self.step_ns
    }

    pub(crate) fn end_ns(&self, index: u64) -> u64 {
        (self.start_ns + (index + 1) * self.step_ns).min(self.stop_ns)
    }
}

#[derive(Debug)]
pub(crate) struct Slices {
    grid: Grid,
    /// Whether replies come to the shard that sent.
    replies: bool,
    /// The index of the first that is not over.
    first: u64,
    /// No more of them than intervals fit into the timeout, and two.
    open: VecDeque<Slice>,
}

impl Slices {
    pub(crate) fn new(grid: Grid, replies: bool) -> Self {
        Self { grid, replies, first: 0, open: VecDeque::new() }
    }

    pub(crate) fn sent(&mut self, sent_ns: u64) {
        if let Some(slice) = self.of(sent_ns) {
            slice.sent += 1;
        }
    }

    /// The slice of a datagram that was sent then; nothing if its interval is over, or further ahead than
    /// any that could be open.
    fn of(&mut self, sent_ns: u64) -> Option<&mut Slice> {
        let ahead = self.grid.index(sent_ns).checked_sub(self.first)?;
        if ahead > MOST_OPEN {
            return None;
        }
        while self.open.len() as u64 <= ahead {
            self.open.push_back(Slice::new());
        }
        self.open.get_mut(ahead as usize)
    }

    #[inline]
    pub(crate) fn received(&mut self, sent_ns: u64, latency_ns: u64) {
        if let Some(slice) = self.of(sent_ns) {
            slice.received += 1;
            slice.latency.saturating_record(latency_ns);
        }
    }

    pub(crate) fn late(&mut self, sent_ns: u64) {
        if let Some(slice) = self.of(sent_ns) {
            slice.late += 1;
        }
    }

    /// When the first one that is not over ends, and when it is over at the latest.
    pub(crate) fn next_end_ns(&self) -> (u64, u64) {
        let end_ns = self.grid.end_ns(self.first);
        (end_ns, end_ns + self.grid.timeout_ns)
    }

    /// The next one that is over, with its index. The last one is not until the end: what was due in it may
    /// be sent a little later.
    pub(crate) fn over(&mut self, now_ns: u64) -> Option<(u64, Slice)> {
        let (end_ns, latest_ns) = self.next_end_ns();
        let answered = self.replies && self.open.front().is_none_or(|slice| slice.sent == slice.received);
        let over = now_ns > latest_ns || (now_ns >= end_ns && answered);
        (over && end_ns < self.grid.stop_ns).then(|| self.take(u64::MAX))
    }

    fn start_of_first(&self) -> u64 {
        self.grid.start_ns + self.first * self.grid.step_ns
    }

    fn take(&mut self, stopped_ns: u64) -> (u64, Slice) {
        let index = self.first;
        let mut slice = self.open.pop_front().unwrap_or_else(Slice::new);
        slice.end_ns = self.grid.end_ns(index).min(stopped_ns);
        self.first += 1;
        (index, slice)
    }

    /// All that are left when nothing can come any more; those up to `stopped_ns`, and at least those in
    /// which something was sent.
    pub(crate) fn rest(&mut self, stopped_ns: u64) -> Vec<(u64, Slice)> {
        let mut rest = Vec::new();
        while self.start_of_first() < stopped_ns.min(self.grid.stop_ns) || !self.open.is_empty() {
            rest.push(self.take(stopped_ns));
        }
        rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slices() -> Slices {
        Slices::new(Grid { start_ns: 1_000, step_ns: 100, stop_ns: 1_250, timeout_ns: 150 }, true)
    }

    #[test]
    fn an_interval_is_over_when_all_of_it_is_answered() {
        let mut slices = slices();
        slices.sent(1_000);
        slices.sent(1_099);
        slices.received(1_000, 7);
        assert!(slices.over(1_100).is_none(), "one is out");
        slices.received(1_099, 9);
        assert!(slices.over(1_099).is_none(), "more may be sent");
        let (index, slice) = slices.over(1_100).expect("all is answered");
        assert_eq!((index, slice.sent, slice.received, slice.latency.max()), (0, 2, 2, 9));
    }

    #[test]
    fn what_is_lost_holds_its_interval_open_until_the_timeout() {
        let mut slices = slices();
        slices.sent(1_050);
        slices.sent(1_150);
        slices.received(1_150, 5);
        slices.late(1_050);
        assert!(slices.over(1_250).is_none());
        let over: Vec<_> = std::iter::from_fn(|| slices.over(1_251)).collect();
        let counts: Vec<_> = over.iter().map(|(i, s)| (*i, s.sent, s.received, s.late)).collect();
        assert_eq!(counts, [(0, 1, 0, 1), (1, 1, 1, 0)]);
        slices.received(1_050, 5);
        slices.sent(1_260);
        assert!(slices.over(9_999).is_none(), "the last one ends with the run");
        let rest: Vec<_> = slices.rest(9_999).into_iter().map(|(i, s)| (i, s.sent, s.received)).collect();
        assert_eq!(rest, [(2, 1, 0)]);
        assert!(slices.rest(9_999).is_empty());
    }

    #[test]
    fn what_is_left_at_the_end_is_given_out_without_holes() {
        let mut slices = slices();
        slices.sent(1_260);
        let indexes: Vec<_> = slices.rest(1_250).into_iter().map(|(i, s)| (i, s.sent)).collect();
        assert_eq!(indexes, [(0, 0), (1, 0), (2, 1)], "a send after the end belongs to the last");
        let ends: Vec<_> = self::slices().rest(1_101).into_iter().map(|(_, slice)| slice.end_ns).collect();
        assert_eq!(ends, [1_100, 1_101], "stopped early");
    }
}
