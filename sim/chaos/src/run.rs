//! One run: it sets up what the plan says, lets things happen, and looks after every step whether all still adds up.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use shardgram_core::shard_loop::Ending;
use shardgram_core::{Config, LookupError, Snapshot};
use shardgram_sim::{NatId, NodeId, Sim, SocketKey};

use crate::dice::Dice;
use crate::floods::Torrent;
use crate::handler::Chaotic;
use crate::ledger::{Arrived, At, Ledger, Receiver};
use crate::plan::{NAMES, NodePlan, Part, Purpose, Scenario};
use crate::quiet::with_kept;
use crate::reached::Reached;
use crate::world::{Limits, Model, NodeModel, Note, PeerState, ShardModel, World};

/// How much later than asked for a node may end: a few turns of all shards.
pub(crate) const SLACK: Duration = Duration::from_millis(50);
/// How long a message may wait: longer than the fullest mailbox takes with the dearest turns.
const PATIENCE: Duration = Duration::from_millis(500);
/// Lines of the simulator's log that a failure shows.
const LINES: usize = 40;
/// Seconds for which queues of links and interfaces may hold something.
const MOST_SECONDS: u32 = 120;
/// A run that takes more steps does not come to an end.
const MOST_STEPS: u64 = 2_000_000;

/// What to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Everything follows from it.
    pub seed: u64,
    /// Which of the actions are done; all of them if this is `None`.
    pub keep: Option<Vec<Range<u32>>>,
    /// What is left out.
    pub without: Vec<Part>,
}

impl Plan {
    /// All that follows from a seed.
    pub fn of(seed: u64) -> Self {
        Self { seed, keep: None, without: Vec::new() }
    }

    pub(crate) fn keeps(&self, index: u32) -> bool {
        self.keep.as_ref().is_none_or(|keep| keep.iter().any(|range| range.contains(&index)))
    }

    /// The command that runs it again.
    pub fn command(&self) -> String {
        let mut command = format!("cargo run --release -p shardgram-chaos -- --seed {}", self.seed);
        if let Some(keep) = &self.keep {
            let ranges: Vec<String> = keep.iter().map(|r| format!("{}-{}", r.start, r.end)).collect();
            command +=
                &format!(" --keep {}", if ranges.is_empty() { "0-0".to_owned() } else { ranges.join(",") });
        }
        if !self.without.is_empty() {
            let parts: Vec<String> = self.without.iter().map(|part| format!("{part:?}")).collect();
            command += &format!(" --without {}", parts.join(","));
        }
        command
    }
}

/// What came of a run.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Turns of shards and events.
    pub steps: u64,
    /// Datagrams that the network was given.
    pub datagrams: u64,
    /// How long it took by the virtual clock.
    pub elapsed: Duration,
    /// The simulator's hash of all that happened.
    pub log_hash: u64,
    /// How many actions the plan had before any was left out, and how many were begun.
    pub actions: (u32, u32),
    /// What of the interface was reached.
    pub reached: Reached,
    /// What went wrong, if anything did.
    pub failure: Option<String>,
    /// The last lines of the simulator's log, if they were asked for.
    pub lines: Vec<String>,
}

/// Runs a plan. With `trace` the last lines of the log are kept.
pub fn run(plan: &Plan, trace: bool) -> Report {
    let mut report = Report::default();
    let mut stage = Stage::new(plan, trace, &mut report.reached);
    report.actions.0 = stage.scenario.actions.len() as u32;
    // What the framework panics with is a finding too. What is left behind is only counted.
    let (outcome, panic) = with_kept(|| catch_unwind(AssertUnwindSafe(|| stage.play(plan))));
    report.failure = match outcome {
        Ok(result) => result.err().map(|what| panic.map_or(what.clone(), |panic| format!("{what}; {panic}"))),
        Err(_) => Some(format!("a panic: {}", panic.unwrap_or_default())),
    };
    report.actions.1 = stage.begun;
    report.steps = stage.steps;
    let lines = stage.sim.lines();
    report.lines = lines[lines.len().saturating_sub(LINES)..].to_vec();
    (report.elapsed, report.log_hash) = (stage.sim.elapsed(), stage.sim.log_hash());
    let counts = stage.sim.counts();
    report.datagrams = counts.sent;
    if counts.filtered > 0 {
        report.reached.note("translator", "kept out");
    }
    for node in &stage.nodes {
        report.reached.counters(&stage.sim.stats(node));
    }
    if let Ok(mut model) = stage.world.try_borrow_mut() {
        if model.ledger.flooded > 0 {
            model.reached.note("flood", "arrived");
        }
        report.reached.add(&model.reached);
    }
    if let Some(failure) = &mut report.failure {
        *failure = format!("after {:?} (virtual) and {} steps: {failure}", report.elapsed, report.steps);
        // A shard that panicked may be in any state, so it is not taken apart.
        std::mem::forget(stage);
    }
    report
}

