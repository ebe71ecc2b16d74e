//! One shard of the generator: opens its flows, sends, judges replies, and reports.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use shardgram::{
    Accept, Context, Datagram, Drain, Endpoint, EndpointId, Handler, Origin, PeerError, PeerId, ShardInfo,
    TimerId, Via,
};

use super::flow::{Flow, Kind};
use super::link::{Command, Event, Shared};
use super::payload::{self, Header};
use super::plan::{Mode, Plan};
use super::schedule::{Schedule, Share};
use super::tally::Tally;

/// Flows opened in one turn.
const OPEN_STEP: usize = 64;
/// Datagrams sent in one turn beside those that follow replies: half as many as may be received, so that a
/// generator that has to catch up reads more than it causes.
pub(crate) const SEND_STEP: usize = 64;
/// Flows searched in one turn for datagrams to give up.
const SWEEP_STEP: usize = 1_024;
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
    /// Send no more.
    Stop,
    /// See whether all is answered.
    Settle,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Opening,
    Ready,
    Running,
    Settling,
    Done,
}

pub(crate) struct Client {
    shared: Arc<Shared>,
    info: ShardInfo,
    phase: Phase,
    draining: bool,
    last_endpoint: Option<EndpointId>,
    peers: Vec<PeerId>,
    flows: Vec<Flow>,
    /// Closed loop: free slots of windows, by flow.
    free: VecDeque<(u32, u16)>,
    /// Closed loop: from which flow on to search for what is overdue.
    sweep_from: Option<usize>,
    /// Open loop.
    schedule: Option<Schedule>,
    work: Option<TimerId>,
    stop_ns: u64,
    given_up: u64,
    tally: Tally,
}

