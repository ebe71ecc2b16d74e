//! Flows that are replaced while it runs.
//!
//! The new socket is open before the old one retires, so it has another port. A retired flow sends no more
//! and keeps its socket until everything it sent is answered, or the timeout has passed: what is not
//! answered by then is lost, and not because nobody listened any more.

use std::collections::VecDeque;
use std::time::Duration;

use shardgram::{Context, PeerId};

use super::super::schedule::Share;
use super::super::steady::Steady;
use super::{Alarm, Client, LINGER, Phase, Stage};

/// Flows replaced in one turn.
const CHURN_STEP: usize = 32;
/// How often retired flows are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(5);

pub(super) struct Churn {
    /// When the next flow is due, and which.
    schedule: Steady,
    /// New flows whose sockets are about to be open: the lane and the number of each, and which of the active ones it replaces.
    opening: VecDeque<(u32, u32, u32)>,
    /// Retired flows, each with the time at which it retired: first all, for a moment, so that duplicates
    /// are seen; then those that are not answered.
    lingering: VecDeque<(u64, u32)>,
    waiting: VecDeque<(u64, u32)>,
}

impl Churn {
    pub(super) fn new(start_ns: u64, per_second: u64, share: Share) -> Self {
        let schedule = Steady::new(start_ns, per_second, 1, share);
        Self { schedule, opening: VecDeque::new(), lingering: VecDeque::new(), waiting: VecDeque::new() }
    }
}

impl Client {
    /// Replaces what is due, and closes what has retired for long enough.
    pub(super) fn churn(&mut self, cx: &mut Context<'_, Self>) {
        let Some(mut churn) = self.churn.take() else { return };
        let now_ns = self.plan().now_ns();
        self.close_retired(cx, &mut churn, now_ns);
        let mut next_ns = churn.schedule.next_ns();
        for _ in 0..CHURN_STEP {
            if next_ns > now_ns {
                break;
            }
            self.ask_for_another(cx, &mut churn, next_ns);
            next_ns = churn.schedule.next_ns();
        }
        let next = self.plan().instant_of(next_ns);
        self.set(cx, next.min(cx.io.now() + LOOK_EVERY), Alarm::Churn);
        self.churn = Some(churn);
    }

    fn ask_for_another(&mut self, cx: &mut Context<'_, Self>, churn: &mut Churn, due_ns: u64) {
        let replaced = churn.schedule.flow();
        churn.schedule.advance();
        let counts = due_ns >= self.tally.counted_from_ns;
        match self.open_one(cx) {
            Ok(lane) => churn.opening.push_back((lane, self.lanes[lane as usize].number, replaced)),
            Err(cause) => self.no_new_flow(counts, cause),
        }
    }

    fn no_new_flow(&mut self, counts: bool, cause: String) {
        self.tally.new_flows_failed += u64::from(counts);
        self.tally.new_flow_failure.get_or_insert(cause);
    }

    /// Has new flows whose sockets are open take the places of old ones. Sockets are opened between turns.
    pub(super) fn take_over(&mut self, cx: &mut Context<'_, Self>) {
        let Some(mut churn) = self.churn.take() else { return };
        while let Some((new, number, place)) = churn.opening.front().copied() {
            let lane = &self.lanes[new as usize];
            // It could not be opened, and the lane may be that of a flow that was asked for later.
            if lane.number != number || lane.stage == Stage::Vacant {
                churn.opening.pop_front();
                continue;
            }
            if cx.io.endpoint_address(lane.endpoint).is_none() {
                break;
            }
            churn.opening.pop_front();
            self.replace(new, place, &mut churn);
        }
        self.churn = Some(churn);
    }

    fn replace(&mut self, new: u32, place: u32, churn: &mut Churn) {
        let now_ns = self.plan().now_ns();
        let old = std::mem::replace(&mut self.active[place as usize], new);
        self.lanes[old as usize].stage = Stage::Retired;
        churn.lingering.push_back((now_ns, old));
        self.start_lane(new);
        self.tally.new_flows += u64::from(now_ns >= self.tally.counted_from_ns);
    }

    fn close_retired(&mut self, cx: &mut Context<'_, Self>, churn: &mut Churn, now_ns: u64) {
        let [linger_ns, timeout_ns] = [LINGER, self.plan().timeout].map(|time| time.as_nanos() as u64);
        while let Some((retired_ns, lane)) = pop_older(&mut churn.lingering, now_ns, linger_ns) {
            let answered = self.lanes[lane as usize].flow.outstanding() == 0;
            if answered || !self.plan().pattern.replies() {
                self.close_lane(cx, lane);
            } else {
                churn.waiting.push_back((retired_ns, lane));
            }
        }
        while let Some((_, lane)) = pop_older(&mut churn.waiting, now_ns, timeout_ns) {
            self.close_lane(cx, lane);
        }
    }

    fn close_lane(&mut self, cx: &mut Context<'_, Self>, lane: u32) {
        self.give_up(lane, u64::MAX, u64::MAX);
        let state = &mut self.lanes[lane as usize];
        state.stage = Stage::Vacant;
        cx.io.close(state.peer);
        cx.close_endpoint(state.endpoint);
        self.vacant.push(lane);
    }

    /// The socket of a flow could not be opened.
    pub(super) fn lane_failed(&mut self, cx: &mut Context<'_, Self>, peer: PeerId, cause: String) {
        let Some(lane) = cx.peers.get(peer).copied() else { return };
        let counts = self.plan().now_ns() >= self.tally.counted_from_ns;
        self.no_new_flow(counts && self.phase == Phase::Running, cause);
        self.close_lane(cx, lane);
    }
}

/// The first of them if it is older than that.
fn pop_older(queue: &mut VecDeque<(u64, u32)>, now_ns: u64, age_ns: u64) -> Option<(u64, u32)> {
    let old = queue.front().is_some_and(|(since_ns, _)| since_ns + age_ns < now_ns);
    if old { queue.pop_front() } else { None }
}
