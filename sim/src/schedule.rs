//! Who may run, and who sleeps until when.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Rings for one shard. May be called from inside a handler, or from any thread.
#[derive(Clone, Debug)]
pub(crate) struct Ringer {
    any: Arc<AtomicBool>,
    own: Arc<AtomicBool>,
}

impl Ringer {
    pub(crate) fn ring(&self) {
        self.own.store(true, Ordering::Release);
        self.any.store(true, Ordering::Release);
    }
}

#[derive(Debug)]
struct Entry {
    /// Stands among those that may run, or is not to run before its stall is over.
    queued: bool,
    wake_at: Option<u64>,
    rung: Arc<AtomicBool>,
}

/// Shards are numbered across all nodes of a simulation.
#[derive(Debug, Default)]
pub(crate) struct Schedule {
    shards: Vec<Entry>,
    runnable: VecDeque<u32>,
    wakes: BTreeSet<(u64, u32)>,
    /// Shards that have no turn until then.
    stalls: BTreeSet<(u64, u32)>,
    any_rung: Arc<AtomicBool>,
}

impl Schedule {
    pub(crate) fn add(&mut self) -> Ringer {
        let rung = Arc::new(AtomicBool::new(false));
        self.shards.push(Entry { queued: false, wake_at: None, rung: Arc::clone(&rung) });
        Ringer { any: Arc::clone(&self.any_rung), own: rung }
    }

    /// Puts a shard at the end of those that may run, unless it stands there already.
    #[inline]
    pub(crate) fn run(&mut self, shard: u32) {
        let entry = &mut self.shards[shard as usize];
        if !entry.queued {
            entry.queued = true;
            self.runnable.push_back(shard);
        }
    }

    /// Lets a shard sleep until this time, or until something else wakes it.
    pub(crate) fn sleep(&mut self, shard: u32, until_ns: Option<u64>) {
        let entry = &mut self.shards[shard as usize];
        if entry.wake_at == until_ns {
            return;
        }
        if let Some(old) = std::mem::replace(&mut entry.wake_at, until_ns) {
            self.wakes.remove(&(old, shard));
        }
        if let Some(new) = until_ns {
            self.wakes.insert((new, shard));
        }
    }

    /// Gives a shard no turn before this time, whatever wakes it, and one then.
    pub(crate) fn stall(&mut self, shard: u32, until_ns: u64) {
        self.runnable.retain(|one| *one != shard);
        self.stalls.retain(|(_, one)| *one != shard);
        self.stalls.insert((until_ns, shard));
        self.shards[shard as usize].queued = true;
    }

    pub(crate) fn is_stalled(&self, shard: u32) -> bool {
        self.stalls.iter().any(|(_, one)| *one == shard)
    }

    /// Wakes whose time has come and for whom was rung, in a fixed order.
    pub(crate) fn wake_due(&mut self, now_ns: u64) {
        while let Some(&(at, shard)) = self.wakes.first()
            && at <= now_ns
        {
            self.sleep(shard, None);
            self.run(shard);
        }
        while let Some(&(at, shard)) = self.stalls.first()
            && at <= now_ns
        {
            self.stalls.pop_first();
            self.shards[shard as usize].queued = false;
            self.run(shard);
        }
        if self.any_rung.swap(false, Ordering::AcqRel) {
            for shard in 0..self.shards.len() {
                if self.shards[shard].rung.swap(false, Ordering::AcqRel) {
                    self.run(shard as u32);
                }
            }
        }
    }

    /// The next shard to run.
    pub(crate) fn next(&mut self) -> Option<u32> {
        let shard = self.runnable.pop_front()?;
        self.shards[shard as usize].queued = false;
        Some(shard)
    }

    /// When the first sleeper wakes, or the first stall is over.
    pub(crate) fn next_wake(&self) -> Option<u64> {
        [&self.wakes, &self.stalls].into_iter().filter_map(|all| all.first()).map(|&(at, _)| at).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_run_in_turn_and_wake_on_time() {
        let mut schedule = Schedule::default();
        let ringers: Vec<_> = (0..3).map(|_| schedule.add()).collect();
        schedule.run(1);
        schedule.run(0);
        schedule.run(1);
        assert_eq!([schedule.next(), schedule.next(), schedule.next()], [Some(1), Some(0), None]);
        schedule.sleep(2, Some(50));
        schedule.sleep(2, Some(70));
        schedule.wake_due(69);
        assert_eq!(schedule.next(), None);
        assert_eq!(schedule.next_wake(), Some(70));
        ringers[0].ring();
        schedule.wake_due(70);
        assert_eq!([schedule.next(), schedule.next(), schedule.next()], [Some(2), Some(0), None]);
        assert_eq!(schedule.next_wake(), None);
    }

    #[test]
    fn a_stalled_shard_has_no_turn_until_it_is_over() {
        let mut schedule = Schedule::default();
        let _ringers: Vec<_> = (0..2).map(|_| schedule.add()).collect();
        schedule.run(0);
        schedule.run(1);
        schedule.stall(0, 50);
        schedule.stall(0, 60);
        schedule.sleep(0, Some(20));
        schedule.wake_due(59);
        assert_eq!([schedule.next(), schedule.next()], [Some(1), None]);
        assert_eq!(schedule.next_wake(), Some(60));
        schedule.wake_due(60);
        assert_eq!([schedule.next(), schedule.next()], [Some(0), None]);
        assert_eq!(schedule.next_wake(), None);
    }
}