pub(crate) struct Stage {
    pub(crate) sim: Sim,
    pub(crate) scenario: Scenario,
    pub(crate) world: World,
    pub(crate) nodes: Vec<NodeId<Note>>,
    pub(crate) clients: Vec<(SocketKey, SocketAddr)>,
    /// Where listeners are.
    pub(crate) doors: Vec<SocketAddr>,
    pub(crate) seed: u64,
    pub(crate) steps: u64,
    pub(crate) begun: u32,
    pub(crate) raw_sent: u64,
    pub(crate) raw_received: u64,
    pub(crate) port_zero: u64,
    pub(crate) floods: Vec<Torrent>,
    pub(crate) nats: Vec<NatId>,
}

/// Setting up.
impl Stage {
    fn new(plan: &Plan, trace: bool, reached: &mut Reached) -> Self {
        let scenario = Scenario::of(plan.seed, &plan.without, reached);
        let mut sim = Sim::new(plan.seed);
        sim.trace(trace);
        sim.link(scenario.link);
        sim.mis_steer(scenario.mis_steer).expect("in range");
        sim.stray(scenario.stray).expect("in range");
        sim.refuse_sockets(scenario.refuse).expect("in range");
        for ip in scenario.nodes.iter().flat_map(|node| &node.host) {
            sim.uplink(*ip, scenario.uplink).expect("in range");
        }
        sim.turn_cost(scenario.turn.0, scenario.turn.1).expect("in range");
        sim.train_limits(scenario.train_limits);
        let world = Rc::new(RefCell::new(Model {
            seed: plan.seed,
            calm: false,
            reached: Reached::default(),
            wrong: None,
            ledger: Ledger::new(&scenario),
            nodes: scenario.nodes.iter().map(model_of).collect(),
            budget: scenario.budget,
            targets: scenario.reachable().collect(),
            serial: 0,
            flooded: 0,
            keys: Default::default(),
        }));
        let clients = scenario.clients.iter().map(|address| (sim.socket(*address), *address)).collect();
        let nats = scenario.nats.iter().map(|plan| sim.nat(plan.config())).collect();
        let (steps, begun, doors, nodes) = (0, 0, Vec::new(), Vec::new());
        let (raw_sent, raw_received, port_zero, seed) = (0, 0, 0, plan.seed);
        let mut stage = Self {
            sim,
            scenario,
            world,
            nodes,
            clients,
            doors,
            seed,
            steps,
            begun,
            raw_sent,
            raw_received,
            port_zero,
            floods: Vec::new(),
            nats,
        };
        stage.find_doors();
        stage.set_names();
        stage
    }

    /// Handlers may speak with listeners from their start on, so their addresses are known before. Those of port 0
    /// are found later.
    fn find_doors(&mut self) {
        for node in &self.scenario.nodes {
            for listener in node.config.listen_addrs().iter().filter(|listener| listener.port() != 0) {
                let any = listener.ip().is_unspecified();
                let of_it = |ip: &&std::net::IpAddr| {
                    if any { ip.is_ipv4() == listener.is_ipv4() } else { **ip == listener.ip() }
                };
                let ips = node.host.iter().filter(of_it);
                self.doors.extend(ips.map(|ip| SocketAddr::new(*ip, listener.port())));
            }
        }
        self.world.borrow_mut().targets.extend(&self.doors);
    }

    fn set_names(&mut self) {
        let found = [
            Ok(self.doors.iter().map(|door| door.ip()).collect()),
            Ok(self.scenario.reachable().map(|client| client.ip()).collect()),
            Err(LookupError::Temporary),
        ];
        for (name, addresses) in NAMES.into_iter().zip(found) {
            self.sim.name(name, addresses, Duration::from_millis(3));
        }
    }

