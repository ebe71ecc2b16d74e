//! Fan-out: telling the server who is to be sent what is published, and getting it.

use std::time::{Duration, Instant};

use shardgram::Context;

use super::super::arrivals::{self, Books, Seen};
use super::super::link::Event;
use super::super::pattern::Pattern;
use super::super::payload::{self, HEADER_BYTES, Header};
use super::{Alarm, Client, OPEN_STEP, Phase};

/// A subscription that is not confirmed by then is sent again.
const AGAIN: Duration = Duration::from_millis(100);
/// Subscribers give up after the timeout and this.
const PATIENCE: Duration = Duration::from_secs(2);

/// How far the subscriptions of a shard are.
pub(super) struct Subscribing {
    until: Instant,
    /// From which lane on to look for some that are not confirmed.
    next: usize,
    confirmed: usize,
    wanted: usize,
}

impl Client {
    /// Whether a flow of this number subscribes.
    pub(super) fn subscribes(&self, number: u32) -> bool {
        matches!(self.plan().pattern, Pattern::FanOut { publishers, .. } if number >= publishers)
    }

    /// All sockets are open: subscribes where it must be, else is ready.
    pub(super) fn subscribe(&mut self, cx: &mut Context<'_, Self>) {
        let wanted = self.lanes.iter().filter(|lane| self.subscribes(lane.number)).count();
        if wanted == 0 {
            self.phase = Phase::Ready;
            self.tell(Event::Ready);
            return;
        }
        let until = cx.io.now() + self.plan().timeout + PATIENCE;
        self.phase = Phase::Subscribing;
        self.subscribing = Some(Subscribing { until, next: 0, confirmed: 0, wanted });
        self.subscribe_some(cx);
    }

    /// Sends some of the subscriptions that are not confirmed, and looks whether all are.
    pub(super) fn subscribe_some(&mut self, cx: &mut Context<'_, Self>) {
        let Some(mut state) = self.subscribing.take() else { return };
        if state.confirmed == state.wanted {
            self.phase = Phase::Ready;
            self.tell(Event::Ready);
            return;
        }
        let now = cx.io.now();
        if now >= state.until {
            let (missing, wanted, target) =
                (state.wanted - state.confirmed, state.wanted, self.plan().target);
            self.refuse(format!(
                "{target} did not send back {missing} of {wanted} subscriptions; name a server that does \
                 what --help says of --mode fan-out"
            ));
            return;
        }
        let end = (state.next + OPEN_STEP).min(self.lanes.len());
        for lane in state.next..end {
            if self.subscribes(self.lanes[lane].number) && !self.lanes[lane].subscribed {
                self.send_subscription(cx, lane);
            }
        }
        state.next = end % self.lanes.len();
        self.subscribing = Some(state);
        match end < self.lanes.len() {
            true => self.work_at_once(cx),
            false => {
                self.set(cx, now + AGAIN, Alarm::Work);
            }
        }
    }

    fn send_subscription(&mut self, cx: &mut Context<'_, Self>, lane: usize) {
        let lane = &self.lanes[lane];
        let now_ns = self.plan().now_ns();
        let (run, flow) = (self.plan().run, lane.number);
        let header = Header {
            run,
            flow,
            sequence: 0,
            slot: 0,
            intended_ns: now_ns,
            sent_ns: now_ns,
            subscription: true,
        };
        let mut bytes = [0; HEADER_BYTES];
        payload::write(&mut bytes, &header);
        // If it is refused it is sent again later.
        self.all_sent += u64::from(cx.io.send(lane.peer, &bytes).is_ok());
    }

    /// A datagram that came to a flow that may be a subscriber.
    pub(super) fn published(&mut self, lane: u32, header: &Header, len: usize, now_ns: u64) {
        let state = &mut self.lanes[lane as usize];
        if header.subscription {
            let first = header.flow == state.number && !std::mem::replace(&mut state.subscribed, true);
            if let Some(subscribing) = self.subscribing.as_mut().filter(|_| first) {
                subscribing.confirmed += 1;
            }
            return;
        }
        let plan = &self.shared.plan;
        let publishers = plan.pattern.senders(plan.flows);
        if header.flow >= publishers || state.number < publishers {
            self.tally.strange += 1;
            return;
        }
        if state.seen.is_empty() {
            state.seen = (0..publishers).map(|_| Seen::default()).collect();
        }
        let books = Books {
            tally: &mut self.tally,
            slices: self.slices.as_mut(),
            timeout_ns: plan.timeout.as_nanos() as u64,
            remember: plan.remembered_arrivals(),
        };
        arrivals::count(books, &mut state.seen[header.flow as usize], header, len, now_ns);
    }
}
