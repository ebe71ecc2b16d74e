//! How much of one kind of work is done in a turn, as far as time goes: datagrams, mail, names and timers each have
//! their share ([`crate::Config::turn_time_us`]).
//!
//! Handlers differ a thousandfold in what a callback takes, so a number of callbacks bounds a turn badly. To ask for the
//! time after each would cost quick ones more than they take. So work is done in slices, after each of which the
//! time is looked at, and slices are as long as what was learned allows: at the pace of late, one takes half of what
//! is left of the share, and is at most twice as long as the one before. A callback that is slower than those before it
//! makes a turn late by a slice at most.
//!
//! What belongs together, the datagrams of a train, is one item where items are quick, and several where they were slow in
//! two slices in a row: one slice may have been interrupted.
//!
//! A turn with little to do is over before its first slice is, and costs no look at the time. How long its work took is
//! then measured every [`UNMEASURED`] turns, or in each turn as long as it is slow.

use std::time::{Duration, Instant};

/// The first slice of quick work.
const FIRST: usize = 16;
/// Turns in a row of which the work is not measured, because it is known to be quick and was little.
const UNMEASURED: u8 = 32;

/// The pace of one kind of work.
#[derive(Debug)]
pub(crate) struct Pace {
    /// Its share of a turn, in nanoseconds.
    share: u64,
    /// What one item takes, in nanoseconds, nought before anything is known: at once what is slower than was thought, and
    /// what is quicker little by little, a step in a turn, since slow work may come among quick.
    item: u64,
    /// What one took in the last slice.
    last: u64,
    /// Items were slow in two slices in a row, which is not for once having been interrupted.
    slow: bool,
    /// With how many items a turn begins.
    first: usize,
    /// Turns since something was measured.
    unmeasured: u8,
    /// When this turn's work began, if it is known, and when the last slice ended.
    began: Option<Instant>,
    mark: Option<Instant>,
    slice: usize,
    /// Nothing was measured in this turn yet.
    fresh: bool,
    /// Items of this slice that were reported one by one.
    done: usize,
}

impl Pace {
    /// Nothing is known of the work yet, so the first turn begins with a single item.
    pub(crate) fn new(share: Duration) -> Self {
        let share = nanoseconds(share);
        Self {
            share,
            item: 0,
            last: 0,
            slow: false,
            first: 1,
            unmeasured: 0,
            began: None,
            mark: None,
            slice: 1,
            fresh: true,
            done: 0,
        }
    }

    /// A turn's work begins; at this time, if that is known without a look at the clock.
    #[inline]
    pub(crate) fn begin(&mut self, at: Option<Instant>) {
        (self.began, self.mark, self.slice, self.fresh, self.done) = (at, at, self.first, true, 0);
    }

    /// The same for work whose beginning is known to nobody: the clock is asked where the work is to be measured.
    #[inline]
    pub(crate) fn begin_by(&mut self, clock: impl FnOnce() -> Instant) {
        let at = if self.is_to_be_measured() { Some(clock()) } else { None };
        self.begin(at);
    }

    /// How many items may be done before the next question.
    #[inline]
    pub(crate) fn slice(&self) -> usize {
        self.slice
    }

    /// Whether items are known to be slow: then not even what belongs together is to be done in one go.
    #[inline]
    pub(crate) fn is_slow(&self) -> bool {
        self.slow
    }

    /// So many items were done. Whether to go on: `more` says whether anything may be left.
    #[inline]
    pub(crate) fn goes_on(&mut self, items: usize, more: bool, clock: impl FnOnce() -> Instant) -> bool {
        if !more {
            if items == 0 {
                return false;
            }
            self.unmeasured = self.unmeasured.saturating_add(1);
            if !self.is_to_be_measured() {
                return false;
            }
        }
        self.measure(items, clock()) && more
    }

    /// The same after each item, for work that is done one by one; [`Pace::ends`] follows when nothing is left.
    #[inline]
    pub(crate) fn goes_on_after_one(&mut self, clock: impl FnOnce() -> Instant) -> bool {
        self.goes_on_after(1, clock)
    }

    /// The same after a few items that were done as one.
    #[inline]
    pub(crate) fn goes_on_after(&mut self, items: usize, clock: impl FnOnce() -> Instant) -> bool {
        self.done += items;
        if self.done < self.slice {
            return true;
        }
        let done = std::mem::take(&mut self.done);
        self.goes_on(done, true, clock)
    }

    /// Nothing is left of work that is done one by one.
    #[inline]
    pub(crate) fn ends(&mut self, clock: impl FnOnce() -> Instant) {
        let done = std::mem::take(&mut self.done);
        self.goes_on(done, false, clock);
    }

    #[inline]
    fn is_to_be_measured(&self) -> bool {
        self.first < FIRST || self.unmeasured >= UNMEASURED
    }

    /// Learns from the last slice. Whether there is time for another.
    #[inline(never)]
    fn measure(&mut self, items: usize, now: Instant) -> bool {
        let Some(mark) = self.mark.replace(now) else {
            self.began = Some(now);
            return true;
        };
        self.unmeasured = 0;
        let slice = nanoseconds(now.saturating_duration_since(mark));
        let took = slice / (items.max(1) as u64);
        let forgotten = if std::mem::take(&mut self.fresh) { self.item / 4 } else { 0 };
        self.item = took.max(self.item - forgotten).max(1);
        self.first = fit(self.share, self.item).min(FIRST);
        let least = took.min(std::mem::replace(&mut self.last, took));
        self.slow = fit(self.share, least) < FIRST;
        // The first slice is all of it, and another difference would cost as much as all else here.
        let so_far = match self.began {
            Some(began) if began != mark => nanoseconds(now.saturating_duration_since(began)),
            _ => slice,
        };
        let left = self.share.saturating_sub(so_far);
        self.slice = fit(left, self.item).min(self.slice.saturating_mul(2));
        left > 0
    }
}

