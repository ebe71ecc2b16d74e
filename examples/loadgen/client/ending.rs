//! What replies are, what is told of them, and the end.

use std::time::Duration;

use shardgram::Context;

use super::super::flow::{Kind, Verdict};
use super::super::link::Event;
use super::super::payload::Header;
use super::{Alarm, CATCH_UP, CATCH_UP_PART, Client, INTERVAL_EVERY, LINGER, Phase, SETTLE_EVERY};

impl Client {
    pub(super) fn stop(&mut self, cx: &mut Context<'_, Self>) {
        self.phase = Phase::Settling;
        let plan = &self.shared.plan;
        let now_ns = plan.now_ns();
        self.settling_ns = now_ns;
        self.tally.stopped_ns = now_ns;
        if let Some(schedule) = &self.schedule
            && now_ns > self.tally.counted_from_ns
        {
            self.tally.stopped_ns = now_ns.min(self.stop_ns);
            self.tally.asked += schedule.left_until(now_ns.min(self.stop_ns));
        }
        self.tell(Event::Stopped);
        self.set(cx, cx.io.now() + SETTLE_EVERY, Alarm::Settle);
    }

    /// Open loop: whether something that is due is not sent yet, and may still be.
    pub(super) fn is_behind(&self) -> bool {
        let plan = self.plan();
        let until_ns = self.stop_ns + (plan.duration / CATCH_UP_PART).max(CATCH_UP).as_nanos() as u64;
        let left = self.schedule.as_ref().is_some_and(|schedule| schedule.next_ns() < self.stop_ns);
        left && plan.now_ns() < until_ns
    }

    pub(super) fn settle(&mut self, cx: &mut Context<'_, Self>) {
        let plan = &self.shared.plan;
        let since_stop = Duration::from_nanos(plan.now_ns().saturating_sub(self.settling_ns));
        if since_stop > plan.timeout {
            self.tally.pending = 0;
        }
        // Others know whether what was sent has arrived, if no replies come.
        let arrived = plan.pattern.replies() || self.all_arrived || since_stop > plan.timeout;
        if self.tally.pending == 0 && arrived && since_stop >= LINGER {
            self.finish(cx);
        } else {
            self.set(cx, cx.io.now() + SETTLE_EVERY, Alarm::Settle);
        }
    }

    pub(super) fn finish(&mut self, cx: &mut Context<'_, Self>) {
        self.report();
        if self.draining {
            self.lanes.iter().for_each(|lane| cx.io.close(lane.peer));
        }
    }

    pub(super) fn report(&mut self) {
        self.phase = Phase::Done;
        if let Some(mut slices) = self.slices.take() {
            for (index, slice) in slices.rest(self.tally.stopped_ns) {
                self.tell(Event::Interval(index, Box::new(slice)));
            }
        }
        self.tell(Event::Done(Box::new(self.tally.clone())));
    }

    /// Tells of the intervals that are over, and looks again when the next one may be.
    pub(super) fn tell_of_intervals(&mut self, cx: &mut Context<'_, Self>) {
        let now_ns = self.plan().now_ns();
        let Some(mut slices) = self.slices.take() else { return };
        while let Some((index, slice)) = slices.over(now_ns) {
            self.tell(Event::Interval(index, Box::new(slice)));
        }
        let next = self.plan().instant_of(slices.next_end_ns().0).max(cx.io.now() + INTERVAL_EVERY);
        self.set(cx, next, Alarm::Interval);
        self.slices = Some(slices);
    }

    /// An intact datagram that is none of this flow's. Where flows are replaced, it may be for one that had
    /// this port before.
    pub(super) fn judge_stranger(&mut self, header: &Header, in_time: bool) {
        let ours = header.run == self.plan().run && self.churn.is_some() && !in_time;
        if ours && header.intended_ns >= self.tally.counted_from_ns {
            self.tally.late += 1;
        } else if !ours {
            self.tally.strange += 1;
        }
    }

    pub(super) fn judge(&mut self, header: &Header, len: usize, verdict: Verdict, now_ns: u64) {
        let Verdict { kind, frees, .. } = verdict;
        let tally = &mut self.tally;
        let closed = self.schedule.is_none();
        let first = matches!(kind, Kind::Fresh { .. } | Kind::Late);
        tally.pending = tally.pending.saturating_sub(u64::from(if closed { frees } else { first }));
        match kind {
            Kind::Fresh { reordered } => {
                tally.received += 1;
                tally.bytes_received += len as u64;
                tally.reordered += u64::from(reordered);
                let latency_ns = now_ns.saturating_sub(header.intended_ns);
                tally.from_intended.saturating_record(latency_ns);
                if let Some(slices) = &mut self.slices {
                    slices.received(header.sent_ns, latency_ns);
                }
                if !closed {
                    tally.from_sent.saturating_record(now_ns.saturating_sub(header.sent_ns));
                }
            }
            Kind::Duplicate => tally.duplicated += 1,
            Kind::Late => {
                tally.late += 1;
                if let Some(slices) = &mut self.slices {
                    slices.late(header.sent_ns);
                }
            }
            Kind::Alien => tally.strange += 1,
        }
    }
}
