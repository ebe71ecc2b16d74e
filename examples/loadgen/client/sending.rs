//! Sending: when, how much in one turn, and giving up what is not answered.

use std::sync::Arc;
use std::time::Instant;

use shardgram::Context;

use super::super::payload::{self, Header};
use super::super::plan::Mode;
use super::super::schedule::{Schedule, Share};
use super::super::slices::Slices;
use super::churn::Churn;
use super::{Alarm, Client, Lane, Phase, Place, SEND_STEP, SWEEP_STEP, Stage};

impl Client {
    pub(super) fn begin(&mut self, cx: &mut Context<'_, Self>, at: Instant) {
        if self.phase != Phase::Ready {
            return;
        }
        let shared = Arc::clone(&self.shared);
        let plan = &shared.plan;
        let from = at + plan.warmup;
        self.tally.counted_from_ns = plan.ns_at(from);
        self.stop_ns = plan.ns_at(from + plan.duration);
        let (sweep, stop) = (at + plan.timeout / 8, plan.instant_of(self.stop_ns));
        let share = Share {
            flows: plan.pattern.senders(plan.flows),
            own_flows: self.active.len() as u32,
            shard: self.info.shard,
        };
        let (start_ns, foot_ns) = (plan.ns_at(at), self.tally.counted_from_ns);
        self.churn = plan.new_flows.map(|per_second| Churn::new(start_ns, per_second, share));
        match plan.mode {
            Mode::Closed { .. } => {
                self.set(cx, sweep, Alarm::Sweep);
            }
            // Fan-out: this shard may have subscribers only.
            Mode::Open { .. } if self.active.is_empty() => {}
            Mode::Open { rate } => {
                self.schedule = Some(Schedule::new(start_ns, foot_ns, rate, plan.burst, share));
            }
        }
        for place in 0..self.active.len() {
            self.start_lane(self.active[place]);
        }
        if let Some(grid) = plan.grid(foot_ns) {
            let slices = Slices::new(grid, plan.pattern.replies());
            let first_ns = slices.next_end_ns().0;
            self.slices = Some(slices);
            self.set(cx, plan.instant_of(first_ns), Alarm::Interval);
        }
        self.set(cx, at, Alarm::Start);
        self.set(cx, stop, Alarm::Stop);
    }

    /// Writes one datagram in place; false if there is no room for it in this turn.
    pub(super) fn send(
        &mut self,
        cx: &mut Context<'_, Self>,
        lane: u32,
        slot: u16,
        intended_ns: u64,
        now_ns: u64,
    ) -> bool {
        let plan = &self.shared.plan;
        let Lane { peer, number, flow, .. } = &mut self.lanes[lane as usize];
        let (number, sequence) = (*number, flow.next() as u32);
        let size = plan.sizes.pick(plan.seed, number, sequence);
        let Ok(mut room) = cx.io.slot(*peer, size) else {
            self.tally.refused += 1;
            return false;
        };
        let header = Header {
            run: plan.run,
            flow: number,
            sequence,
            slot,
            intended_ns,
            sent_ns: now_ns,
            subscription: false,
        };
        payload::write(&mut room[..size], &header);
        if room.commit(size).is_err() {
            self.tally.refused += 1;
            return false;
        }
        self.all_sent += 1;
        let counts = intended_ns >= self.tally.counted_from_ns;
        flow.sent(slot, now_ns, counts);
        self.tally.sent += u64::from(counts);
        self.tally.bytes_sent += if counts { size as u64 } else { 0 };
        self.tally.pending += u64::from(counts && plan.pattern.replies());
        if let Some(slices) = self.slices.as_mut().filter(|_| counts) {
            slices.sent(now_ns);
        }
        true
    }

    /// Closed loop: sends from free slots, as much as one turn may.
    pub(super) fn refill(&mut self, cx: &mut Context<'_, Self>) {
        for _ in 0..SEND_STEP {
            let Some(place) = self.free.pop_front() else { return };
            let now_ns = self.plan().now_ns();
            if self.may_send(place) && !self.send(cx, place.lane, place.slot, now_ns, now_ns) {
                self.free.push_front(place);
                break;
            }
        }
        self.work_at_once(cx);
    }

