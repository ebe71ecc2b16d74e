//! What all shards of the generator agree on.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use shardgram::{Config, Endpoint};

use super::client::SEND_STEP;
use super::options::{MAX_PAYLOAD, Options};
use super::pattern::Pattern;
use super::schedule::Rate;
use super::sizes::Sizes;
use super::slices::Grid;
use super::sources;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mode {
    /// Every flow keeps so many datagrams in flight.
    Closed { window: u32 },
    /// So many datagrams a second, whether or not replies come.
    Open { rate: Rate },
}

/// How much to send, and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) mode: Mode,
    pub(crate) duration: Duration,
}

#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) target: SocketAddr,
    pub(crate) pattern: Pattern,
    /// Shards of the generator.
    pub(crate) shards: u16,
    pub(crate) flows: u32,
    /// What flows are bound to in turn; nothing leaves it to the system.
    pub(crate) sources: Arc<[SocketAddr]>,
    /// Flows replaced a second.
    pub(crate) new_flows: Option<u64>,
    pub(crate) mode: Mode,
    /// Open loop: datagrams that a flow sends at once.
    pub(crate) burst: u32,
    pub(crate) sizes: Sizes,
    /// What sizes are drawn by.
    pub(crate) seed: u64,
    pub(crate) warmup: Duration,
    pub(crate) duration: Duration,
    pub(crate) timeout: Duration,
    /// In every datagram, to know those of this run.
    pub(crate) run: u32,
    /// The length of intervals, if they are wanted.
    pub(crate) step: Option<Duration>,
    /// What the times in datagrams count from.
    pub(crate) epoch: Instant,
    /// The same moment by the clock on the wall.
    pub(crate) wall: SystemTime,
}

/// Bits to know duplicates by, for all pairs of senders and receivers together, and for each.
const MOST_REMEMBERED_BITS: u32 = 1 << 30;
const LEAST_REMEMBERED_BITS: u32 = 1_024;
/// How long a drain may take beyond the timeout of the last datagram.
const DRAIN_SLACK: Duration = Duration::from_secs(1);

impl Plan {
    pub(crate) fn new(options: &Options, load: Load, target: SocketAddr) -> Result<Self, String> {
        Ok(Self {
            target,
            pattern: options.pattern(),
            shards: options.shards,
            flows: options.flows,
            sources: sources::addresses(&options.source, target)?.into(),
            mode: load.mode,
            burst: options.burst,
            new_flows: options.new_flows,
            sizes: options.size.clone(),
            seed: options.seed.unwrap_or_else(|| random().into()),
            warmup: options.warmup,
            duration: load.duration,
            timeout: options.timeout,
            run: random(),
            step: options.step(),
            epoch: Instant::now(),
            wall: SystemTime::now(),
        })
    }

    /// Now, in ns since the epoch. Datagrams of one turn are sent and received at different times, so this
    /// reads the clock where the turn's own time would be too coarse.
    #[inline]
    pub(crate) fn now_ns(&self) -> u64 {
        self.ns_at(Instant::now())
    }

    pub(crate) fn ns_at(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.epoch).as_nanos() as u64
    }

    pub(crate) fn wall_at(&self, at: Instant) -> SystemTime {
        self.wall + at.saturating_duration_since(self.epoch)
    }

    pub(crate) fn instant_of(&self, ns: u64) -> Instant {
        self.epoch + Duration::from_nanos(ns)
    }

    /// The intervals of a run that counts from then on.
    pub(crate) fn grid(&self, start_ns: u64) -> Option<Grid> {
        Some(Grid {
            start_ns,
            step_ns: self.step?.as_nanos() as u64,
            stop_ns: start_ns + self.duration.as_nanos() as u64,
            timeout_ns: self.timeout.as_nanos() as u64,
        })
    }

    /// What the flow of this number is opened as.
    pub(crate) fn endpoint(&self, flow: u32) -> Endpoint {
        match self.sources.len() {
            0 => Endpoint::towards(self.target),
            count => Endpoint::bound(self.sources[flow as usize % count]),
        }
    }

    /// How many sequences a flow has to remember to know duplicates: those of four windows, or of twice
    /// the time after which a reply is late.
    pub(crate) fn remembered(&self) -> u64 {
        match self.mode {
            Mode::Closed { window } => 4 * u64::from(window),
            Mode::Open { rate } => {
                let in_time = u128::from(rate.most()) * self.timeout.as_millis() / 1_000;
                2 * (in_time as u64 / u64::from(self.pattern.senders(self.flows)) + 1)
            }
        }
    }

    /// The same for those who get what others sent, within memory for all of them together.
    pub(crate) fn remembered_arrivals(&self) -> u32 {
        let pairs = match self.pattern {
            Pattern::FanOut { publishers, subscribers } => publishers * subscribers,
            Pattern::Echo | Pattern::Sink => self.flows,
        };
        let affordable = MOST_REMEMBERED_BITS / pairs.max(1);
        let least = LEAST_REMEMBERED_BITS;
        (self.remembered() as u32).next_power_of_two().clamp(least, affordable.max(least).next_power_of_two())
    }
}

/// Seeded by the system's randomness, as the standard library's hashers are.
fn random() -> u32 {
    use std::hash::{BuildHasher, Hasher};
    std::hash::RandomState::new().build_hasher().finish() as u32
}

/// The generator's configuration. It listens on nothing.
pub(crate) fn config(options: &Options) -> Config {
    let shards = u32::from(options.shards.max(1));
    let own_flows = options.flows.div_ceil(shards);
    let own_sockets = own_flows + options.retired_flows().div_ceil(shards);
    let size = options.size.max() as u32;
    let longest = size.next_multiple_of(64).clamp(256, MAX_PAYLOAD[1] as u32);
    Config::new()
        .shards(options.shards)
        .cores(options.cores.iter().copied())
        .backend(options.backend)
        .max_endpoints(own_sockets)
        .max_peers(own_sockets)
        .turn_budget(2 * SEND_STEP as u32)
        .max_timers(64)
        .max_datagram(longest)
        .receive_buffers(receive_buffers(options, own_flows, longest))
        .outbox_bytes((512 * size).max(4 << 20))
        .trains(options.offload.uses_trains())
        .path_mtu(options.path_mtu)
        .idle_timeout(None)
        .max_restarts_per_minute(0)
        .drain_on_signals(Some(options.timeout + DRAIN_SLACK))
}

/// As many as may be in flight, so that what is measured is not the want of them, within what memory and
/// caches bear.
fn receive_buffers(options: &Options, own_flows: u32, bytes_each: u32) -> u16 {
    const FEWEST: u32 = 256;
    const MOST: u32 = 8_192;
    const MOST_WITH_TRAINS: u32 = 2_048;
    const MOST_BYTES: u32 = 64 << 20;
    let in_flight = own_flows.saturating_mul(if matches!(options.load().mode, Mode::Open { .. }) {
        64
    } else {
        options.window
    });
    // With trains each buffer is as long as the longest, of which mostly little is used.
    let affordable = match options.offload.uses_trains() {
        true => MOST_WITH_TRAINS,
        false => 1 << (MOST_BYTES / bytes_each).ilog2(),
    };
    in_flight.clamp(FEWEST, MOST).next_power_of_two().min(affordable) as u16
}
