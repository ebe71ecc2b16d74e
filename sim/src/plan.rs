//! What is to be done, by time.

use std::collections::BTreeMap;

/// Tasks, by time, and by the order in which they were asked for among those of the same time.
pub(crate) struct Plan<T> {
    tasks: BTreeMap<(u64, u64), T>,
    asked: u64,
}

impl<T> Default for Plan<T> {
    fn default() -> Self {
        Self { tasks: BTreeMap::new(), asked: 0 }
    }
}

impl<T> Plan<T> {
    pub(crate) fn add(&mut self, at_ns: u64, task: T) {
        self.tasks.insert((at_ns, self.asked), task);
        self.asked += 1;
    }

    #[inline]
    pub(crate) fn next(&self) -> Option<u64> {
        self.tasks.first_key_value().map(|((at, _), _)| *at)
    }

    #[inline]
    pub(crate) fn take_due(&mut self, now_ns: u64) -> Option<T> {
        if self.next()? > now_ns {
            return None;
        }
        self.tasks.pop_first().map(|(_, task)| task)
    }
}
