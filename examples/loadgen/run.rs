//! A run from start to end: servers up, flows open, load, result.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock, mpsc};
use std::time::Duration;

use shardgram::{Handle, Server, Snapshot};

use super::client::Client;
use super::conduct::Stage;
use super::cpu::Threads;
use super::embedded::Embedded;
use super::link::{Command, Progress, Shared};
use super::options::Options;
use super::outputs::Outputs;
use super::plan::{self, Load, Plan};
use super::report::Report;
use super::target;
use super::units;

const DRAIN: Duration = Duration::from_secs(1);

/// Runs what the options say. An error is one line, and nothing was left running.
pub(crate) fn run(options: &Options, outputs: &mut Outputs) -> Result<Report, String> {
    let bench = Bench::set_up(options)?;
    let mut report = bench.measure(options.load(), outputs)?;
    report.server_counters = bench.take_down()?;
    Ok(report)
}

/// What several runs have in common: the options and the server.
pub(crate) struct Bench<'a> {
    options: &'a Options,
    embedded: Option<Embedded>,
    target: SocketAddr,
}

impl<'a> Bench<'a> {
    pub(crate) fn set_up(options: &'a Options) -> Result<Self, String> {
        let named = options.target.as_deref().map(target::resolve).transpose()?;
        options.check_size(named.unwrap_or_else(|| ([127, 0, 0, 1], 0).into()))?;
        // What is wrong with the generator is told before a server is up.
        drop(Server::bind(plan::config(options)).map_err(|error| error.to_string())?);
        let embedded = if named.is_some() { None } else { Some(Embedded::start(options)?) };
        let target = named.or(embedded.as_ref().map(|server| server.address)).ok_or("there is no target")?;
        Ok(Self { options, embedded, target })
    }

    /// Loads the server once.
    pub(crate) fn measure(&self, load: Load, outputs: &mut Outputs) -> Result<Report, String> {
        let options = self.options;
        let plan = Plan::new(options, load, self.target)?;
        let generator = Server::bind(plan::config(options)).map_err(|error| error.to_string())?;
        let client = format!("{}, {}", units::counted(options.shards.into(), "shard"), generator.backend());
        let (sender, events) = mpsc::channel();
        let server_shards = self.embedded.as_ref().map_or(0, |server| server.shards);
        let shared = Arc::new(Shared {
            plan: plan.clone(),
            events: sender,
            progress: (0..options.shards + server_shards).map(|_| Progress::default()).collect(),
            threads: Threads::default(),
            counted_from_ns: OnceLock::new(),
        });
        let of_shards = Arc::clone(&shared);
        let handle = generator
            .spawn(move |info| Client::new(Arc::clone(&of_shards), info))
            .map_err(|error| error.to_string())?;
        let stage = Stage { handle: &handle, shared: &shared, server: self.embedded.as_ref() };
        let measured = stage.conduct(&events, outputs)?;
        let client_counters = end(handle)?;
        Ok(Report {
            target: self.target.to_string(),
            embedded: self.embedded.as_ref().map(|server| server.label.clone()),
            client,
            pattern: plan.pattern,
            mode: plan.mode,
            burst: plan.burst,
            flows: plan.flows,
            new_flows: plan.new_flows,
            sources: plan.sources.len(),
            sizes: plan.sizes,
            seed: plan.seed,
            tally: measured.tally,
            points: measured.points,
            refused: measured.refused,
            client_usage: measured.client_usage,
            server_usage: measured.server_usage,
            client_counters,
            server_counters: None,
        })
    }

    /// Ends the embedded server and gives its counters.
    pub(crate) fn take_down(self) -> Result<Option<Snapshot>, String> {
        self.embedded.map(Embedded::end).transpose()
    }
}

/// Ends the generator; one that was interrupted has ended already.
fn end(handle: Handle<Command>) -> Result<Snapshot, String> {
    handle.drain(DRAIN).map(|report| report.total).map_err(|error| error.to_string())
}
