//! What a turn calls under budgets: arrivals, mail, timers, and peers that are closed.

use std::time::{Duration, Instant};

use crate::api::handler::Handler;
use crate::contract::driver::Driver;
use crate::messages::mailbox::Budget;
use crate::peers::idle::{IdleSweep, SWEEP_STEP};
use crate::turn::panics::{Callback, Cause};
use crate::types::error::CloseReason;
use crate::types::ids::ShardInfo;

use crate::turn::shard_loop::{Kind, ShardLoop};

/// Arrivals of one socket before it is the turn of another that holds something: fewer where callbacks are slow.
const EACH: usize = 8;

impl<D: Driver, H: Handler, F: Fn(ShardInfo) -> H> ShardLoop<D, H, F> {
    /// Hands over what has arrived, slice by slice. What waits since an earlier turn comes first.
    pub(super) fn receive(&mut self) {
        let mut left = if self.deaf || self.stage.panicked { 0 } else { self.budget };
        self.paces.arrivals.begin(Some(self.stage.io.time.now));
        let each = self.paces.arrivals.slice().min(self.budget).min(EACH);
        loop {
            let before = self.stage.quota.handled();
            self.stage.quota.limit(self.paces.arrivals.slice(), self.paces.arrivals.is_slow());
            if !self.stage.held.is_empty() {
                self.stage.hand_over_held();
            }
            let slice = self.may_hand_over(left);
            let handed_over = self.driver.receive(slice, each, &mut self.stage);
            let stopped = self.stage.quota.lift();
            left = left.saturating_sub(handed_over);
            self.handed_over_all = handed_over < slice && !stopped;
            let more = !self.handed_over_all && self.may_hand_over(left) > 0;
            let items = handed_over.max((self.stage.quota.handled() - before) as usize);
            if items > 0 {
                self.stalls.did(Kind::Arrivals);
            }
            if !self.paces.arrivals.goes_on(items, more, || self.driver.now()) {
                return;
            }
        }
    }

    /// Whether everything was handed over that had arrived when the last turn began, by sockets and from other shards.
    pub(super) fn has_heard_all(&self) -> bool {
        self.handed_over_all
            && !self.mailbox.has_forwards()
            && self.stage.held.is_empty()
            && self.driver.is_caught_up()
    }

    /// Up to when everything was handed over that had arrived, wherever that was, for a judgement that is due since then.
    #[cold]
    fn heard_until(&mut self, due: Instant) -> Option<Instant> {
        let Self { hearing, stage, control, before, .. } = self;
        let (now, mut until) = (stage.io.time.now, before.now);
        if stage.others_receive {
            until = until.min(hearing.heard_until(due, now, control, &mut stage.io.post)?);
        }
        // Looked at last, since what others handed on came into the mailbox before they answered.
        self.has_heard_all().then_some(until)
    }

    /// Forgets groups that were left, once nothing waits that had come to them before.
    #[cold]
    pub(super) fn forget_groups(&mut self) {
        if self.has_heard_all() {
            self.stage.io.sockets.groups.none_wait();
        }
    }

    /// Goes on with dialed peers.
    pub(super) fn dial_on(&mut self) {
        let now = self.stage.io.time.now;
        let due = self.stage.io.dials.next_deadline().filter(|at| *at <= now);
        let heard = due.and_then(|due| self.heard_until(due));
        let until = due.and_then(|_| self.dials.judged_until(heard, self.before.now, now));
        let before = self.stage.arrivals;
        let Self { stage, paces, driver, event_budget, .. } = self;
        stage.dial_on(*event_budget, until, &mut paces.dials, || driver.now());
        if due.is_some() || self.stage.arrivals > before {
            self.stalls.did(Kind::Dials);
        }
        if until.is_some_and(|until| self.stage.io.dials.next_deadline().is_none_or(|next| next > until)) {
            self.dials.is_judged();
        }
    }

    /// How many arrivals may be handed over next, of so many that are left of the turn's budget. Here alone it is decided
    /// whether a turn hands over more; what is not handed over stays with the driver.
    #[inline]
    fn may_hand_over(&self, left: usize) -> usize {
        if self.stage.may_go_on() { left.min(self.paces.arrivals.slice()) } else { 0 }
    }