    fn start(&mut self) -> Result<(), String> {
        for (index, node) in self.scenario.nodes.iter().enumerate() {
            let started = if node.temper.whole_trains {
                self.sim.server(&node.host, &node.config, Chaotic::<true>::factory(&self.world, index))
            } else {
                self.sim.server(&node.host, &node.config, Chaotic::<false>::factory(&self.world, index))
            };
            let id = started.map_err(|error| format!("node {index} did not start: {error}"))?;
            let any_port = node.config.listen_addrs().iter().map(|listener| listener.port() == 0);
            for (address, any) in self.sim.local_addrs(&id).into_iter().zip(any_port) {
                if any {
                    self.doors.push(address);
                    self.world.borrow_mut().targets.push(address);
                }
            }
            self.nodes.push(id);
        }
        Ok(())
    }
}

fn model_of(node: &NodePlan) -> NodeModel {
    NodeModel {
        host: node.host.clone(),
        lost: Vec::new(),
        limits: limits_of(&node.config),
        temper: node.temper.clone(),
        shards: (0..node.config.shard_count()).map(|_| ShardModel::default()).collect(),
        peers: Default::default(),
        joined: Default::default(),
        mail: Default::default(),
        ends_by: None,
        stopped: false,
        drained: Cell::new(false),
        opened_endpoints: false,
        dialed: false,
        left: Default::default(),
    }
}

fn limits_of(config: &Config) -> Limits {
    let settings = config.settings();
    let of = |name| settings.iter().find(|(n, _)| *n == name).map_or(0, |(_, value)| *value);
    Limits {
        peers: of("max_peers") as usize,
        timers: of("max_timers") as usize,
        mailbox: of("mailbox_len") as usize,
        endpoints: of("max_endpoints") as usize,
        amplification: of("amplification_limit"),
        datagram: of("max_datagram") as usize,
        idle: config.idle_limit(),
        ecn: config.reports_ecn(),
        times: config.reports_time(),
        queue: of("outbox_datagrams"),
    }
}

/// The course of a run.
impl Stage {
    fn play(&mut self, plan: &Plan) -> Result<(), String> {
        self.start()?;
        self.look()?;
        let actions = self.scenario.actions.clone();
        for action in actions.iter().filter(|action| plan.keeps(action.index)) {
            self.pass(action.after)?;
            self.begun += 1;
            self.perform(action);
            self.look()?;
        }
        self.settle()?;
        self.end()
    }

    /// Lets time pass, and looks after each step.
    fn pass(&mut self, time: Duration) -> Result<(), String> {
        let end = self.sim.elapsed() + time;
        loop {
            let left = end.saturating_sub(self.sim.elapsed());
            // What has come by now is read before the clock jumps, since translators forget in time.
            let at_once = self.sim.step_within(Duration::ZERO);
            if !at_once {
                self.read_clients();
            }
            if !(at_once || self.sim.step_within(left)) || self.sim.elapsed() > end {
                return self.look();
            }
            self.steps += 1;
            self.look()?;
            if self.steps > MOST_STEPS {
                return Err(format!("no end after {MOST_STEPS} steps"));
            }
        }
    }

    /// What has to hold between any two steps.
    fn look(&mut self) -> Result<(), String> {
        self.read_clients();
        let counts = self.sim.counts();
        if counts.unaccounted() != 0 {
            return Err(format!("the network does not add up: {counts:?}"));
        }
        let now = self.sim.now();
        let mut model = self.world.borrow_mut();
        for (index, id) in self.nodes.iter().enumerate() {
            let node = &mut model.nodes[index];
            let mut running = false;
            for number in 0..node.shards.len() as u16 {
                let ended = self.sim.shard_ended(id, number);
                let shard = &mut node.shards[usize::from(number)];
                if ended.is_some() && !shard.ended {
                    shard.ended = true;
                    shard.timers.clear();
                    node.mail.retain(|(_, to), _| *to != number);
                    // One that gives up takes the others along.
                    node.stopped |= matches!(ended, Some(Ending::TooManyRestarts));
                }
                running |= ended.is_none();
                let limits = node.limits;
                let stats = self.sim.shard_stats(id, number);
                let shard = &node.shards[usize::from(number)];
                shard
                    .check(&stats, &limits)
                    .map_err(|what| format!("shard {number} of node {index}: {what}"))?;
            }
            if node.drained.take() && !(node.stopped || node.ends_by.is_some()) {
                return Err(format!("peers of node {index} were closed as drained, and it had not to end"));
            }
            let forgotten =
                node.mail.values().filter_map(VecDeque::front).find(|(_, at)| *at + PATIENCE < now);
            if let Some((note, _)) = forgotten {
                return Err(format!("nobody wakes a shard of node {index} for {note:?}"));
            }
            if running && node.ends_by.is_some_and(|by| by < now) {
                return Err(format!("node {index} has not ended in time"));
            }
        }
        model.wrong.take().map_or(Ok(()), Err)
    }

