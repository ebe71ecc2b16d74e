//! How busy threads were, and how long they waited for a core: from Linux's `/proc`, elsewhere unknown.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// The system's numbers of the threads of one server.
#[derive(Debug, Default)]
pub(crate) struct Threads(Mutex<Vec<u32>>);

impl Threads {
    /// Adds the calling thread.
    pub(crate) fn join(&self) {
        // proc(5): /proc/thread-self is a link to "<process>/task/<thread>".
        let link = std::fs::read_link("/proc/thread-self").ok();
        let number = link.as_deref().and_then(|path| path.file_name()?.to_str()?.parse().ok());
        if let Some(number) = number {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(number);
        }
    }

    pub(crate) fn sample(&self) -> Sample {
        let threads = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let figures: Option<Vec<_>> = threads.iter().map(|thread| schedstat(*thread)).collect();
        let figures = figures.filter(|f| !f.is_empty());
        let sum = figures.map(|f| f.iter().fold((0, 0), |sum, f| (sum.0 + f.0, sum.1 + f.1)));
        Sample { at: Instant::now(), threads: threads.len(), figures: sum }
    }
}

/// Time on a core and time waiting for one, in ns: the first two figures of `schedstat`
/// (Documentation/scheduler/sched-stats.rst), nought where the kernel does not keep them.
fn schedstat(thread: u32) -> Option<(u64, u64)> {
    let text = std::fs::read_to_string(format!("/proc/self/task/{thread}/schedstat")).ok()?;
    let mut figures = text.split_whitespace().map_while(|figure| figure.parse().ok());
    Some((figures.next().filter(|ran| *ran > 0)?, figures.next()?))
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    at: Instant,
    threads: usize,
    figures: Option<(u64, u64)>,
}

/// Percent of the time that a server's threads ran, and that they waited for a core; the mean over them.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Usage {
    pub(crate) busy: f64,
    pub(crate) starved: f64,
}

impl Usage {
    pub(crate) fn between(from: &Sample, to: &Sample) -> Option<Self> {
        let (before, after) = (from.figures?, to.figures?);
        let span = to.at.duration_since(from.at).as_nanos() as f64 * to.threads as f64;
        let percent = |before: u64, after: u64| after.saturating_sub(before) as f64 * 100.0 / span;
        (span > 0.0).then(|| Self { busy: percent(before.0, after.0), starved: percent(before.1, after.1) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_thread_shows_where_the_system_tells() {
        let threads = Threads::default();
        threads.join();
        let from = threads.sample();
        let mut at = from;
        while at.at.duration_since(from.at).as_millis() < 20 {
            at = threads.sample();
        }
        if let Some(usage) = Usage::between(&from, &at) {
            assert!(usage.busy + usage.starved > 10.0, "{usage:?}");
            assert!(usage.busy < 120.0, "{usage:?}");
        }
    }
}
