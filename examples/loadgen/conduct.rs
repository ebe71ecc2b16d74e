//! One run of a generator that is up: all shards begin at one time, and what they count is put together.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use shardgram::Handle;

use super::cpu::{Sample, Threads, Usage};
use super::embedded::Embedded;
use super::link::{Command, Event, Order, Progress, Shared};
use super::outputs::Outputs;
use super::pattern::Pattern;
use super::probe::{self, Doubt};
use super::progress::Live;
use super::series::{Point, Series};
use super::tally::Tally;

/// How often the display is brought up to date.
const TICK: Duration = Duration::from_millis(200);
/// Time for the word to reach every shard.
const HEAD_START: Duration = Duration::from_millis(2);
/// How often the end is looked for, and how long duplicates of the last datagrams are waited for.
const MOMENT: Duration = Duration::from_millis(10);
/// For the embedded server to tell what it counted.
const SERVER_PATIENCE: Duration = Duration::from_secs(2);

pub(crate) struct Measured {
    pub(crate) tally: Tally,
    pub(crate) points: Vec<Point>,
    /// Nobody listens at the target.
    pub(crate) refused: bool,
    pub(crate) client_usage: Option<Usage>,
    pub(crate) server_usage: Option<Usage>,
}

/// What a run is conducted with.
pub(crate) struct Stage<'a> {
    pub(crate) handle: &'a Handle<Command>,
    pub(crate) shared: &'a Arc<Shared>,
    pub(crate) server: Option<&'a Embedded>,
}

/// How far a run is.
struct Course<'a> {
    stage: Stage<'a>,
    tally: Tally,
    series: Option<Series>,
    clock: Stopwatch<'a>,
    /// Shards of the embedded server that know of the run, and of the generator that are ready.
    watching: u16,
    ready: u16,
    counted_from: Option<Instant>,
    doubt: Doubt,
    refused: bool,
    /// Shards that send no more, since when all of them, and whether they were told that all has arrived.
    stopped: u16,
    settling_since: Option<Instant>,
    finished: bool,
    /// Shards of the generator that are done.
    done: u16,
    /// Shards of the embedded server that are still to be told of the end, and when they were.
    untold: Vec<u16>,
    ended_at: Option<Instant>,
    served: u16,
}

impl Stage<'_> {
    /// Waits until all flows are open, has all shards begin at one time, and waits for what they counted.
    pub(crate) fn conduct(self, events: &Receiver<Event>, outputs: &mut Outputs) -> Result<Measured, String> {
        let mut live = Live::new(&self.shared.plan, outputs.shows_lines());
        let server = self.server.map(|server| &*server.threads);
        let clock = Stopwatch { client: &self.shared.threads, server, from: None, to: None };
        let untold = (0..self.server_shards()).collect();
        let mut course = Course {
            stage: self,
            tally: Tally::new(),
            series: None,
            clock,
            watching: 0,
            ready: 0,
            counted_from: None,
            doubt: Doubt::new(),
            refused: false,
            stopped: 0,
            settling_since: None,
            finished: false,
            done: 0,
            untold,
            ended_at: None,
            served: 0,
        };
        course.tell_the_server(|shared| Order::Begin(Arc::clone(shared)))?;
        while !course.is_over() {
            match events.recv_timeout(course.watch(&mut live)) {
                Ok(event) => course.hear(event, outputs)?,
                Err(RecvTimeoutError::Timeout) => {}
                // Every shard reports before it ends, so one that has not has taken the program's side down.
                Err(RecvTimeoutError::Disconnected) => break,
            }
            course.go_on(outputs)?;
            course.doubt();
        }
        course.doubt_at_the_end();
        drop(live);
        course.result(outputs)
    }

    fn server_shards(&self) -> u16 {
        self.server.map_or(0, |server| server.shards)
    }

    fn tell_all(&self, command: fn() -> Command) {
        for shard in 0..self.shared.plan.shards {
            // A mailbox that refuses is that of a shard that has ended, which reports as well.
            let _ = self.handle.tell(shard, command());
        }
    }

    /// How many datagrams were sent and how many came, all in all.
    fn heard(&self) -> (u64, u64) {
        let sum = |of: fn(&Progress) -> &AtomicU64| -> u64 {
            self.shared.progress.iter().map(|shard| of(shard).load(Ordering::Relaxed)).sum()
        };
        (sum(|p| &p.all_sent), sum(|p| &p.all_heard))
    }

    fn is_refused(&self) -> bool {
        probe::is_refused(self.shared.plan.target, self.shared.plan.sources.first().copied())
    }

    /// How many datagrams arrived of how many that were to.
    fn arrived(&self) -> (u64, u64) {
        let sum = |of: fn(&Progress) -> &AtomicU64| -> u64 {
            self.shared.progress.iter().map(|shard| of(shard).load(Ordering::Relaxed)).sum()
        };
        (sum(|p| &p.received), sum(|p| &p.sent) * self.shared.plan.pattern.deliveries())
    }
}