    fn read_clients(&mut self) {
        for (key, address) in &self.clients {
            while let Some(received) = self.sim.receive(*key) {
                self.raw_received += 1;
                let behind = self.world.borrow().ledger.translators.around(address.ip()).is_some();
                let at = At::Behind(*address, self.sim.elapsed());
                let arrived = Arrived {
                    receiver: Receiver::Client,
                    from: received.from,
                    at: if behind { at } else { At::Exactly(*address) },
                    bytes: &received.bytes,
                    truncated_from: None,
                    ecn: Some(received.ecn),
                };
                let mut model = self.world.borrow_mut();
                if behind {
                    model.reached.note("translator", "let in");
                }
                if let Err(what) = model.ledger.arrived(&arrived, true) {
                    model.fail(|| what);
                }
            }
        }
    }

    /// Nothing new begins; what is under way comes to its end, and then nothing may be left.
    fn settle(&mut self) -> Result<(), String> {
        self.world.borrow_mut().calm = true;
        self.sim.heal_all();
        self.end_floods();
        self.pass(self.scenario.slowest)?;
        // What stands in a slow queue takes its time.
        for _ in 0..MOST_SECONDS {
            let waiting: u64 = self.nodes.iter().map(|id| self.sim.stats(id).send_waiting).sum();
            if self.sim.counts().in_flight + waiting == 0 {
                break;
            }
            self.pass(Duration::from_secs(1))?;
        }
        for id in self.nodes.clone() {
            self.sim.refresh(&id);
        }
        // What that turn had failed sends of is told in the next one.
        self.pass(Duration::from_millis(5))?;
        self.quiet()
    }

    fn quiet(&mut self) -> Result<(), String> {
        let (counts, now) = (self.sim.counts(), self.sim.now());
        let mut total = Snapshot::default();
        for id in &self.nodes {
            total.add(&self.sim.stats(id));
        }
        let model = self.world.borrow();
        let gave_up = self.nodes.iter().any(|id| self.gave_up(id));
        let waiting =
            counts.delivered as i64 - (counts.discarded + self.raw_received + total.received) as i64;
        let mut wrong = Vec::new();
        let mut want = |holds: bool, what: String| {
            if !holds {
                wrong.push(what);
            }
        };
        want(counts.in_flight == 0, format!("{} datagrams are on their way", counts.in_flight));
        want(waiting == 0, format!("{waiting} datagrams arrived and are not handled"));
        let sent = self.raw_sent + self.flooded() + total.sent();
        want(gave_up || counts.sent == sent, format!("{} datagrams left, and {sent} were sent", counts.sent));
        let (dropped, full) = (total.kernel_dropped, counts.overflowed);
        // While a shard takes its last turn something more may find no room.
        let some_ended = model.nodes.iter().flat_map(|node| &node.shards).any(|shard| shard.ended);
        let told = if some_ended { dropped <= full } else { dropped == full };
        want(gave_up || told, format!("{dropped} datagrams found no room, and {full} did"));
        for (index, (id, node)) in self.nodes.iter().zip(&model.nodes).enumerate() {
            let out = self.sim.buffers_out(id);
            want(out == 0, format!("{out} receive buffers of node {index} are still out"));
            self.quiet_node((index, id), node, now, &mut want);
        }
        self.quiet_floods(&model, &mut want);
        let translated = !self.nats.is_empty();
        want(
            translated || counts.filtered == 0,
            format!("{} datagrams were kept out by nobody", counts.filtered),
        );
        let undisturbed = self.scenario.lossless
            && !gave_up
            && total.send_failed() + counts.lost + counts.unclaimed + counts.overflowed == 0;
        if undisturbed {
            let missing = model.ledger.missing(|to| self.scenario.clients.contains(&to));
            want(missing.is_none(), missing.unwrap_or_default());
        }
        if wrong.is_empty() { Ok(()) } else { Err(format!("when all was quiet: {}", wrong.join("; "))) }
    }

