//! How datagrams travel between two addresses: how long it takes, and what goes wrong.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::error::RangeError;
use crate::pipe::Bandwidth;
use crate::seed::Probability;

/// No delay of a link is longer: a day.
const MAX_DELAY: Duration = Duration::from_secs(86_400);
/// The least MTU a link may have: what IPv4 asks of every link (RFC 791 section 3.2).
const MIN_MTU: u16 = 68;

/// What a link does to datagrams. Without faults it delays each by 50 microseconds and keeps their order.
///
/// ```
/// use shardgram_sim::LinkConfig;
/// use std::time::Duration;
/// # fn main() -> Result<(), shardgram_sim::RangeError> {
/// let mobile = LinkConfig::new()
///     .delay(Duration::from_millis(40))?
///     .jitter(Duration::from_millis(15))?
///     .loss(0.02)?
///     .duplication(0.001)?
///     .reordering(0.01, Duration::from_millis(30))?;
/// # let _ = mobile;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LinkConfig {
    pub(crate) delay_ns: u64,
    pub(crate) jitter_ns: u64,
    pub(crate) loss: Probability,
    pub(crate) duplication: Probability,
    pub(crate) reordering: Probability,
    pub(crate) held_back_ns: u64,
    pub(crate) trains: bool,
    pub(crate) mtu: Option<u16>,
    pub(crate) router_mtu: Option<u16>,
    pub(crate) cut: bool,
    pub(crate) unreachable: bool,
    pub(crate) silent: bool,
    pub(crate) bandwidth: Option<Bandwidth>,
}

impl Default for LinkConfig {
    fn default() -> Self {
        Self {
            delay_ns: 50_000,
            jitter_ns: 0,
            loss: Probability::default(),
            duplication: Probability::default(),
            reordering: Probability::default(),
            held_back_ns: 0,
            trains: false,
            mtu: None,
            router_mtu: None,
            cut: false,
            unreachable: false,
            silent: false,
            bandwidth: None,
        }
    }
}

impl LinkConfig {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// How long every datagram takes. Default 50 microseconds, range 0 to one day.
    ///
    /// # Errors
    /// If it is out of range.
    pub fn delay(mut self, delay: Duration) -> Result<Self, RangeError> {
        self.delay_ns = nanoseconds("delay", delay)?;
        Ok(self)
    }

    /// How much longer it may take, evenly spread from nothing to this. Default 0, range 0 to one day.
    /// Jitter longer than the gap between two datagrams reorders them.
    ///
    /// # Errors
    /// If it is out of range.
    pub fn jitter(mut self, jitter: Duration) -> Result<Self, RangeError> {
        self.jitter_ns = nanoseconds("jitter", jitter)?;
        Ok(self)
    }

    /// The probability that a datagram is lost. Default 0, range 0 to 1.
    ///
    /// # Errors
    /// If it is out of range.
    pub fn loss(mut self, probability: f64) -> Result<Self, RangeError> {
        self.loss = Probability::new("loss", probability)?;
        Ok(self)
    }

    /// The probability that a datagram arrives twice. Default 0, range 0 to 1. Each copy has its own
    /// delay; one that was lost is not doubled.
    ///
    /// # Errors
    /// If it is out of range.
    pub fn duplication(mut self, probability: f64) -> Result<Self, RangeError> {
        self.duplication = Probability::new("duplication", probability)?;
        Ok(self)
    }

    /// The probability that a datagram is held back, and for how long, so that later ones overtake it.
    /// Default 0, range 0 to 1 and 0 to one day.
    ///
    /// # Errors
    /// If either is out of range.
    pub fn reordering(mut self, probability: f64, held_back: Duration) -> Result<Self, RangeError> {
        self.reordering = Probability::new("reordering", probability)?;
        self.held_back_ns = nanoseconds("reordering delay", held_back)?;
        Ok(self)
    }

    /// Whether a train stays whole and is handed over whole, as with UDP_GRO. Default: no, every datagram
    /// travels alone. What befalls a train (loss, delay) then befalls all its datagrams.
    #[must_use]
    pub fn trains(mut self, yes: bool) -> Self {
        self.trains = yes;
        self
    }

