//! Sending: when, how much in one turn, and giving up what is not answered.

use std::time::Instant;

use shardgram::Context;

use super::super::payload::{self, Header};
use super::super::plan::Mode;
use super::super::schedule::{Schedule, Share};
use super::super::slices::Slices;
use super::{Alarm, Client, Phase, SEND_STEP, SWEEP_STEP};

impl Client {
    pub(super) fn begin(&mut self, cx: &mut Context<'_, Self>, at: Instant) {
        if self.phase != Phase::Ready {
            return;
        }
        let plan = &self.shared.plan;
        let from = at + plan.warmup;
        self.tally.counted_from_ns = plan.ns_at(from);
        self.stop_ns = plan.ns_at(from + plan.duration);
        let (sweep, stop) = (at + plan.timeout / 8, plan.instant_of(self.stop_ns));
        match plan.mode {
            Mode::Closed { window } => {
                let slots = |flow| (0..window).map(move |slot| (flow, slot as u16));
                self.free = (0..self.flows.len() as u32).flat_map(slots).collect();
                self.set(cx, sweep, Alarm::Sweep);
            }
            Mode::Open { rate_pps } => {
                let own_flows = self.flows.len() as u32;
                let share = Share { rate_pps, flows: plan.flows, own_flows, shard: self.info.shard };
                self.schedule = Some(Schedule::new(plan.ns_at(at), share));
            }
        }
        if let Some(grid) = plan.grid(at) {
            let slices = Slices::new(grid);
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
        flow: u32,
        slot: u16,
        intended_ns: u64,
        now_ns: u64,
    ) -> bool {
        let (plan, number) = (&self.shared.plan, self.flow_number(flow));
        let state = &mut self.flows[flow as usize];
        let sequence = state.next() as u32;
        let size = plan.sizes.pick(plan.seed, number, sequence);
        let Ok(mut room) = cx.io.slot(self.peers[flow as usize], size) else {
            self.tally.refused += 1;
            return false;
        };
        let header = Header { run: plan.run, flow: number, sequence, slot, intended_ns, sent_ns: now_ns };
        payload::write(&mut room[..size], &header);
        if room.commit(size).is_err() {
            self.tally.refused += 1;
            return false;
        }
        let counts = intended_ns >= self.tally.counted_from_ns;
        state.sent(slot, now_ns, counts);
        self.tally.sent += u64::from(counts);
        self.tally.bytes_sent += if counts { size as u64 } else { 0 };
        self.tally.pending += u64::from(counts);
        if let Some(slices) = self.slices.as_mut().filter(|_| counts) {
            slices.sent(now_ns);
        }
        true
    }

    /// Closed loop: sends from free slots, as much as one turn may.
    pub(super) fn refill(&mut self, cx: &mut Context<'_, Self>) {
        for _ in 0..SEND_STEP {
            let Some((flow, slot)) = self.free.pop_front() else { return };
            let now_ns = self.plan().now_ns();
            if !self.send(cx, flow, slot, now_ns, now_ns) {
                self.free.push_front((flow, slot));
                break;
            }
        }
        self.work_at_once(cx);
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
            if due_ns > now_ns {
                self.work_at(cx, self.plan().instant_of(due_ns));
                return;
            }
            if !self.send(cx, schedule.flow(), 0, due_ns, now_ns) {
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
        let end = (from + SWEEP_STEP).min(self.flows.len());
        for flow in from..end {
            self.flows[flow].give_up(limit_ns, now_ns, |slot, counts| {
                self.free.push_back((flow as u32, slot));
                self.tally.pending -= u64::from(counts);
                self.given_up += u64::from(counts);
            });
        }
        if end < self.flows.len() {
            self.sweep_from = Some(end);
            self.work_at_once(cx);
        } else {
            self.set(cx, cx.io.now() + timeout / 8, Alarm::Sweep);
        }
    }

    /// What a turn does beside answering datagrams.
    pub(super) fn work(&mut self, cx: &mut Context<'_, Self>) {
        match self.phase {
            Phase::Opening => self.open_some(cx),
            Phase::Running => {
                if let Some(from) = self.sweep_from.take() {
                    self.sweep(cx, from);
                }
                if let Some(mut schedule) = self.schedule.take() {
                    self.send_due(cx, &mut schedule);
                    self.schedule = Some(schedule);
                } else {
                    self.refill(cx);
                }
            }
            Phase::Ready | Phase::Settling | Phase::Done => {}
        }
    }
}