    fn quiet_node(
        &self,
        (index, id): (usize, &NodeId<Note>),
        node: &NodeModel,
        now: std::time::Instant,
        want: &mut impl FnMut(bool, String),
    ) {
        let stats = self.sim.stats(id);
        let all_run = node.shards.iter().all(|shard| !shard.ended);
        if all_run {
            let (out, into) = (stats.forwarded_out, stats.forwarded_in);
            want(out == into, format!("node {index} forwarded {out} datagrams, and {into} came"));
            let full = stats.dropped_forward_full;
            let nowhere: u64 = node.shards.iter().map(|shard| shard.nowhere).sum();
            // Some had a peer by then, which `accept` had opened itself.
            want(full <= nowhere, format!("node {index}: {full} not forwarded, and {nowhere} may be"));
            want(stats.queued == stats.submitted, format!("node {index} has something left to send"));
        }
        let foreign = stats.dropped_foreign + stats.dropped_closed;
        let any = node.opened_endpoints || foreign == 0;
        want(any, format!("node {index} has no endpoints, and dropped {foreign} datagrams that came to one"));
        let zero = stats.dropped_port_zero;
        want(zero <= self.port_zero * 2, format!("node {index} dropped {zero} datagrams of port 0"));
        let panics: u64 = node.shards.iter().map(|shard| shard.panics).sum();
        let dropped = stats.dropped_panicked;
        want(
            panics > 0 || dropped == 0,
            format!("{dropped} datagrams were dropped by panics on node {index}"),
        );
        for ((from, to), mail) in &node.mail {
            let (count, next) = (mail.len(), mail.front());
            want(
                count == 0,
                format!("{count} messages from {from:?} to {to} of node {index} wait: {next:?}"),
            );
        }
        for (number, shard) in node.shards.iter().enumerate().filter(|(_, shard)| !shard.ended) {
            let late = shard.timers.iter().find(|(_, timer)| timer.at + Duration::from_millis(5) < now);
            want(late.is_none(), format!("a timer of shard {number} of node {index} is late: {late:?}"));
        }
        let Some(timeout) = node.limits.idle else { return };
        let running = |shard: u16| !node.shards[usize::from(shard)].ended;
        let too_long = timeout + timeout / 4 + Duration::from_millis(5);
        let forgotten = node.peers.iter().find(|(id, peer)| {
            let open = peer.state == PeerState::Open && running(id.shard());
            open && now.saturating_duration_since(peer.last_seen) > too_long
        });
        want(forgotten.is_none(), format!("a peer of node {index} is idle and open: {forgotten:?}"));
    }

    fn gave_up(&self, id: &NodeId<Note>) -> bool {
        let shards = self.sim.ended(id).is_some();
        let endings = (0..u16::MAX).map_while(|shard| {
            let ended = self.sim.shard_ended(id, shard);
            (ended.is_some() || !shards).then_some(ended).filter(|_| shard < 64)
        });
        endings.flatten().any(|ending| matches!(ending, Ending::TooManyRestarts | Ending::Failed(_)))
    }

    /// All nodes that still run end, and nobody who was promised a last word is left out.
    fn end(&mut self) -> Result<(), String> {
        let mut dice = Dice::of(&[self.seed, Purpose::Action as u64, u64::MAX]);
        for index in 0..self.nodes.len() {
            if dice.one_in(2) { self.drain(index, Duration::from_millis(20)) } else { self.stop(index) }
        }
        self.pass(SLACK * 3)?;
        for (index, id) in self.nodes.iter().enumerate() {
            let mut model = self.world.borrow_mut();
            let Some(endings) = self.sim.ended(id) else { return Err(format!("node {index} never ended")) };
            for ending in endings {
                model.reached.note("ending", name_of(ending));
            }
            let node = &model.nodes[index];
            let untold = node.peers.iter().find(|(id, peer)| {
                let shard = &node.shards[usize::from(id.shard())];
                peer.state != PeerState::Closed && !shard.panicked
            });
            if let Some((peer, model)) = untold {
                return Err(format!("the end of {peer} of node {index} was not told: {model:?}"));
            }
        }
        Ok(())
    }
}

fn name_of(ending: &Ending) -> &'static str {
    match ending {
        Ending::Drained => "Drained",
        Ending::DrainDeadline => "DrainDeadline",
        Ending::Stopped => "Stopped",
        Ending::TooManyRestarts => "TooManyRestarts",
        _ => "Failed",
    }
}
