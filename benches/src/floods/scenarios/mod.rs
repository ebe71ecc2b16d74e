//! What is done to a server, and what the others may notice of it.

use std::error::Error;
use std::io;
use std::ops::Range;
use std::time::{Duration, Instant};

use clap::Args;
use hdrhistogram::Histogram;
use shardgram::Backend;

use super::bars::Bars;
use super::clients::{Guest, latencies};
use super::forge::{Sources, Stream};
use super::generator::{Flood, Generator};
use super::handler::{Policy, Report, Serving};
use super::namespace;
use super::served::Served;

pub mod keepalive;
pub mod newcomers;
pub mod reap;
pub mod slow;

/// Time between two questions of an established peer.
const ASKS: Duration = Duration::from_millis(100);
/// Time in which an answer comes that comes at all.
const SETTLES: Duration = Duration::from_secs(1);
/// The longest that newcomers may take until they are served or have given up.
const LONGEST_ARRIVAL: Duration = Duration::from_secs(10);
/// The part of a flood's rate that is to be kept, or nothing is said of the server.
const KEPT: f64 = 0.95;

/// What all scenarios are told.
#[derive(Args, Clone, Debug)]
pub struct Common {
    /// uring or mio.
    #[arg(long, default_value = "uring", global = true)]
    pub backend: Backend,
    /// The server's core.
    #[arg(long, default_value_t = 1, global = true)]
    pub core: usize,
    /// The core of everybody else.
    #[arg(long, default_value_t = 0, global = true)]
    pub client_core: usize,
    /// Exit with 1 if a bar is missed.
    #[arg(long, global = true)]
    pub check: bool,
    /// A rehearsal of some seconds: a small flood, few clients, one round. What it says is no figure.
    #[arg(long, global = true)]
    pub quick: bool,
    /// Rounds, where there are several.
    #[arg(long, default_value_t = 5, global = true)]
    pub rounds: u32,
}

impl Common {
    /// A server of that policy, otherwise with the default configuration.
    fn serving(&self, policy: Policy) -> Serving {
        Serving {
            backend: self.backend,
            core: self.core,
            policy,
            connect: false,
            work_us: 0,
            max_peers: None,
            idle_ms: None,
            time_turns: false,
        }
    }

    /// One of them for a rehearsal, the other otherwise.
    fn choose<T>(&self, quick: T, otherwise: T) -> T {
        if self.quick { quick } else { otherwise }
    }
}

/// A server, and everybody else.
struct Stage {
    served: Served,
    generator: Generator,
    /// Clients so far, so that each has an address of its own.
    clients: u32,
    /// Time in which an answer comes that comes at all.
    settles: Duration,
}

impl Stage {
    fn new(common: &Common, serving: &Serving) -> io::Result<Self> {
        let settles = common.choose(SETTLES / 3, SETTLES);
        Ok(Self { served: Served::start(serving)?, generator: Generator::new()?, clients: 0, settles })
    }

    /// Adds clients that begin one after the other within `time`, after `delay`.
    fn add(
        &mut self,
        count: u32,
        delay: Duration,
        time: Duration,
        make: impl Fn(std::net::Ipv4Addr, std::net::SocketAddrV4, u32) -> io::Result<Guest>,
    ) -> io::Result<Range<usize>> {
        let (begin, first) = (Instant::now() + delay, self.generator.guests.len());
        for at in 0..count {
            let number = self.clients;
            self.clients += 1;
            let guest = make(namespace::client(number), self.served.address(), number)?;
            self.generator.add(guest, begin + time * at / count)?;
        }
        Ok(first..self.generator.guests.len())
    }