/// How many items, at least one, fit into half of a time.
fn fit(time: u64, item: u64) -> usize {
    usize::try_from(time / (2 * item).max(1)).unwrap_or(usize::MAX).max(1)
}

fn nanoseconds(time: Duration) -> u64 {
    time.as_secs().saturating_mul(1_000_000_000).saturating_add(u64::from(time.subsec_nanos()))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const SHARE: Duration = Duration::from_micros(500);

    /// A turn of this much work, where each item takes so long: how many were done, how long it took, and how often the
    /// clock was asked.
    fn turn(pace: &mut Pace, work: usize, each: impl Fn(usize) -> Duration) -> (usize, Duration, u32) {
        let (start, time, asked) = (Instant::now(), Cell::new(Duration::ZERO), Cell::new(0));
        let clock = || {
            asked.set(asked.get() + 1);
            start + time.get()
        };
        let mut done = 0;
        pace.begin(Some(start));
        loop {
            let items = pace.slice().min(work - done);
            (done..done + items).for_each(|at| time.set(time.get() + each(at)));
            done += items;
            if !pace.goes_on(items, items > 0 && done < work, clock) {
                return (done, time.get(), asked.get());
            }
        }
    }

    fn micros(count: u64) -> Duration {
        Duration::from_micros(count)
    }

    #[test]
    fn slow_work_keeps_to_its_share() {
        let mut pace = Pace::new(SHARE);
        for each in [20, 50, 100, 499, 2_000] {
            let times: Vec<_> = (0..10).map(|_| turn(&mut pace, 64, |_| micros(each)).1).collect();
            let most = SHARE + micros(each);
            assert!(times[1..].iter().all(|time| *time <= most), "{each} us each: {times:?}");
            assert!(times[1..].iter().all(|time| *time >= SHARE), "and uses it: {times:?}");
        }
    }

    #[test]
    fn quick_work_is_bounded_by_its_budget_alone_and_seldom_measured() {
        let mut pace = Pace::new(SHARE);
        for _ in 0..40 {
            turn(&mut pace, 64, |_| Duration::from_nanos(500));
        }
        assert_eq!(turn(&mut pace, 64, |_| Duration::from_nanos(500)), (64, micros(32), 2));
        let little: Vec<u32> =
            (0..330).map(|_| turn(&mut pace, 3, |_| Duration::from_nanos(500)).2).collect();
        assert_eq!(little.iter().sum::<u32>(), 10);
    }

    #[test]
    fn work_that_becomes_slow_is_noticed_after_a_slice() {
        let mut pace = Pace::new(SHARE);
        for _ in 0..40 {
            turn(&mut pace, 64, |_| Duration::from_nanos(500));
        }
        let (done, ..) = turn(&mut pace, 64, |_| micros(100));
        assert_eq!(done, FIRST);
        assert_eq!(turn(&mut pace, 64, |_| micros(100)).0, 5);
        // So little that no slice is ever filled: it is measured now and then.
        let mut pace = Pace::new(SHARE);
        for _ in 0..40 {
            turn(&mut pace, 64, |_| Duration::from_nanos(500));
        }
        let turns: Vec<usize> = (0..40).map(|_| turn(&mut pace, 15, |_| micros(100)).0).collect();
        assert_eq!(turns[35..], [5; 5], "{turns:?}");
    }

    #[test]
    fn slow_work_among_quick_is_expected_again() {
        let mut pace = Pace::new(SHARE);
        for _ in 0..40 {
            turn(&mut pace, 64, |_| Duration::from_nanos(500));
        }
        // Whoever sends both in turn: a slice in which quick ones are followed by slow ones is late once.
        let each = |at: usize| if at < 20 { micros(1) } else { micros(200) };
        let late: Vec<_> =
            (0..20).map(|_| turn(&mut pace, 1_000, each).1).filter(|time| *time > 2 * SHARE).collect();
        assert_eq!(late.len(), 1, "{late:?}");
    }

    #[test]
    fn one_item_is_done_in_each_turn_however_long_it_takes() {
        let mut pace = Pace::new(SHARE);
        for _ in 0..5 {
            assert_eq!(turn(&mut pace, 9, |_| micros(1_000_000)).0, 1);
        }
        let recovered = (0..60).find(|_| turn(&mut pace, 64, |_| micros(1)).0 == 64);
        assert!(recovered.is_some(), "and is forgotten again");
    }

    #[test]
    fn work_without_a_known_beginning_is_timed_from_its_first_slice() {
        let mut pace = Pace::new(SHARE);
        let start = Instant::now();
        pace.begin_by(|| start);
        assert!(pace.began.is_some(), "nothing is known of it");
        for _ in 0..40 {
            pace.begin(Some(start));
            assert!(pace.goes_on(1, true, || start + micros(1)));
        }
        pace.begin_by(|| unreachable!("it is quick"));
        assert_eq!(pace.slice(), FIRST);
        assert!(pace.goes_on(FIRST, true, || start));
        assert_eq!(pace.slice(), FIRST, "its time begins");
        assert!(pace.goes_on(FIRST, true, || start + micros(10)));
        assert!(!pace.goes_on(FIRST, true, || start + SHARE));
        assert!(!pace.goes_on(0, false, || unreachable!("nothing was done")));
    }
}