impl Client {
    pub(crate) fn new(shared: Arc<Shared>, info: ShardInfo) -> Self {
        Self {
            shared,
            info,
            phase: Phase::Opening,
            draining: false,
            last_endpoint: None,
            peers: Vec::new(),
            flows: Vec::new(),
            free: VecDeque::new(),
            sweep_from: None,
            schedule: None,
            work: None,
            stop_ns: u64::MAX,
            given_up: 0,
            tally: Tally::new(),
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

    fn flow_number(&self, flow: u32) -> u32 {
        flow * u32::from(self.info.shards) + u32::from(self.info.shard)
    }

    fn window(&self) -> usize {
        match self.plan().mode {
            Mode::Closed { window } => window as usize,
            Mode::Open { .. } => 0,
        }
    }
}

/// Opening.
impl Client {
    /// Asks for some more flows. The sockets are opened between turns, so the last ones are there one turn
    /// after they were asked for.
    fn open_some(&mut self, cx: &mut Context<'_, Self>) {
        let left = self.own_flows() - self.flows.len();
        if left == 0 && self.last_endpoint.is_none_or(|last| cx.io.endpoint_address(last).is_some()) {
            self.phase = Phase::Ready;
            self.tell(Event::Ready);
            return;
        }
        for _ in 0..left.min(OPEN_STEP) {
            if let Err(cause) = self.open_one(cx) {
                self.refuse(cause);
                return;
            }
        }
        self.work_at_once(cx);
    }

    fn open_one(&mut self, cx: &mut Context<'_, Self>) -> Result<(), String> {
        let target = self.plan().target;
        let number = self.flows.len() as u32;
        let endpoint = cx.io.endpoint(Endpoint::towards(target)).map_err(|_| "max_endpoints is too small")?;
        let peer = cx.open(Via::Endpoint(endpoint), target, number).map_err(|error| error.to_string())?;
        self.last_endpoint = Some(endpoint);
        self.peers.push(peer);
        self.flows.push(Flow::new(self.window(), self.plan().remembered()));
        Ok(())
    }

    fn refuse(&mut self, cause: String) {
        self.phase = Phase::Done;
        self.tell(Event::Refused(cause));
    }

    fn set(&self, cx: &mut Context<'_, Self>, at: Instant, alarm: Alarm) -> TimerId {
        cx.io.set_timer(at, alarm).expect("a handful of timers")
    }

    /// Has a turn begin at this time, so that it ends with more work done.
    fn work_at(&mut self, cx: &mut Context<'_, Self>, at: Instant) {
        if let Some(before) = self.work.replace(self.set(cx, at, Alarm::Work)) {
            cx.io.cancel(before);
        }
    }

    /// The same, without any sleep: timers keep to ticks, so one for this moment may be a little ahead.
    fn work_at_once(&mut self, cx: &mut Context<'_, Self>) {
        let now = cx.io.now();
        self.work_at(cx, now.checked_sub(TICK).unwrap_or(now));
    }
}

/// Sending.
impl Client {
    fn begin(&mut self, cx: &mut Context<'_, Self>, at: Instant) {
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
        self.set(cx, at, Alarm::Start);
        self.set(cx, stop, Alarm::Stop);
    }

    /// Writes one datagram in place; false if there is no room for it in this turn.
    fn send(
        &mut self,
        cx: &mut Context<'_, Self>,
        flow: u32,
        slot: u16,
        intended_ns: u64,
        now_ns: u64,
    ) -> bool {
        let (plan, number) = (&self.shared.plan, self.flow_number(flow));
        let state = &mut self.flows[flow as usize];
        let Ok(mut room) = cx.io.slot(self.peers[flow as usize], plan.size) else {
            self.tally.refused += 1;
            return false;
        };
        let sequence = state.next() as u32;
        let header = Header { run: plan.run, flow: number, sequence, slot, intended_ns, sent_ns: now_ns };
        payload::write(&mut room[..plan.size], &header);
        if room.commit(plan.size).is_err() {
            self.tally.refused += 1;
            return false;
        }
        let counts = intended_ns >= self.tally.counted_from_ns;
        state.sent(slot, now_ns, counts);
        self.tally.sent += u64::from(counts);
        self.tally.pending += u64::from(counts);
        true
    }

    /// Closed loop: sends from free slots, as much as one turn may.
    fn refill(&mut self, cx: &mut Context<'_, Self>) {
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
    fn send_due(&mut self, cx: &mut Context<'_, Self>, schedule: &mut Schedule) {
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
    fn sweep(&mut self, cx: &mut Context<'_, Self>, from: usize) {
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
    fn work(&mut self, cx: &mut Context<'_, Self>) {
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

/// The end.
impl Client {
    fn stop(&mut self, cx: &mut Context<'_, Self>) {
        self.phase = Phase::Settling;
        let plan = &self.shared.plan;
        let now_ns = plan.now_ns();
        self.tally.stopped_ns = now_ns;
        if let Some(schedule) = &self.schedule
            && now_ns > self.tally.counted_from_ns
        {
            self.tally.asked += schedule.left_until(now_ns.min(self.stop_ns));
        }
        self.tell(Event::Stopped);
        self.set(cx, cx.io.now() + SETTLE_EVERY, Alarm::Settle);
    }

    fn settle(&mut self, cx: &mut Context<'_, Self>) {
        let plan = &self.shared.plan;
        let since_stop = Duration::from_nanos(plan.now_ns().saturating_sub(self.tally.stopped_ns));
        if since_stop > plan.timeout {
            self.tally.pending = 0;
        }
        if self.tally.pending == 0 && since_stop >= LINGER {
            self.finish(cx);
        } else {
            self.set(cx, cx.io.now() + SETTLE_EVERY, Alarm::Settle);
        }
    }

    fn finish(&mut self, cx: &mut Context<'_, Self>) {
        self.report();
        if self.draining {
            self.peers.iter().for_each(|peer| cx.io.close(*peer));
        }
    }

    fn report(&mut self) {
        self.phase = Phase::Done;
        self.tell(Event::Done(Box::new(self.tally.clone())));
    }

    fn judge(&mut self, header: &Header, kind: Kind, frees: bool, now_ns: u64) {
        let tally = &mut self.tally;
        let closed = self.schedule.is_none();
        let first = matches!(kind, Kind::Fresh { .. } | Kind::Late);
        tally.pending = tally.pending.saturating_sub(u64::from(if closed { frees } else { first }));
        match kind {
            Kind::Fresh { reordered } => {
                tally.received += 1;
                tally.reordered += u64::from(reordered);
                tally.from_intended.saturating_record(now_ns.saturating_sub(header.intended_ns));
                if !closed {
                    tally.from_sent.saturating_record(now_ns.saturating_sub(header.sent_ns));
                }
            }
            Kind::Duplicate => tally.duplicated += 1,
            Kind::Late => tally.late += 1,
            Kind::Alien => tally.strange += 1,
        }
    }
}

impl Handler for Client {
    /// The number of its flow on this shard.
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
        let Some(flow) = cx.peers.get(from).copied().filter(|_| self.phase != Phase::Done) else { return };
        let Some(header) = payload::read(&mut datagram) else {
            // Which one it was nobody knows any more, only whether the warm-up was over.
            self.tally.corrupted += u64::from(now_ns >= self.tally.counted_from_ns);
            return;
        };
        if header.run != self.plan().run || header.flow != self.flow_number(flow) {
            self.tally.strange += 1;
            return;
        }
        let in_time = now_ns.saturating_sub(header.sent_ns) <= self.plan().timeout.as_nanos() as u64;
        let verdict = self.flows[flow as usize].reply(header.sequence, header.slot, in_time);
        if verdict.counts {
            self.judge(&header, verdict.kind, verdict.frees, now_ns);
        }
        if verdict.frees && self.phase == Phase::Running && !self.send(cx, flow, header.slot, now_ns, now_ns)
        {
            self.free.push_back((flow, header.slot));
        }
    }

    fn on_timer(&mut self, cx: &mut Context<'_, Self>, alarm: Alarm) {
        match (alarm, self.phase) {
            (Alarm::Work, _) => self.work = None,
            (Alarm::Start, Phase::Ready) => self.phase = Phase::Running,
            (Alarm::Sweep, Phase::Running) => self.sweep_from = Some(0),
            (Alarm::Stop, Phase::Running) => self.stop(cx),
            (Alarm::Settle, Phase::Settling) => self.settle(cx),
            _ => {}
        }
    }

    fn on_message(&mut self, cx: &mut Context<'_, Self>, _: Origin, Command::Begin(at): Command) {
        self.begin(cx, at);
    }

    fn on_peer_error(&mut self, _: &mut Context<'_, Self>, _: PeerId, error: PeerError) {
        match error {
            PeerError::NotOpened { errno } if self.phase == Phase::Opening => self.refuse(not_opened(errno)),
            PeerError::NotOpened { .. } => {}
            _ => {
                self.tally.failed += 1;
                self.tally.failure.get_or_insert(error);
            }
        }
    }

    fn on_turn_end(&mut self, cx: &mut Context<'_, Self>) {
        self.work(cx);
        let Some(progress) = self.shared.progress.get(usize::from(self.info.shard)) else { return };
        progress.sent.store(self.tally.sent, Ordering::Relaxed);
        progress.received.store(self.tally.received, Ordering::Relaxed);
        progress.lost.store(self.given_up, Ordering::Relaxed);
    }

    fn on_drain(&mut self, cx: &mut Context<'_, Self>, _: Instant) -> Drain {
        self.draining = true;
        match self.phase {
            Phase::Opening | Phase::Ready => self.report(),
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

/// Why a socket could not be opened, by the numbers that Linux, macOS and the BSDs give.
fn not_opened(errno: i32) -> String {
    const EMFILE: i32 = 24;
    const ENFILE: i32 = 23;
    const EADDRINUSE: [i32; 2] = [98, 48];
    let cause = std::io::Error::from_raw_os_error(errno);
    let remedy = match errno {
        EMFILE => "raise the limit of descriptors with `ulimit -n` or take fewer --flows",
        ENFILE => "raise the system's limit of descriptors (fs.file-max) or take fewer --flows",
        errno if EADDRINUSE.contains(&errno) => {
            "no port is free: widen net.ipv4.ip_local_port_range or take fewer --flows"
        }
        _ => "take fewer --flows, or see what the system says",
    };
    format!("a flow's socket cannot be opened ({cause}); {remedy}")
}
