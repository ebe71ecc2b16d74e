//! The load, and what became of it.
//!
//! The client is not written with shardgram, and it is the same for all. A flow is a connected socket. **Plain**
//! clients send and receive one datagram a message, many messages a call (`sendmmsg`, `recvmmsg`); **offloading**
//! ones send trains (UDP_SEGMENT) and take them whole (UDP_GRO).
//!
//! Every datagram has a number in its flow, a place among those in flight, and a filling; all are looked at when it
//! comes back. What does not come for [`LOST_AFTER`] is lost, and its place is used again, so that no run hangs.

mod acquaint;
mod closed;
mod fanout;
mod ledger;
mod link;
mod open;
mod sink;

use std::io;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::child::Server;
use super::servers::{Mode, Wait};
use super::system;

/// A datagram that has not come back by then is lost.
pub const LOST_AFTER: Duration = Duration::from_secs(1);
/// A server from which nothing comes for so long has failed.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// Under load before it is measured.
pub const WARM_UP: Duration = Duration::from_millis(200);
/// A loss above this part is a failure, where the load is one that no server needs to lose of.
pub const MOST_LOST: f64 = 0.001;

/// How the client sends and receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Style {
    /// One datagram a message.
    Plain,
    /// Trains.
    Offload,
}

impl std::fmt::Display for Style {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.to_possible_value().as_ref().map_or("", |value| value.get_name()))
    }
}

/// What is sent.
#[derive(Clone, Debug)]
pub struct Load {
    /// What the server does with it.
    pub mode: Mode,
    /// Flows, each with a socket of its own; in a fan-out, those who listen.
    pub flows: u32,
    /// Datagrams of each flow in flight; in a fan-out, publications in flight.
    pub window: u32,
    /// Bytes of a datagram.
    pub size: usize,
    /// How the client sends and receives.
    pub style: Style,
    /// How it waits.
    pub wait: Wait,
    /// How long it is measured.
    pub time: Duration,
    /// Datagrams a second, whether or not others have come back; only for an echo.
    pub rate: Option<u64>,
}

/// What became of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Outcome {
    /// Datagrams that came back, or, of a sink, that it counted.
    pub datagrams: u64,
    /// Seconds it was measured for.
    pub seconds: f64,
    /// Datagrams a second.
    pub pps: f64,
    /// Nanoseconds of the server's CPU for each.
    pub cpu_ns: f64,
    /// The part of the time that the server, and the client, was on its core.
    pub server_busy: f64,
    /// The same of the client.
    pub client_busy: f64,
    /// Datagrams that did not come back.
    pub lost: u64,
    /// With other bytes than were sent, or to another flow.
    pub corrupted: u64,
    /// That came back twice, or after they were given up.
    pub duplicated: u64,
    /// That came after a later one of their flow.
    pub reordered: u64,
    /// Latency in nanoseconds: a round trip, from the moment it was due where there is a rate; of a sink, none.
    pub latency: Option<Latency>,
}

/// Percentiles of latency, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Latency {
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p999: u64,
    pub max: u64,
}

impl Latency {
    fn of(histogram: &Histogram<u64>) -> Option<Self> {
        let at = |part| histogram.value_at_quantile(part);
        (!histogram.is_empty()).then(|| Self {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: histogram.max(),
        })
    }
}

impl Outcome {
    /// Why this counts as a failure, if it does.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        let part = self.lost as f64 / (self.lost + self.datagrams).max(1) as f64;
        if self.datagrams == 0 {
            Some("nothing came back".to_owned())
        } else if self.corrupted > 0 {
            Some(format!("{} datagrams were corrupted", self.corrupted))
        } else if part > MOST_LOST {
            Some(format!("{} datagrams were lost, {:.2} %", self.lost, part * 100.0))
        } else {
            None
        }
    }
}

/// What is read off at the start and at the end.
#[derive(Clone, Copy)]
struct Mark {
    at: Instant,
    server_ns: u64,
    client_ns: u64,
    datagrams: u64,
}

impl Mark {
    fn now(server: &Server, datagrams: u64) -> io::Result<Self> {
        let server_ns = server.cpu_ns()?;
        Ok(Self { at: Instant::now(), server_ns, client_ns: system::thread_cpu_ns(), datagrams })
    }

    fn outcome(self, end: Self) -> Outcome {
        let datagrams = end.datagrams - self.datagrams;
        let seconds = end.at.duration_since(self.at).as_secs_f64();
        let spent = (end.server_ns - self.server_ns) as f64;
        Outcome {
            datagrams,
            seconds,
            pps: datagrams as f64 / seconds,
            cpu_ns: spent / datagrams.max(1) as f64,
            server_busy: spent / 1e9 / seconds,
            client_busy: (end.client_ns - self.client_ns) as f64 / 1e9 / seconds,
            ..Outcome::default()
        }
    }
}

/// When to begin to measure, and when to end.
struct Phases {
    start: Instant,
    time: Duration,
    first: Option<Mark>,
}

impl Phases {
    fn start(load: &Load) -> Self {
        Self { start: Instant::now(), time: load.time, first: None }
    }

    /// Begins to measure if it is time; says whether it has just begun.
    fn begins(&mut self, now: Instant, server: &Server, datagrams: u64) -> io::Result<bool> {
        if self.first.is_some() || now < self.start + WARM_UP {
            return Ok(false);
        }
        self.first = Some(Mark::now(server, datagrams)?);
        Ok(true)
    }

    fn is_over(&self, now: Instant) -> bool {
        self.first.is_some_and(|first| now >= first.at + self.time)
    }

    /// Reads off the end.
    fn finish(&self, server: &Server, datagrams: u64) -> io::Result<Outcome> {
        let end = Mark::now(server, datagrams)?;
        Ok(self.first.unwrap_or(end).outcome(end))
    }
}

/// Puts a load on a server.
///
/// # Errors
/// What the system says of the client's sockets, or that nothing came back.
pub fn run(load: &Load, server: &Server) -> io::Result<Outcome> {
    match (load.mode, load.rate) {
        (Mode::Echo, None) => closed::run(load, server),
        (Mode::Echo, Some(rate)) => open::run(load, rate, server),
        (Mode::Sink, _) => sink::run(load, server),
        (Mode::Fanout, _) => fanout::run(load, server),
    }
}

/// The server has failed.
fn silent() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("nothing came back for {} s", PATIENCE.as_secs()))
}
