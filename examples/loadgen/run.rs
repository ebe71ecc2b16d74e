//! A run from start to end: servers up, flows open, load, result.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use shardgram::{Handle, Server, Snapshot};

use super::client::Client;
use super::cpu::{Sample, Threads, Usage};
use super::embedded::Embedded;
use super::link::{Command, Event, Progress, Shared};
use super::options::{self, Options};
use super::plan::{self, Plan};
use super::progress::Live;
use super::report::Report;
use super::tally::Tally;
use super::units;

/// How often the display is brought up to date.
const TICK: Duration = Duration::from_millis(200);
/// Time for the word to reach every shard.
const HEAD_START: Duration = Duration::from_millis(2);
const DRAIN: Duration = Duration::from_secs(1);

/// Runs what the options say. An error is one line, and nothing was left running.
pub(crate) fn run(options: &Options) -> Result<Report, String> {
    let named = options.target.as_deref().map(options::resolve).transpose()?;
    options.check_size(named.unwrap_or_else(|| ([127, 0, 0, 1], 0).into()))?;
    let generator = Server::bind(plan::config(options)).map_err(|error| error.to_string())?;
    let embedded = if named.is_some() { None } else { Some(Embedded::start(options)?) };
    let target = named.or(embedded.as_ref().map(|server| server.address)).ok_or("there is no target")?;
    let client = format!("{}, {}", units::counted(options.shards.into(), "shard"), generator.backend());

    let plan = Plan::new(options, target);
    let (sender, events) = mpsc::channel();
    let progress = (0..options.shards).map(|_| Progress::default()).collect();
    let shared = Shared { plan: plan.clone(), events: sender, progress, threads: Threads::default() };
    let shared = Arc::new(shared);
    let of_shards = Arc::clone(&shared);
    let handle = generator
        .spawn(move |info| Client::new(Arc::clone(&of_shards), info))
        .map_err(|error| error.to_string())?;
    let threads = embedded.as_ref().map(|server| &*server.threads);
    let measured = conduct(&handle, options.shards, &shared, &events, threads)?;
    let client_counters = end(handle)?;
    let (label, server_counters) = match embedded {
        Some(server) => (Some(server.label.clone()), Some(server.end()?)),
        None => (None, None),
    };
    Ok(Report {
        target: target.to_string(),
        embedded: label,
        client,
        mode: plan.mode,
        flows: plan.flows,
        size: plan.size,
        tally: measured.tally,
        client_usage: measured.client_usage,
        server_usage: measured.server_usage,
        client_counters,
        server_counters,
    })
}

struct Measured {
    tally: Tally,
    client_usage: Option<Usage>,
    server_usage: Option<Usage>,
}

/// Waits until all flows are open, has all shards begin at one time, and waits for what they counted.
fn conduct(
    handle: &Handle<Command>,
    shards: u16,
    shared: &Shared,
    events: &Receiver<Event>,
    server: Option<&Threads>,
) -> Result<Measured, String> {
    let mut tally = Tally::new();
    let (mut ready, mut done) = (0, 0);
    let mut clock = Stopwatch { client: &shared.threads, server, from: None, to: None };
    let mut live = Live::new(shared.plan.duration);
    let mut counted_from = None;
    while done < shards {
        let now = Instant::now();
        if let Some(at) = counted_from {
            live.show(at, &shared.progress);
            if now >= at {
                clock.start();
            }
        }
        let until_counted = counted_from.map_or(TICK, |at: Instant| at.saturating_duration_since(now));
        let patience = if until_counted.is_zero() { TICK } else { TICK.min(until_counted) };
        match events.recv_timeout(patience) {
            Ok(Event::Ready) => ready += 1,
            Ok(Event::Refused(cause)) => return Err(cause),
            Ok(Event::Stopped) => clock.stop(),
            Ok(Event::Done(part)) => {
                tally.add(&part);
                done += 1;
            }
            Err(RecvTimeoutError::Timeout) => {}
            // Every shard reports before it ends, so one that has not has taken the program's side down.
            Err(RecvTimeoutError::Disconnected) => break,
        }
        if ready == shards && counted_from.is_none() {
            let at = Instant::now() + HEAD_START;
            for shard in 0..shards {
                // A mailbox that refuses is that of a shard that has ended, which reports as well.
                let _ = handle.tell(shard, Command::Begin(at));
            }
            counted_from = Some(at + shared.plan.warmup);
        }
    }
    let (client_usage, server_usage) = clock.read();
    Ok(Measured { tally, client_usage, server_usage })
}

/// Ends the generator; one that was interrupted has ended already.
fn end(handle: Handle<Command>) -> Result<Snapshot, String> {
    handle.drain(DRAIN).map(|report| report.total).map_err(|error| error.to_string())
}

/// Measures how busy the threads were while datagrams counted.
struct Stopwatch<'a> {
    client: &'a Threads,
    server: Option<&'a Threads>,
    from: Option<(Sample, Option<Sample>)>,
    to: Option<(Sample, Option<Sample>)>,
}

impl Stopwatch<'_> {
    fn sample(&self) -> (Sample, Option<Sample>) {
        (self.client.sample(), self.server.map(Threads::sample))
    }

    fn start(&mut self) {
        if self.from.is_none() {
            self.from = Some(self.sample());
        }
    }

    fn stop(&mut self) {
        if self.to.is_none() {
            self.to = Some(self.sample());
        }
    }

    fn read(&self) -> (Option<Usage>, Option<Usage>) {
        let (Some((client, server)), Some((client_end, server_end))) = (&self.from, &self.to) else {
            return (None, None);
        };
        let server = server.as_ref().zip(server_end.as_ref());
        (Usage::between(client, client_end), server.and_then(|(from, to)| Usage::between(from, to)))
    }
}
