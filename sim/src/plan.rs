//! What is to happen at a time, and until when to run.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::flood::FloodId;
use crate::sim::Sim;

/// Something to do.
pub(crate) enum Task {
    Call(Box<dyn FnOnce(&mut Sim)>),
    Flood(FloodId),
}

/// What is to be done, by time, and by the order in which it was asked for among that of the same time.
#[derive(Default)]
pub(crate) struct Plan {
    tasks: BTreeMap<(u64, u64), Task>,
    asked: u64,
}

impl Plan {
    pub(crate) fn add(&mut self, at_ns: u64, task: Task) {
        self.tasks.insert((at_ns, self.asked), task);
        self.asked += 1;
    }

    #[inline]
    pub(crate) fn next(&self) -> Option<u64> {
        self.tasks.first_key_value().map(|((at, _), _)| *at)
    }

    #[inline]
    pub(crate) fn take_due(&mut self, now_ns: u64) -> Option<Task> {
        if self.next()? > now_ns {
            return None;
        }
        self.tasks.pop_first().map(|(_, task)| task)
    }
}

/// Plans.
impl Sim {
    /// Has something done when so much time has passed since the beginning, or at once if it has. What a shard does
    /// is not interrupted: it comes after the turn in which its time falls. What arrives at that very time comes before.
    ///
    /// ```
    /// use std::time::Duration;
    /// use shardgram_sim::{LinkConfig, Sim};
    /// let mut sim = Sim::new(1);
    /// sim.at(Duration::from_secs(5), |sim| sim.link(LinkConfig::new().cut(true)));
    /// sim.at(Duration::from_secs(7), |sim| sim.link(LinkConfig::new()));
    /// let (a, b) = ("10.0.0.1:9".parse().unwrap(), "10.0.0.2:9".parse().unwrap());
    /// let (from, to) = (sim.socket(a), sim.socket(b));
    /// for _ in 0..10 {
    ///     sim.send(from, b, b"still there?");
    ///     sim.run_for(Duration::from_secs(1));
    /// }
    /// assert_eq!(std::iter::from_fn(|| sim.receive(to)).count(), 8);
    /// ```
    pub fn at(&mut self, time: Duration, what: impl FnOnce(&mut Self) + 'static) {
        let at_ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.plan.add(at_ns, Task::Call(Box::new(what)));
    }

    /// Has something done when so much more time has passed: see [`Sim::at`].
    pub fn after(&mut self, delay: Duration, what: impl FnOnce(&mut Self) + 'static) {
        self.at(self.elapsed().saturating_add(delay), what);
    }

    /// Runs until something is so, or so much time has passed. Whether it is. It is asked before every step.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use shardgram_sim::{NodeId, Sim};
    /// fn until_all_have_come(sim: &mut Sim, server: &NodeId<()>, players: u64) {
    ///     let come = sim.run_until(Duration::from_secs(30), |sim| sim.stats(server).peers() == players);
    ///     assert!(come, "{}", sim.stats(server));
    /// }
    /// ```
    pub fn run_until(&mut self, limit: Duration, mut so: impl FnMut(&mut Self) -> bool) -> bool {
        let end_ns = self.end_of(limit);
        loop {
            if so(self) {
                return true;
            }
            if self.network.borrow().now_ns() > end_ns {
                return false;
            }
            if !self.step_until(end_ns) {
                self.network.borrow_mut().advance_to(end_ns);
                return so(self);
            }
        }
    }

    /// Does the next thing that is due. Whether something was.
    pub(crate) fn carry_out_due(&mut self, now_ns: u64) -> bool {
        match self.plan.take_due(now_ns) {
            Some(Task::Call(what)) => what(self),
            Some(Task::Flood(id)) => self.flood_goes_on(id),
            None => return false,
        }
        true
    }
}