impl Course<'_> {
    fn is_over(&self) -> bool {
        let patience = self.ended_at.is_some_and(|at| at.elapsed() > SERVER_PATIENCE);
        self.done >= self.stage.shared.plan.shards && (self.served >= self.stage.server_shards() || patience)
    }

    fn hear(&mut self, event: Event, outputs: &mut Outputs) -> Result<(), String> {
        match event {
            Event::Watching => self.watching += 1,
            Event::Ready => self.ready += 1,
            Event::Refused(cause) => return Err(cause),
            Event::Interval(index, slice) => {
                let series = self.series.as_mut().ok_or("an interval before the first one")?;
                series.add(index, *slice, outputs)?;
            }
            Event::Stopped => {
                self.clock.stop();
                self.stopped += 1;
            }
            Event::Done(part) => {
                self.tally.add(&part);
                self.done += 1;
            }
            Event::Served(part) => {
                self.tally.add(&part);
                self.served += 1;
            }
        }
        Ok(())
    }

    /// Does what can be done by now.
    fn go_on(&mut self, outputs: &mut Outputs) -> Result<(), String> {
        let shared = self.stage.shared;
        let (plan, server_shards) = (&shared.plan, self.stage.server_shards());
        if self.ready >= plan.shards && self.watching >= server_shards && self.counted_from.is_none() {
            self.begin(outputs)?;
        }
        if self.stopped >= plan.shards && !self.finished && !plan.pattern.replies() {
            let since = *self.settling_since.get_or_insert_with(Instant::now);
            let (arrived, due) = self.stage.arrived();
            // The duplicates of the last one may be on their way.
            if (arrived >= due && since.elapsed() > MOMENT) || since.elapsed() > plan.timeout {
                self.finished = true;
                self.stage.tell_all(|| Command::Finish);
            }
        }
        if self.done >= plan.shards && !self.untold.is_empty() {
            self.ended_at.get_or_insert_with(Instant::now);
            self.tell_the_end();
        }
        Ok(())
    }

    fn begin(&mut self, outputs: &mut Outputs) -> Result<(), String> {
        let (shared, plan) = (self.stage.shared, &self.stage.shared.plan);
        let at = Instant::now() + HEAD_START;
        let counted_from_ns = plan.ns_at(at + plan.warmup);
        let told_by = match plan.pattern {
            Pattern::Sink => plan.shards + self.stage.server_shards(),
            Pattern::Echo | Pattern::FanOut { .. } => plan.shards,
        };
        let known = plan.pattern != Pattern::Sink || self.stage.server.is_some();
        let series = |grid| Series::new(grid, usize::from(told_by), plan.pattern.deliveries(), known);
        self.series = plan.grid(counted_from_ns).map(series);
        outputs.begin(plan.wall_at(at + plan.warmup))?;
        let _ = shared.counted_from_ns.set(counted_from_ns); // it is set once, here
        for shard in 0..plan.shards {
            let _ = self.stage.handle.tell(shard, Command::Begin(at)); // as in Stage::tell_all
        }
        self.counted_from = Some(at + plan.warmup);
        Ok(())
    }

    fn tell_the_server(&self, order: fn(&Arc<Shared>) -> Order) -> Result<(), String> {
        let Some(server) = self.stage.server else { return Ok(()) };
        for shard in 0..server.shards {
            let told = server.tell(shard, order(self.stage.shared));
            told.map_err(|_| format!("shard {shard} of the embedded server takes no messages; see the log"))?;
        }
        Ok(())
    }

    /// A mailbox may be full of what was published; the next time there is room.
    fn tell_the_end(&mut self) {
        let Some(server) = self.stage.server else { return };
        self.untold.retain(|shard| server.tell(*shard, Order::End).is_err());
    }

    /// Looks at the run from the side, and says how long it may be until the next look.
    fn watch(&mut self, live: &mut Live) -> Duration {
        let now = Instant::now();
        let Some(at) = self.counted_from else { return TICK };
        live.show(at, &self.stage.shared.progress);
        if now < at {
            return TICK.min(at - now);
        }
        self.clock.start();
        if self.stopped > 0 { MOMENT } else { TICK }
    }

    /// If nothing comes back, asks whether anybody listens at all, and ends the run if nobody does.
    fn doubt(&mut self) {
        let (sent, heard) = self.stage.heard();
        let sending = self.stopped == 0 && self.done == 0;
        if self.stage.server.is_none() && !self.refused && sending && self.doubt.grows(sent, heard) {
            self.refused = self.stage.is_refused();
            if self.refused {
                self.stage.handle.start_drain(MOMENT);
            }
        }
    }

    /// The same once more, for runs that are short.
    fn doubt_at_the_end(&mut self) {
        let (sent, heard) = self.stage.heard();
        if self.stage.server.is_none() && sent > 0 && heard == 0 {
            self.refused = self.refused || self.stage.is_refused();
        }
    }

    fn result(mut self, outputs: &mut Outputs) -> Result<Measured, String> {
        let points = match self.series.take() {
            Some(mut series) => {
                series.finish(outputs)?;
                series.points
            }
            None => Vec::new(),
        };
        let (client_usage, server_usage) = self.clock.read();
        Ok(Measured { tally: self.tally, points, refused: self.refused, client_usage, server_usage })
    }
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