    /// Whether that flow is there and has not retired.
    fn may_send(&self, place: Place) -> bool {
        let lane = &self.lanes[place.lane as usize];
        lane.number == place.number && lane.stage == Stage::Active
    }

    /// Closed loop: sends from a slot that a reply has made free.
    pub(super) fn refill_at_once(&mut self, cx: &mut Context<'_, Self>, place: Place, now_ns: u64) {
        let may_send = self.phase == Phase::Running && self.may_send(place);
        if may_send && !self.send(cx, place.lane, place.slot, now_ns, now_ns) {
            self.free.push_back(place);
        }
    }

    /// Open loop: sends what is due, as much of it as one turn may.
    pub(super) fn send_due(&mut self, cx: &mut Context<'_, Self>, schedule: &mut Schedule) {
        let counted_from_ns = self.tally.counted_from_ns;
        if schedule.next_ns() < counted_from_ns && self.plan().now_ns() >= counted_from_ns {
            // What the warm-up did not manage to send is forgiven.
            schedule.skip_until(counted_from_ns);
        }
        for _ in 0..SEND_STEP {
            let (due_ns, now_ns) = (schedule.next_ns(), self.plan().now_ns());
            if due_ns >= self.stop_ns {
                return; // the alarm for that time is set
            }
            if due_ns > now_ns {
                self.work_at(cx, self.plan().instant_of(due_ns));
                return;
            }
            let lane = self.active[schedule.flow() as usize];
            if !self.send(cx, lane, 0, due_ns, now_ns) {
                break;
            }
            if due_ns >= self.tally.counted_from_ns {
                self.tally.asked += 1;
                self.tally.lag.saturating_record(now_ns - due_ns);
            }
            schedule.advance();
        }
        self.work_at_once(cx);
    }

    /// Closed loop: gives up what is overdue, so that the loop goes on.
    pub(super) fn sweep(&mut self, cx: &mut Context<'_, Self>, from: usize) {
        let timeout = self.plan().timeout;
        let now_ns = self.plan().ns_at(cx.io.now());
        let limit_ns = now_ns.saturating_sub(timeout.as_nanos() as u64);
        let end = (from + SWEEP_STEP).min(self.lanes.len());
        for lane in from..end {
            self.give_up(lane as u32, limit_ns, now_ns);
        }
        if end < self.lanes.len() {
            self.sweep_from = Some(end);
            self.work_at_once(cx);
        } else {
            self.set(cx, cx.io.now() + timeout / 8, Alarm::Sweep);
        }
    }

    /// Closed loop: gives up what this flow sent before `limit_ns`.
    pub(super) fn give_up(&mut self, lane: u32, limit_ns: u64, now_ns: u64) {
        let Lane { number, flow, .. } = &mut self.lanes[lane as usize];
        let number = *number;
        flow.give_up(limit_ns, now_ns, |slot, counts| {
            self.free.push_back(Place { lane, number, slot });
            self.tally.pending = self.tally.pending.saturating_sub(u64::from(counts));
            self.given_up += u64::from(counts);
        });
    }

    /// What a turn does beside answering datagrams.
    pub(super) fn work(&mut self, cx: &mut Context<'_, Self>) {
        match self.phase {
            Phase::Opening => self.open_some(cx),
            Phase::Subscribing => self.subscribe_some(cx),
            Phase::Running => {
                self.take_over(cx);
                if let Some(from) = self.sweep_from.take() {
                    self.sweep(cx, from);
                }
                if let Some(mut schedule) = self.schedule.take() {
                    self.send_due(cx, &mut schedule);
                    self.schedule = Some(schedule);
                } else if self.window() > 0 {
                    self.refill(cx);
                }
            }
            Phase::Ready | Phase::Settling | Phase::Done => {}
        }
    }
}