    pub(super) fn messages(&mut self) {
        self.mail_left = !self.mailbox.is_empty();
        if !self.mail_left {
            return;
        }
        self.paces.mail.begin_by(|| self.driver.now());
        // What was forwarded is as good as received here: as much of it, since its answers have the same outbox.
        let mut budget = Budget { forwards: self.budget, messages: self.event_budget as usize };
        let mut messages_first = 0;
        while self.stage.may_go_on() {
            let before = self.stage.quota.handled();
            self.stage.quota.limit(self.paces.mail.slice(), self.paces.mail.is_slow());
            // Nothing that was forwarded overtakes what waits. Of that and of messages as many are handled.
            let waits = !self.stage.held.is_empty();
            if waits && messages_first == 0 {
                self.stage.hand_over_held();
            } else if !self.take_mail(&mut budget, waits) && !waits {
                break;
            }
            self.stage.quota.lift();
            self.stalls.did(Kind::Mail);
            let handled = (self.stage.quota.handled() - before) as usize;
            messages_first = if handled > 0 { handled } else { messages_first.saturating_sub(1) };
            let items = handled.max(1);
            if !self.paces.mail.goes_on_after(items, || self.driver.now()) {
                break;
            }
        }
        self.stage.quota.lift();
        self.mail_left = !self.mailbox.is_empty();
        self.paces.mail.ends(|| self.driver.now());
    }

    /// Handles the next item of the mailbox; whether there was one.
    fn take_mail(&mut self, budget: &mut Budget, messages_only: bool) -> bool {
        let mail = if messages_only { self.mailbox.take_message(budget) } else { self.mailbox.take(budget) };
        let Some(mail) = mail else { return false };
        // Said before the mail counts as handled, so that nobody finds all quiet in between.
        self.report(false);
        self.stage.arrivals += 1;
        self.stage.mail(mail);
        self.mailbox.handled();
        true
    }

    pub(super) fn timers(&mut self) {
        for left in (0..self.event_budget).rev() {
            if !self.stage.may_go_on() {
                break;
            }
            let io = &mut self.stage.io;
            let Some(id) = io.timers.next_due(io.time.now) else { break };
            let owner = io.timers.owner(id).and_then(|slot| self.stage.peers.in_slot(slot));
            let Some(timer) = io.cancel(id) else { break };
            if left + 1 == self.event_budget {
                self.paces.timers.begin_by(|| self.driver.now());
            }
            io.stats.timers_fired.add(1);
            self.stalls.did(Kind::Timers);
            let cause = match owner {
                Some(peer) => Cause::Peer(Callback::Timer, peer),
                None => Cause::Own(Callback::Timer),
            };
            self.stage.call(cause, |handler, cx| handler.on_timer(cx, timer));
            if !self.paces.timers.goes_on_after_one(|| self.driver.now()) {
                return;
            }
        }
        self.paces.timers.ends(|| self.driver.now());
    }

    pub(super) fn sweep_idle(&mut self) {
        let (now, may_go_on) = (self.stage.io.time.now, self.stage.may_go_on());
        if !may_go_on || self.stage.peers.is_empty() {
            return;
        }
        let Some(due) = self.idle.as_ref().map(IdleSweep::next_at).filter(|at| *at <= now) else { return };
        let (heard, before) = (self.heard_until(due), self.before.now);
        let Self { idle, stage, paces, driver, stalls, .. } = self;
        let Some(sweep) = idle.as_mut() else { return };
        // Where that is put off, the next turn follows at once, since the time to look has come.
        let Some(until) = sweep.judged_until(heard, before, now) else { return };
        let not_judged = now.saturating_duration_since(until);
        let extent = stage.peers.extent();
        let mut slots = sweep.step(now, extent);
        paces.closing.begin_by(|| driver.now());
        for _ in 0..SWEEP_STEP {
            let Some(peer) = stage.peers.first_in(slots.clone()) else {
                slots.start = slots.end;
                break;
            };
            slots.start = peer.slot() + 1;
            let io = &stage.io;
            let silence = io.routes.get(peer).map_or(Duration::ZERO, |r| io.clock.since(r.last_seen, now));
            let silence = silence.saturating_sub(not_judged);
            if silence < sweep.timeout {
                sweep.stays_until(until + (sweep.timeout - silence));
                continue;
            }
            stalls.did(Kind::Walks);
            stage.close(peer, CloseReason::Idle);
            let goes_on = paces.closing.goes_on_after_one(|| driver.now());
            if !goes_on || stage.panicked || stage.io.sending.outbox.is_crowded() {
                return sweep.go_on_at(slots.start, now);
            }
        }
        sweep.looked_up_to(slots.start, now, stage.peers.len(), extent);
        paces.closing.ends(|| driver.now());
    }

    /// Closes the peers of local addresses that went.
    pub(super) fn sweep_gone(&mut self) {
        if !self.stage.may_go_on() {
            return;
        }
        let extent = self.stage.peers.extent();
        let Some(gone) = self.stage.gone.last_mut() else { return };
        let (socket, ip) = (gone.socket, gone.ip);
        match gone.step(extent) {
            Some(slots) => {
                let Self { stage, paces, driver, .. } = self;
                let left = stage.close_at(slots, socket, ip, &mut paces.closing, || driver.now());
                if let (Some(slot), Some(gone)) = (left, stage.gone.last_mut()) {
                    gone.next_slot = slot;
                }
            }
            None => drop(self.stage.gone.pop()),
        }
    }
}
