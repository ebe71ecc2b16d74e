//! One shard of the generator: opens its flows, sends, judges replies, and reports.

mod churn;
mod ending;
mod opening;
mod sending;
mod subscribing;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use shardgram::{
    Accept, Context, Datagram, Drain, EndpointId, Handler, Origin, PeerError, PeerId, ShardInfo, TimerId,
};

use self::churn::Churn;
pub(crate) use self::opening::NO_PORT;
use self::subscribing::Subscribing;
use super::arrivals::Seen;
use super::flow::Flow;
use super::link::{Command, Event, Shared};
use super::payload;
use super::plan::{Mode, Plan};
use super::schedule::Schedule;
use super::slices::Slices;
use super::tally::Tally;

/// Flows opened in one turn.
const OPEN_STEP: usize = 64;
/// Datagrams sent in one turn beside those that follow replies: half as many as may be received, so that a
/// generator that has to catch up reads more than it causes.
pub(crate) const SEND_STEP: usize = 64;
/// Flows searched in one turn for datagrams to give up.
const SWEEP_STEP: usize = 1_024;
/// How often an interval that has ended is looked at until it is over.
const INTERVAL_EVERY: Duration = Duration::from_millis(5);
/// A generator that has not sent everything when its time is over may catch up for this part of the time, or
/// so long, whichever is longer: a shard that got no core for a moment says nothing of the server.
const CATCH_UP_PART: u32 = 50;
const CATCH_UP: Duration = Duration::from_millis(20);
const CATCH_UP_EVERY: Duration = Duration::from_millis(1);
/// More than a tick of the shard's timers.
const TICK: Duration = Duration::from_micros(2);
/// When all is answered, duplicates may still come for so long.
const LINGER: Duration = Duration::from_millis(20);
/// How often the end is looked for.
const SETTLE_EVERY: Duration = Duration::from_millis(5);

#[derive(Clone, Copy, Debug)]
pub(crate) enum Alarm {
    /// There is more to do, which [`Handler::on_turn_end`] does.
    Work,
    /// Begin to send.
    Start,
    /// Give up what is overdue.
    Sweep,
    /// Replace flows.
    Churn,
    /// See whether an interval is over.
    Interval,
    /// Send no more.
    Stop,
    /// See whether all is answered.
    Settle,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Opening,
    /// Fan-out: subscribers wait until the server knows them.
    Subscribing,
    Ready,
    Running,
    Settling,
    Done,
}

/// What a lane is to the run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// Its socket may not be open yet.
    Opening,
    Active,
    /// It sends no more and waits for replies.
    Retired,
    Vacant,
}

/// One flow and its socket. Another flow may have it afterwards.
struct Lane {
    peer: PeerId,
    endpoint: EndpointId,
    /// Of the flow, over all shards.
    number: u32,
    flow: Flow,
    stage: Stage,
    /// Fan-out: whether the server knows of this subscriber, and what came of each publisher.
    subscribed: bool,
    seen: Vec<Seen>,
}

/// A slot of a flow's window.
#[derive(Clone, Copy)]
struct Place {
    lane: u32,
    /// Of the flow, since the lane may be another's by now.
    number: u32,
    slot: u16,
}

pub(crate) struct Client {
    shared: Arc<Shared>,
    info: ShardInfo,
    phase: Phase,
    draining: bool,
    lanes: Vec<Lane>,
    /// Lanes of the flows that send.
    active: Vec<u32>,
    vacant: Vec<u32>,
    /// Flows opened so far.
    opened: u32,
    churn: Option<Churn>,
    subscribing: Option<Subscribing>,
    /// The program said that nothing more can arrive.
    all_arrived: bool,
    /// Closed loop: free slots of windows.
    free: VecDeque<Place>,
    /// Closed loop: from which lane on to search for what is overdue.
    sweep_from: Option<usize>,
    /// Open loop.
    schedule: Option<Schedule>,
    work: Option<TimerId>,
    stop_ns: u64,
    /// When it stopped sending.
    settling_ns: u64,
    given_up: u64,
    all_sent: u64,
    all_heard: u64,
    tally: Tally,
    /// Where intervals are wanted.
    slices: Option<Slices>,
}

impl Client {
    pub(crate) fn new(shared: Arc<Shared>, info: ShardInfo) -> Self {
        Self {
            shared,
            info,
            phase: Phase::Opening,
            draining: false,
            lanes: Vec::new(),
            active: Vec::new(),
            vacant: Vec::new(),
            opened: 0,
            churn: None,
            subscribing: None,
            all_arrived: false,
            free: VecDeque::new(),
            sweep_from: None,
            schedule: None,
            work: None,
            stop_ns: u64::MAX,
            settling_ns: u64::MAX,
            given_up: 0,
            all_sent: 0,
            all_heard: 0,
            tally: Tally::new(),
            slices: None,
        }
    }

    fn plan(&self) -> &Plan {
        &self.shared.plan
    }

    fn tell(&self, event: Event) {
        // The program may have given up already.
        let _ = self.shared.events.send(event);
    }

