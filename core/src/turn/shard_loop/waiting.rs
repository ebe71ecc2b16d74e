//! Whether a shard may sleep, and how long.

use std::time::{Duration, Instant};

use crate::api::handler::Handler;
use crate::config::WaitPolicy;
use crate::contract::driver::{Driver, Wait};
use crate::types::ids::ShardInfo;

use crate::turn::shard_loop::{Draining, QUIET_TURNS, ShardLoop};

/// A shard that has drained looks this often whether the others have.
const DRAIN_POLL: Duration = Duration::from_millis(1);

impl<D: Driver, H: Handler, F: Fn(ShardInfo) -> H> ShardLoop<D, H, F> {
    /// How long the coming wait may be. Raises the sleeping flag, and then looks once more for what other threads asked
    /// before it was up.
    pub(super) fn wait(&self) -> Wait {
        if self.has_work() || self.is_asked() || self.must_not_sleep() {
            return Wait::Poll;
        }
        let mut deadline = self.deadline();
        if self.hearing.waits() {
            deadline = self.put_off(deadline);
        }
        if deadline.is_some_and(|at| at <= self.stage.io.time.now) || self.spins() {
            return Wait::Poll;
        }
        self.mailbox.bell().going_to_sleep();
        let has_answers = self.hearing.waits() && self.hearing.has_answers(&self.stage.io.post);
        let asked = self.is_asked() || !self.mailbox.is_empty() || has_answers;
        if asked { Wait::Poll } else { Wait::Until(deadline) }
    }

    /// Whether this shard has left itself something to do.
    fn has_work(&self) -> bool {
        let io = &self.stage.io;
        self.driver.has_more()
            || self.mail_left
            || self.stage.panicked
            || !self.stage.held.is_empty()
            || io.dials.has_work()
            || io.connected.has_promotions()
            || io.sending.refused.any_to_look_at()
    }

    /// Whether other threads want something, beside those that sent mail.
    fn is_asked(&self) -> bool {
        self.control.stopping()
            || self.control.asked() != self.asked
            || (self.draining.is_none() && self.control.draining().is_some())
            || self.stage.io.dials.has_answers()
    }

    /// Whether the policy has the shard look again rather than sleep.
    fn spins(&self) -> bool {
        match self.policy {
            WaitPolicy::Block => false,
            WaitPolicy::Spin => true,
            WaitPolicy::SpinFor(time) => {
                self.stage.io.time.now.saturating_duration_since(self.last_active) < time
            }
        }
    }

    fn must_not_sleep(&self) -> bool {
        let not_quiet = |d: Draining| d.quiet < QUIET_TURNS && self.may_end(d) && !self.waits_for_driver();
        !self.stage.gone.is_empty() || self.draining.is_some_and(not_quiet)
    }

    /// Whether sends wait for room, or sockets for their end: the driver wakes the shard when there is something to do.
    fn waits_for_driver(&self) -> bool {
        !self.stage.io.sending.backlog.is_empty() || !self.driver.is_settled()
    }

    fn deadline(&self) -> Option<Instant> {
        let drain = self.draining.map(|d| {
            let poll = self.stage.io.time.now + DRAIN_POLL;
            if d.reported || self.waits_for_driver() { poll.min(d.deadline) } else { d.deadline }
        });
        let idle = self.idle.as_ref().and_then(|sweep| sweep.deadline(self.stage.peers.len()));
        let io = &self.stage.io;
        [io.timers.next_deadline(), io.dials.next_deadline(), idle, drain].into_iter().flatten().min()
    }

    /// The same where others have not answered yet whether anybody can be taken to be silent.
    #[cold]
    fn put_off(&self, deadline: Option<Instant>) -> Option<Instant> {
        let io = &self.stage.io;
        let earliest = self.hearing.next_look(io.time.now);
        let earliest = earliest.filter(|_| self.draining.is_none());
        let earliest = earliest.map(|at| io.timers.next_deadline().map_or(at, |timer| timer.min(at)));
        deadline.map(|at| earliest.map_or(at, |earliest| earliest.max(at)))
    }
}