    /// The longest IP packet it carries, in bytes. Default `None`: no limit. Range 68 to 65,535. A shard
    /// that sends more learns it as [`shardgram_core::PeerError::TooLong`]; what a raw socket sends is lost.
    ///
    /// # Errors
    /// If it is out of range.
    pub fn mtu(mut self, bytes: Option<u16>) -> Result<Self, RangeError> {
        self.mtu = checked_mtu("mtu", bytes)?;
        Ok(self)
    }

    /// The longest IP packet a router further on passes on, in bytes. Default `None`: no limit. Range 68 to
    /// 65,535. What is longer is lost, and the router says so to the sender (ICMP fragmentation needed, RFC 1191;
    /// packet too big, RFC 8201), whose host from then on does as [`shardgram_core::PathMtu`] of its configuration
    /// has it. Raw sockets never fragment.
    ///
    /// # Errors
    /// If it is out of range.
    pub fn router_mtu(mut self, bytes: Option<u16>) -> Result<Self, RangeError> {
        self.router_mtu = checked_mtu("router_mtu", bytes)?;
        Ok(self)
    }

    /// How many bytes pass in a second, IP and UDP headers included, and how many may wait; what comes when the
    /// queue is full is lost. Default: any number. Range one byte and more. A queue that takes long to pass is
    /// felt as delay by everybody.
    ///
    /// # Errors
    /// If either is 0.
    pub fn bandwidth(mut self, bytes_per_second: u64, queue_bytes: u32) -> Result<Self, RangeError> {
        if bytes_per_second == 0 || queue_bytes == 0 {
            return Err(RangeError {
                field: "bandwidth",
                range: "one byte a second and a queue of one byte at least",
            });
        }
        self.bandwidth = Some(Bandwidth { bytes_per_second, queue_bytes });
        Ok(self)
    }

    /// Whether a router on the way has no route: everything is lost, and it says so to the sender (ICMP host
    /// unreachable, RFC 792). Default: no.
    #[must_use]
    pub fn unreachable(mut self, yes: bool) -> Self {
        self.unreachable = yes;
        self
    }

    /// Whether no ICMP error comes back about what is sent along it, as behind many firewalls. Default: no.
    #[must_use]
    pub fn silent(mut self, yes: bool) -> Self {
        self.silent = yes;
        self
    }

    /// Whether it is cut. Default: no. A shard that sends learns it as
    /// [`shardgram_core::PeerError::Unreachable`]; what a raw socket sends is lost.
    #[must_use]
    pub fn cut(mut self, yes: bool) -> Self {
        self.cut = yes;
        self
    }
}

fn checked_mtu(field: &'static str, bytes: Option<u16>) -> Result<Option<u16>, RangeError> {
    match bytes {
        Some(bytes) if bytes < MIN_MTU => Err(RangeError { field, range: "68 to 65,535 bytes" }),
        bytes => Ok(bytes),
    }
}

fn nanoseconds(field: &'static str, duration: Duration) -> Result<u64, RangeError> {
    if duration > MAX_DELAY {
        return Err(RangeError { field, range: "0 to one day" });
    }
    Ok(duration.as_nanos() as u64)
}

/// Every link of a network: one for all, and exceptions.
#[derive(Debug, Default)]
pub(crate) struct Links {
    all: LinkConfig,
    exceptions: BTreeMap<(IpAddr, IpAddr), LinkConfig>,
}

impl Links {
    pub(crate) fn set_all(&mut self, config: LinkConfig) {
        self.all = config;
    }

    pub(crate) fn set(&mut self, from: IpAddr, to: IpAddr, config: LinkConfig) {
        self.exceptions.insert((from, to), config);
    }

    #[inline]
    pub(crate) fn between(&self, from: IpAddr, to: IpAddr) -> &LinkConfig {
        if self.exceptions.is_empty() {
            return &self.all;
        }
        self.exceptions.get(&(from, to)).unwrap_or(&self.all)
    }
}
