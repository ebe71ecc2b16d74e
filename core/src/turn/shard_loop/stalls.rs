//! A shard that stands still: in a callback that takes too long, because its thread does not run, or because the machine is
//! suspended.
//!
//! Nothing is received or sent then, and no timer fires, of every peer of the shard. The clock is read once in a turn,
//! after the wait, and once more before a wait that may last. It may stand still while the machine is suspended, so of that
//! time the driver is asked ten times a second.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::contract::driver::Wait;
use crate::stats::Stats;
use crate::time::moment::Moment;
use crate::time::seldom::Seldom;

use super::Kind;

/// A shard stood still if it was for so long. Work that keeps to its share of a turn takes some milliseconds
/// ([`crate::Config::turn_time_us`]).
const STALL: Duration = Duration::from_millis(200);

/// Waits that were no longer than so many milliseconds are not looked at.
const SHORT_WAIT_MS: u32 = 100;

/// How many milliseconds pass between two questions for how long the machine was suspended.
const SUSPENDED_MS: u32 = 100;

/// Why a shard stood still.
#[derive(Clone, Copy)]
enum Why {
    Turn,
    Wait,
    Suspended,
}

/// How long a shard stands still, and what it did then.
pub(super) struct Stalls {
    shard: u16,
    /// The driver waits in its turns. Else time passes between them only.
    blocks: bool,
    stats: Arc<Stats>,
    /// The driver waits, or has given control back to be asked again: up to when, if that is known.
    waits: Option<Option<Instant>>,
    /// Kinds of callbacks that this turn called, a bit each.
    did: u8,
    longest: Duration,
    /// For how long the machine was known to be suspended so far, and when that was asked.
    suspended: Duration,
    asked: u32,
    /// Turns that took no more milliseconds than this are not looked at.
    quick_ms: u32,
    warned: Seldom,
}

impl Stalls {
    pub(super) fn new(shard: u16, blocks: bool, stats: Arc<Stats>, suspended: Duration) -> Self {
        Self {
            shard,
            blocks,
            stats,
            waits: None,
            did: 0,
            longest: Duration::ZERO,
            suspended,
            asked: 0,
            quick_ms: 0,
            warned: Seldom::default(),
        }
    }

    /// Callbacks of this kind were called.
    #[inline]
    pub(super) fn did(&mut self, kind: Kind) {
        self.did |= 1 << kind as u8;
    }

    /// The turn that began at this time is over, and the shard may wait so.
    #[inline]
    pub(super) fn turn_ended(&mut self, wait: Wait, began: Instant, clock: impl FnOnce() -> Instant) {
        let Wait::Until(until) = wait else { return };
        if !self.blocks {
            // Who runs the loop sees to it that the next turn comes in time.
            self.waits = Some(None);
            return;
        }
        let now = clock();
        let turn = now.saturating_duration_since(began);
        if turn > self.longest || turn >= STALL {
            self.took(turn, now, Why::Turn);
        }
        self.waits = Some(until);
    }

    /// A turn begins at this time, and the one before began at that.
    #[inline]
    pub(super) fn turn_begins(&mut self, before: Moment, time: Moment, suspended: impl FnOnce() -> Duration) {
        if time.stamp.wrapping_sub(self.asked) >= SUSPENDED_MS {
            self.asked = time.stamp;
            self.was_suspended(suspended(), time.now);
        }
        let quick_ms = if self.waits.is_some() { SHORT_WAIT_MS } else { self.quick_ms };
        if time.stamp.wrapping_sub(before.stamp) > quick_ms {
            self.look(before.now, time.now);
        }
        (self.waits, self.did) = (None, 0);
    }

    /// Much time passed between two turns.
    #[cold]
    #[inline(never)]
    fn look(&mut self, before: Instant, now: Instant) {
        let (stood, why) = match self.waits {
            Some(due) => (due.map_or(Duration::ZERO, |due| now.saturating_duration_since(due)), Why::Wait),
            None => (now.saturating_duration_since(before), Why::Turn),
        };
        if stood > self.longest || stood >= STALL {
            self.took(stood, now, why);
        }
    }

    /// So far, for so long.
    fn was_suspended(&mut self, suspended: Duration, now: Instant) {
        let more = suspended.saturating_sub(self.suspended);
        self.suspended = self.suspended.max(suspended);
        if more >= STALL {
            self.took(more, now, Why::Suspended);
        }
    }

    /// The shard did nothing else for so long.
    #[cold]
    fn took(&mut self, time: Duration, now: Instant, why: Why) {
        if time > self.longest {
            self.longest = time;
            self.quick_ms = time.min(STALL - Duration::from_millis(1)).as_millis() as u32;
            self.stats.longest_turn.set(time.as_nanos() as u64);
        }
        if time < STALL {
            return;
        }
        self.stats.stalls.add(1);
        let Some(held_back) = self.warned.due(now) else { return };
        let (shard, ms) = (self.shard, time.as_millis() as u64);
        match why {
            Why::Turn => {
                let callbacks = self.callbacks();
                tracing::warn!(
                    shard,
                    ms,
                    callbacks,
                    held_back,
                    "a turn took too long: no callback is to block or to compute for long, unless something else kept the \
                     thread from running; what came meanwhile is handled late, or was dropped in full sockets"
                );
            }
            Why::Wait => tracing::warn!(
                shard,
                ms,
                held_back,
                "the shard was not woken in time: something kept its thread from running (SIGSTOP, a virtual machine that \
                 pauses, a core with other work); what came meanwhile is handled late, or was dropped in full sockets"
            ),
            Why::Suspended => tracing::warn!(
                shard,
                ms,
                held_back,
                "the machine was suspended: nothing came meanwhile, no timer counts that time, and peers may have given up"
            ),
        }
    }