    /// How many flows are this shard's: every `shards`-th one, from its own number on.
    fn own_flows(&self) -> usize {
        let (shard, shards) = (u32::from(self.info.shard), u32::from(self.info.shards));
        (self.plan().flows + shards - 1 - shard) as usize / shards as usize
    }

    /// The number over all shards of the flow that is opened next.
    fn next_number(&self) -> u32 {
        let (shard, shards) = (u32::from(self.info.shard), u32::from(self.info.shards));
        self.opened.wrapping_mul(shards).wrapping_add(shard)
    }

    fn window(&self) -> usize {
        match self.plan().mode {
            Mode::Closed { window } => window as usize,
            Mode::Open { .. } => 0,
        }
    }
}

impl Handler for Client {
    /// Its lane.
    type Peer = u32;
    type Timer = Alarm;
    type Message = Command;

    fn on_start(&mut self, cx: &mut Context<'_, Self>) {
        self.shared.threads.join();
        self.work_at_once(cx);
    }

    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<u32> {
        Accept::Drop("not asked for") // endpoints drop strangers' datagrams already
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, from: PeerId, mut datagram: Datagram<'_>) {
        let now_ns = self.plan().now_ns();
        let Some(lane) = cx.peers.get(from).copied().filter(|_| self.phase != Phase::Done) else { return };
        self.all_heard += 1;
        let Some(header) = payload::read(&mut datagram) else {
            // Which one it was nobody knows any more, only whether the warm-up was over.
            self.tally.corrupted += u64::from(now_ns >= self.tally.counted_from_ns);
            return;
        };
        if !self.plan().pattern.replies() && header.run == self.plan().run {
            self.published(lane, &header, datagram.len(), now_ns);
            return;
        }
        let in_time = now_ns.saturating_sub(header.sent_ns) <= self.plan().timeout.as_nanos() as u64;
        let state = &mut self.lanes[lane as usize];
        if header.run != self.shared.plan.run || header.flow != state.number {
            self.judge_stranger(&header, in_time);
            return;
        }
        let verdict = state.flow.reply(header.sequence, header.slot, in_time);
        if verdict.counts {
            self.judge(&header, datagram.len(), verdict, now_ns);
        }
        if verdict.frees {
            self.refill_at_once(cx, Place { lane, number: header.flow, slot: header.slot }, now_ns);
        }
    }

    fn on_timer(&mut self, cx: &mut Context<'_, Self>, alarm: Alarm) {
        match (alarm, self.phase) {
            (Alarm::Work, _) => self.work = None,
            (Alarm::Start, Phase::Ready) => {
                self.phase = Phase::Running;
                self.churn(cx);
            }
            (Alarm::Interval, phase) if phase != Phase::Done => self.tell_of_intervals(cx),
            (Alarm::Churn, Phase::Running) => self.churn(cx),
            (Alarm::Sweep, Phase::Running) => self.sweep_from = Some(0),
            (Alarm::Stop, Phase::Running) if self.is_behind() => {
                self.set(cx, cx.io.now() + CATCH_UP_EVERY, Alarm::Stop);
            }
            (Alarm::Stop, Phase::Running) => self.stop(cx),
            (Alarm::Settle, Phase::Settling) => self.settle(cx),
            _ => {}
        }
    }

    fn on_message(&mut self, cx: &mut Context<'_, Self>, _: Origin, command: Command) {
        match command {
            Command::Begin(at) => self.begin(cx, at),
            Command::Finish => self.all_arrived = true,
        }
    }

    fn on_peer_error(&mut self, cx: &mut Context<'_, Self>, peer: PeerId, error: PeerError) {
        match error {
            PeerError::NotOpened { errno } if self.phase == Phase::Opening => {
                self.refuse(opening::not_opened(errno));
            }
            PeerError::NotOpened { errno } => self.lane_failed(cx, peer, opening::not_opened(errno)),
            // How many failed is in the counters: a train of several is told of once, and a flow that is gone not at all.
            _ => drop(self.tally.failure.get_or_insert(error)),
        }
    }

    fn on_turn_end(&mut self, cx: &mut Context<'_, Self>) {
        self.work(cx);
        let Some(progress) = self.shared.progress.get(usize::from(self.info.shard)) else { return };
        progress.sent.store(self.tally.sent, Ordering::Relaxed);
        progress.received.store(self.tally.received, Ordering::Relaxed);
        progress.lost.store(self.given_up, Ordering::Relaxed);
        progress.all_sent.store(self.all_sent, Ordering::Relaxed);
        progress.all_heard.store(self.all_heard, Ordering::Relaxed);
    }

    fn on_drain(&mut self, cx: &mut Context<'_, Self>, _: Instant) -> Drain {
        self.draining = true;
        match self.phase {
            Phase::Opening | Phase::Subscribing | Phase::Ready => self.report(),
            Phase::Running => self.stop(cx),
            Phase::Settling | Phase::Done => {}
        }
        if self.phase == Phase::Done { Drain::WhenIdle } else { Drain::WhenPeersGone }
    }
}

/// A shard that is stopped, or whose handler panicked, says what it has.
impl Drop for Client {
    fn drop(&mut self) {
        if self.phase != Phase::Done {
            self.report();
        }
    }
}
