//! A run from start to end: servers up, flows open, load, result.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use shardgram::{Handle, Server, Snapshot};

use super::client::Client;
use super::cpu::{Sample, Threads, Usage};
use super::embedded::Embedded;
use super::link::{Command, Event, Progress, Shared};
use super::options::Options;
use super::outputs::Outputs;
use super::plan::{self, Plan};
use super::progress::Live;
use super::report::Report;
use super::series::{Point, Series};
use super::tally::Tally;
use super::target;
use super::units;

/// How often the display is brought up to date.
const TICK: Duration = Duration::from_millis(200);
/// Time for the word to reach every shard.
const HEAD_START: Duration = Duration::from_millis(2);
const DRAIN: Duration = Duration::from_secs(1);

/// Runs what the options say. An error is one line, and nothing was left running.
pub(crate) fn run(options: &Options, outputs: &mut Outputs) -> Result<Report, String> {
    let named = options.target.as_deref().map(target::resolve).transpose()?;
    options.check_size(named.unwrap_or_else(|| ([127, 0, 0, 1], 0).into()))?;
    let generator = Server::bind(plan::config(options)).map_err(|error| error.to_string())?;
    let embedded = if named.is_some() { None } else { Some(Embedded::start(options)?) };
    let target = named.or(embedded.as_ref().map(|server| server.address)).ok_or("there is no target")?;
    let client = format!("{}, {}", units::counted(options.shards.into(), "shard"), generator.backend());

    let plan = Plan::new(options, target)?;
    let (sender, events) = mpsc::channel();
    let progress = (0..options.shards).map(|_| Progress::default()).collect();
    let shared = Shared { plan: plan.clone(), events: sender, progress, threads: Threads::default() };
    let shared = Arc::new(shared);
    let of_shards = Arc::clone(&shared);
    let handle = generator
        .spawn(move |info| Client::new(Arc::clone(&of_shards), info))
        .map_err(|error| error.to_string())?;
    let threads = embedded.as_ref().map(|server| &*server.threads);
    let stage = Stage { handle: &handle, shards: options.shards, shared: &shared, server: threads };
    let measured = stage.conduct(&events, outputs)?;
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
        new_flows: plan.new_flows,
        sources: plan.sources.len(),
        sizes: plan.sizes,
        seed: plan.seed,
        tally: measured.tally,
        points: measured.points,
        client_usage: measured.client_usage,
        server_usage: measured.server_usage,
        client_counters,
        server_counters,
    })
}

struct Measured {
    tally: Tally,
    points: Vec<Point>,
    client_usage: Option<Usage>,
    server_usage: Option<Usage>,
}

/// What a run is conducted with.
struct Stage<'a> {
    handle: &'a Handle<Command>,
    shards: u16,
    shared: &'a Shared,
    server: Option<&'a Threads>,
}

impl Stage<'_> {
    /// Waits until all flows are open, has all shards begin at one time, and waits for what they counted.
    fn conduct(&self, events: &Receiver<Event>, outputs: &mut Outputs) -> Result<Measured, String> {
        let mut tally = Tally::new();
        let (mut ready, mut done) = (0, 0);
        let mut clock = Stopwatch { client: &self.shared.threads, server: self.server, from: None, to: None };
        let mut live = Live::new(self.shared.plan.duration, outputs.shows_lines());
        let mut series = None;
        let mut counted_from = None;
        while done < self.shards {
            match events.recv_timeout(self.watch(counted_from, &mut live, &mut clock)) {
                Ok(Event::Ready) => ready += 1,
                Ok(Event::Refused(cause)) => return Err(cause),
                Ok(Event::Interval(index, slice)) => {
                    let series: &mut Series = series.as_mut().ok_or("an interval before the first one")?;
                    series.add(index, *slice, outputs)?;
                }
                Ok(Event::Stopped) => clock.stop(),
                Ok(Event::Done(part)) => {
                    tally.add(&part);
                    done += 1;
                }
                Err(RecvTimeoutError::Timeout) => {}
                // Every shard reports before it ends, so one that has not has taken the program's side down.
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if ready == self.shards && counted_from.is_none() {
                let at = Instant::now() + HEAD_START;
                let grid = self.shared.plan.grid(at);
                series = grid.map(|grid| Series::new(grid, usize::from(self.shards)));
                outputs.begin(self.shared.plan.wall_at(at + self.shared.plan.warmup))?;
                self.begin(at);
                counted_from = Some(at + self.shared.plan.warmup);
            }
        }
        drop(live);
        let points = match series {
            Some(mut series) => {
                series.finish(tally.stopped_ns, outputs)?;
                series.points
            }
            None => Vec::new(),
        };
        let (client_usage, server_usage) = clock.read();
        Ok(Measured { tally, points, client_usage, server_usage })
    }

    fn begin(&self, at: Instant) {
        for shard in 0..self.shards {
            // A mailbox that refuses is that of a shard that has ended, which reports as well.
            let _ = self.handle.tell(shard, Command::Begin(at));
        }
    }

    /// Looks at the run from the side, and says how long it may be until the next look.
    fn watch(&self, counted_from: Option<Instant>, live: &mut Live, clock: &mut Stopwatch<'_>) -> Duration {
        let now = Instant::now();
        let Some(at) = counted_from else { return TICK };
        live.show(at, &self.shared.progress);
        if now >= at {
            clock.start();
            return TICK;
        }
        TICK.min(at - now)
    }
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
