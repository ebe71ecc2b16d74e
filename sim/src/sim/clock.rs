//! The passing of time: what is done next, and until when.

use std::time::Duration;

use crate::sim::{Sim, Task};

/// The passing of time.
impl Sim {
    /// Does the next thing: one turn of a shard that may run, or else the next event. False if there is
    /// nothing left to do, ever.
    pub fn step(&mut self) -> bool {
        self.step_until(u64::MAX)
    }

    /// The same, if the next thing begins before `limit` has passed. False if there is nothing until then; the
    /// clock then stands at that time.
    pub fn step_within(&mut self, limit: Duration) -> bool {
        let end_ns = self.end_of(limit);
        let stepped = self.step_until(end_ns);
        if !stepped {
            self.network.borrow_mut().advance_to(end_ns);
        }
        stepped
    }

    /// Lets so much time pass.
    pub fn run_for(&mut self, duration: Duration) {
        let end_ns = self.end_of(duration);
        while self.network.borrow().now_ns() <= end_ns && self.step_until(end_ns) {}
        self.network.borrow_mut().advance_to(end_ns);
    }

    /// Runs until no datagram is on its way, no shard has anything to do, and no timer is due before
    /// `limit` has passed; or until it has. True if it is quiet.
    pub fn run_until_quiet(&mut self, limit: Duration) -> bool {
        let end_ns = self.end_of(limit);
        while self.network.borrow().now_ns() <= end_ns {
            if !self.step_until(end_ns) {
                return self.network.borrow().next_arrival().is_none() && self.names.next_answer().is_none();
            }
        }
        false
    }

    pub(super) fn end_of(&self, duration: Duration) -> u64 {
        let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.network.borrow().now_ns().saturating_add(ns)
    }

    /// One step, if there is one that begins by `end_ns`.
    fn step_until(&mut self, end_ns: u64) -> bool {
        let mut network = self.network.borrow_mut();
        let now_ns = network.now_ns();
        // Before those who hear of it are looked for.
        self.names.answer(now_ns);
        network.advance_to(now_ns);
        if self.plan.next().is_some_and(|at| at <= now_ns) {
            drop(network);
            return self.carry_out_due(now_ns);
        }
        if let Some(shard) = network.schedule.next() {
            drop(network);
            self.turn(shard);
            return true;
        }
        let next = [
            network.next_arrival(),
            network.schedule.next_wake(),
            self.plan.next(),
            self.names.next_answer(),
        ];
        let next = next.into_iter().flatten().min();
        match next {
            Some(at) if at <= end_ns => {
                network.advance_to(at);
                true
            }
            _ => false,
        }
    }

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
    fn carry_out_due(&mut self, now_ns: u64) -> bool {
        match self.plan.take_due(now_ns) {
            Some(Task::Call(what)) => what(self),
            Some(Task::Flood(id)) => self.flood_goes_on(id),
            None => return false,
        }
        true
    }
}
