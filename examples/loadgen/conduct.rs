//! One run of a generator that is up: all shards begin at one time, and what they count is put together.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use shardgram::Handle;

use super::cpu::{Sample, Threads, Usage};
use super::link::{Command, Event, Shared};
use super::outputs::Outputs;
use super::progress::Live;
use super::series::{Point, Series};
use super::tally::Tally;

/// How often the display is brought up to date.
const TICK: Duration = Duration::from_millis(200);
/// Time for the word to reach every shard.
const HEAD_START: Duration = Duration::from_millis(2);

pub(crate) struct Measured {
    pub(crate) tally: Tally,
    pub(crate) points: Vec<Point>,
    pub(crate) client_usage: Option<Usage>,
    pub(crate) server_usage: Option<Usage>,
}

/// What a run is conducted with.
pub(crate) struct Stage<'a> {
    pub(crate) handle: &'a Handle<Command>,
    pub(crate) shards: u16,
    pub(crate) shared: &'a Shared,
    pub(crate) server: Option<&'a Threads>,
}

impl Stage<'_> {
    /// Waits until all flows are open, has all shards begin at one time, and waits for what they counted.
    pub(crate) fn conduct(
        &self,
        events: &Receiver<Event>,
        outputs: &mut Outputs,
    ) -> Result<Measured, String> {
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