    /// Those that were called in this turn.
    fn callbacks(&self) -> String {
        let names = [
            (Kind::Writable, "on_writable"),
            (Kind::Arrivals, "accept or on_datagram"),
            (Kind::Mail, "on_message or on_datagram"),
            (Kind::Dials, "on_attempt"),
            (Kind::Timers, "on_timer"),
            (Kind::Walks, "on_closed"),
        ];
        let called = names.into_iter().filter(|(kind, _)| self.did & 1 << *kind as u8 != 0);
        let called: Vec<_> = called.map(|(_, name)| name).chain(["on_turn_end"]).collect();
        called.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::clock::CoarseClock;

    const SUSPENDED_BEFORE: Duration = Duration::from_secs(86_400);

    struct Bed {
        /// For how long the machine was suspended while this was there.
        suspended: Duration,
        stalls: Stalls,
        stats: Arc<Stats>,
        clock: CoarseClock,
        start: Instant,
        before: u64,
    }

    impl Bed {
        fn new(blocks: bool) -> Self {
            let (stats, start) = (Arc::new(Stats::default()), Instant::now());
            let stalls = Stalls::new(0, blocks, Arc::clone(&stats), SUSPENDED_BEFORE);
            let clock = CoarseClock::new(start);
            Self { suspended: Duration::ZERO, stalls, stats, clock, start, before: 0 }
        }

        fn at(&self, ms: u64) -> Instant {
            self.start + Duration::from_millis(ms)
        }

        /// The next turn begins then.
        fn begins(&mut self, ms: u64) -> (u64, u64) {
            let [before, now] = [self.before, ms].map(|ms| self.clock.at(self.at(ms)));
            let suspended = SUSPENDED_BEFORE + self.suspended;
            self.stalls.turn_begins(before, now, || suspended);
            self.before = ms;
            (self.stats.longest_turn.get() / 1_000_000, self.stats.stalls.get())
        }

        /// The turn ends and the clock says this if it is read: the shard waits until then.
        fn ends(&mut self, wait: Option<u64>, now: Option<u64>) {
            let (wait, now) = (wait.map(|ms| self.at(ms)), now.map(|ms| self.at(ms)));
            let began = self.at(self.before);
            self.stalls.turn_ended(Wait::Until(wait), began, || now.expect("it is not read"));
        }

        fn polls(&mut self) {
            let began = self.at(self.before);
            self.stalls.turn_ended(Wait::Poll, began, || unreachable!("the next turn reads it"));
        }
    }

    #[test]
    fn turns_are_timed_up_to_the_next_or_to_a_wait() {
        let mut bed = Bed::new(true);
        bed.polls();
        assert_eq!(bed.begins(150), (150, 0));
        bed.stalls.did(Kind::Timers);
        assert_eq!(bed.stalls.callbacks(), "on_timer, on_turn_end");
        bed.ends(None, Some(151));
        assert_eq!(bed.begins(60_000), (150, 0), "it slept");
        bed.ends(None, Some(60_199));
        assert_eq!(bed.begins(60_200), (199, 0), "a callback, and no stall yet");
        bed.polls();
        assert_eq!(bed.begins(60_900), (700, 1));
        bed.ends(None, Some(61_100));
        assert_eq!(bed.begins(61_200), (700, 2), "shorter than the longest, and a stall all the same");
    }

    #[test]
    fn a_wait_is_timed_from_when_it_was_to_end() {
        let mut bed = Bed::new(true);
        bed.ends(Some(50), Some(1));
        assert_eq!(bed.begins(140), (90, 0));
        bed.ends(Some(1_140), Some(140));
        assert_eq!(bed.begins(1_440), (300, 1));
        bed.ends(Some(9_000), Some(1_441));
        assert_eq!(bed.begins(8_000), (300, 1), "woken for another reason");
    }

    #[test]
    fn a_driver_that_cannot_block_is_asked_again_when_there_is_a_reason() {
        let mut bed = Bed::new(false);
        bed.stalls.did(Kind::Mail);
        bed.ends(Some(10_000), None);
        bed.polls();
        assert_eq!(bed.begins(9_000), (0, 0), "it slept");
        bed.polls();
        assert_eq!(bed.begins(9_500), (500, 1));
    }

    #[test]
    fn a_machine_that_was_suspended_stood_still_although_the_clock_did_too() {
        let mut bed = Bed::new(true);
        bed.ends(Some(1_000), Some(1));
        bed.suspended = Duration::from_secs(3_600);
        assert_eq!(bed.begins(99), (1, 0), "it is asked ten times a second");
        bed.ends(Some(1_000), Some(99));
        assert_eq!(bed.begins(100), (3_600_000, 1));
        bed.polls();
        bed.suspended -= Duration::from_millis(300);
        assert_eq!(bed.begins(210), (3_600_000, 1), "readings differ a little");
        bed.polls();
        bed.suspended += Duration::from_millis(499);
        assert_eq!(bed.begins(310), (3_600_000, 1), "199 ms are no stall");
        bed.polls();
        bed.suspended += Duration::from_millis(200);
        assert_eq!(bed.begins(410), (3_600_000, 2));
    }
}
