//! One run: it sets up what the plan says, lets things happen, and looks after every step whether all still adds up.

mod at_rest;
mod course;
mod floods;
mod groups;
mod outages;
mod outside;
mod probes;
mod setting_up;
mod translators;

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use shardgram_sim::{NatId, NodeId, Sim, SocketKey};

use crate::plan::Plan;
use crate::quiet::with_kept;
use crate::reached::Reached;
use crate::scenario::Scenario;
use crate::torrent::Torrent;
use crate::world::{Note, World};

/// How much later than asked for a node may end: a few turns of all shards.
const SLACK: Duration = Duration::from_millis(50);
/// Lines of the simulator's log that a failure shows.
const LINES: usize = 40;

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

/// A run on its way.
struct Stage {
    sim: Sim,
    scenario: Scenario,
    world: World,
    /// All that were ever started, and of each place the last one.
    nodes: Vec<NodeId<Note>>,
    places: Vec<usize>,
    clients: Vec<(SocketKey, SocketAddr)>,
    /// Where listeners are.
    doors: Vec<SocketAddr>,
    seed: u64,
    steps: u64,
    begun: u32,
    raw_sent: u64,
    raw_received: u64,
    port_zero: u64,
    floods: Vec<Torrent>,
    nats: Vec<NatId>,
}