    /// Adds clients that ask evenly one after the other, and waits until all are served.
    fn establish(&mut self, count: u32, policy: Policy) -> Result<Range<usize>, Box<dyn Error>> {
        let all = self.add(count, Duration::ZERO, ASKS, |ip, to, flow| {
            if policy.validates() {
                Guest::handshake(ip, to, flow, Duration::ZERO, Some(ASKS))
            } else {
                Guest::newcomer(ip, to, flow, Some(ASKS))
            }
        })?;
        self.arrive(&all)?;
        let served = |guest: &Guest| guest.arrival.is_some_and(|arrival| arrival.after_ns.is_some());
        if !self.generator.guests[all.clone()].iter().all(served) {
            return Err("a quiet server does not serve everybody within ten seconds".into());
        }
        self.generator.run(self.settles, None)?;
        Ok(all)
    }

    /// Waits until it is decided of each of these whether it is served.
    fn arrive(&mut self, whose: &Range<usize>) -> io::Result<()> {
        let end = Instant::now() + LONGEST_ARRIVAL;
        while self.generator.guests[whose.clone()].iter().any(|guest| guest.arrival.is_none())
            && Instant::now() < end
        {
            self.generator.run(Duration::from_millis(10), None)?;
        }
        Ok(())
    }

    /// Forgets what these have counted so far.
    fn count_anew(&mut self, whose: &Range<usize>) {
        self.generator.guests[whose.clone()].iter_mut().for_each(Guest::count_anew);
    }

    /// Has these pause, waits for their last answers, and says what they have met since [`Stage::count_anew`].
    fn settle(&mut self, whose: &Range<usize>) -> io::Result<Met> {
        self.generator.guests[whose.clone()].iter_mut().for_each(Guest::rest);
        self.generator.run(self.settles, None)?;
        let mut met = Met::default();
        for asking in self.generator.guests[whose.clone()].iter().filter_map(|guest| guest.asking.as_ref()) {
            met.asked += asking.asked;
            met.answered += asking.answered;
            met.forgotten += asking.forgotten;
            met.latencies.add(&asking.latencies).map_err(io::Error::other)?;
        }
        Ok(met)
    }

    /// Has these go on asking, evenly one after the other.
    fn resume(&mut self, whose: &Range<usize>) {
        self.count_anew(whose);
        let (now, count) = (Instant::now(), whose.len() as u32);
        for (at, index) in whose.clone().enumerate() {
            self.generator.guests[index].go_on();
            self.generator.plan(index, Some(now + ASKS * at as u32 / count));
        }
    }

    /// A flood from everywhere, so many datagrams a second, for so long.
    fn forged(
        &self,
        sources: Sources,
        kind: u8,
        per_second: u64,
        count: u64,
        step: Duration,
    ) -> io::Result<Flood> {
        let stream = Stream::forged(sources, kind, self.served.address())?;
        Ok(Flood::new(stream, per_second, count, step))
    }
}

/// What became of questions.
struct Met {
    asked: u64,
    answered: u64,
    forgotten: u64,
    latencies: Histogram<u64>,
}

impl Default for Met {
    fn default() -> Self {
        Self { asked: 0, answered: 0, forgotten: 0, latencies: latencies() }
    }
}

impl Met {
    /// Questions without an answer, of a hundred.
    fn lost_percent(&self) -> f64 {
        100.0 * (self.asked - self.answered) as f64 / self.asked.max(1) as f64
    }

    fn at(&self, quantile: f64) -> f64 {
        self.latencies.value_at_quantile(quantile) as f64 / 1e3
    }

    fn describe(&self) -> String {
        let (asked, answered) = (self.asked, self.answered);
        let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|quantile| self.at(quantile));
        format!("{answered} of {asked} answered, p50 {p50:.0} us, p99 {p99:.0} us, p99.9 {p999:.0} us")
    }
}

/// What the flood was, and what the server made of it.
fn describe(bars: &mut Bars, flood: &Flood, before: &Report, after: &Report) {
    bars.at_least("the flood's rate that was kept", flood.kept(), KEPT, "");
    bars.note("flood", format!("{} datagrams", flood.sent()));
    let counters = after.counters.iter().filter_map(|(name, value)| {
        let more = value.saturating_sub(before.get(name));
        (more > 0 && !name.ends_with("bytes")).then(|| format!("{name}={more}"))
    });
    bars.note("server's counters", counters.collect::<Vec<_>>().join(" "));
}
