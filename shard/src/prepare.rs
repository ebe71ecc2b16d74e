//! The rings of all shards, made when a server is bound.
//!
//! Which driver serves is settled then, and whether locked memory suffices (RLIMIT_MEMLOCK) shows only when
//! every ring is there. So they are made disabled (`IORING_SETUP_R_DISABLED`, 5.10, io_uring_setup(2)), and the
//! thread that enables one is the one it belongs to from then on. A process may fork and give up privileges in
//! between: what was locked stays locked, and the ring of buffers is shared memory.

use std::fmt;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use shardgram_core::datagram::MAX_PAYLOAD_V6;
use shardgram_core::{Config, Settings, WaitPolicy};
use shardgram_sys::cmsg::Reports;
use shardgram_sys::{affinity, limits};

use crate::buf_ring::BufRing;
use crate::direct;
use crate::engine::{Engine, Failed};
use crate::op::Operands;
use crate::recv::Layouts;
use crate::refusal::Refusal;
use crate::ring::Ring;

/// Smaller queues and rings of buffers than these take as many pages, so they are not tried where memory is
/// short.
const FEWEST_ENTRIES: u32 = 64;
const FEWEST_COMPLETIONS: u32 = 128;
const FEWEST_BUFFERS: u16 = 256;
/// Bytes of payload of the longest train: what IP can carry. Where trains are received every buffer has room for one, and
/// only pages that something reached are backed by memory, so one group of buffers serves single datagrams and trains.
const LONGEST_TRAIN: usize = MAX_PAYLOAD_V6;
/// Bytes of the smallest page there is.
const SMALLEST_PAGE: u64 = 4_096;
/// The kernel gives locked memory back some time after a ring is dropped: 16 to 45 ms were seen, and more than 100
/// where all cores are busy. So long smaller rings wait for that of larger ones that did not fit.
const REFUND: Duration = Duration::from_millis(250);
/// That of a process which has ended comes back as late, 340 ms after it where it had 200 rings. So long the self-test and
/// the first rings wait for it, if they can fit at all.
const REFUND_OF_OTHERS: Duration = Duration::from_secs(1);
const REFUND_POLL: Duration = Duration::from_millis(1);

/// How large a ring is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Size {
    pub(crate) entries: u32,
    pub(crate) completions: u32,
    pub(crate) buffers: u16,
    /// Receive buffers for what is received without the ring.
    pub(crate) spare: u16,
    /// What sockets report beside the address they were written to.
    pub(crate) reports: Reports,
    /// The longest datagram or train a buffer holds, in bytes.
    pub(crate) payload: usize,
}

impl Size {
    fn of(settings: &Settings) -> Self {
        Self {
            entries: settings.submission_entries.into(),
            completions: settings.completion_capacity(),
            buffers: settings.receive_buffers,
            spare: if settings.wait == WaitPolicy::Spin { direct::BUFFERS } else { 0 },
            reports: Reports::of(settings),
            payload: (settings.max_datagram as usize).max(if settings.trains { LONGEST_TRAIN } else { 0 }),
        }
    }

    /// The next smaller one; `None` if it would need as much memory.
    fn halved(self) -> Option<Self> {
        let half = |n: u32, fewest: u32| if n > fewest { (n / 2).max(fewest) } else { n };
        let smaller = Self {
            entries: half(self.entries, FEWEST_ENTRIES),
            completions: half(self.completions, FEWEST_COMPLETIONS),
            buffers: half(self.buffers.into(), FEWEST_BUFFERS.into()) as u16,
            ..self
        };
        (smaller != self).then_some(smaller)
    }

    /// Bytes it locks, at least: pages of submission entries of 64, and of completion entries and buffers of 16 each.
    fn locked(self) -> u64 {
        let pages = |of: u64, n: u32| (of * u64::from(n.next_power_of_two())).next_multiple_of(SMALLEST_PAGE);
        pages(64, self.entries) + pages(16, self.completions) + pages(16, self.buffers.into())
    }

    /// Until when to try so many rings of this size, of which each has to wait until memory comes back: until now if they
    /// lock more than may be locked.
    fn until(self, rings: u16, patience: Duration) -> Instant {
        let limit = limits::locked_memory_limit().unwrap_or(u64::MAX);
        let may_fit = self.locked() * u64::from(rings) <= limit;
        Instant::now() + if may_fit { patience } else { Duration::ZERO }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { entries, completions, buffers, .. } = self;
        write!(
            f,
            "{entries} submission entries, {completions} completion entries and {buffers} receive buffers"
        )
    }
}

/// A ring with its receive buffers that no thread owns yet.
#[derive(Debug)]
pub struct Prepared {
    // Dropped first: from then on the kernel does not use the buffers.
    ring: Ring,
    buffers: BufRing,
    layouts: Layouts,
}

impl Prepared {
    /// One ring of this size, which waits for what a server that has just ended had locked.
    pub(crate) fn alone(size: Size) -> Result<Self, Failed> {
        Self::new(size, size.until(1, REFUND_OF_OTHERS))
    }

    /// A ring of this size. When memory is short, each step is tried until then.
    fn new(size: Size, end: Instant) -> Result<Self, Failed> {
        let ring = patiently(end, || Ring::new(size.entries, size.completions));
        let ring = ring.map_err(Failed::at("io_uring_setup"))?;
        let layouts = Layouts::new(size.reports);
        let bytes = layouts.wildcard.payload() + size.payload;
        let buffers = patiently(end, || BufRing::register(&ring, size.buffers, size.spare, bytes));
        let buffers = buffers.map_err(Failed::at("buffer_ring"))?;
        Ok(Self { ring, buffers, layouts })
    }

    /// Enables the ring, which is the calling thread's from now on.
    pub(crate) fn enable(self) -> io::Result<Engine> {
        self.ring.enable()?;
        let Self { ring, buffers, layouts } = self;
        let operands = Operands::new(ring.capacity(), layouts);
        Ok(Engine { ring, buffers, operands })
    }
}

fn patiently<T>(end: Instant, mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match attempt() {
            Err(e) if e.raw_os_error() == Some(libc::ENOMEM) && Instant::now() < end => {
                thread::sleep(REFUND_POLL);
            }
            result => return result,
        }
    }
}

/// Rings smaller than was asked for, because locked memory is short.
#[derive(Clone, Copy, Debug)]
pub struct Shortage {
    asked: Size,
    granted: Size,
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { asked, granted } = self;
        write!(f, "each ring has {granted} instead of {asked}; raise RLIMIT_MEMLOCK (ulimit -l)")
    }
}

/// Makes a ring for each shard, all of one size: that of the configuration, or where locked memory does not
/// suffice the largest of its halves that fits.
///
/// # Errors
/// What refuses a ring, whatever its size.
pub fn prepare(config: &Config) -> Result<(Vec<Prepared>, Option<Shortage>), Refusal> {
    let asked = Size::of(config.settings());
    let (mut granted, mut patience) = (asked, REFUND_OF_OTHERS);
    loop {
        match one_each(config, granted, patience) {
            Ok(rings) => return Ok((rings, (granted != asked).then_some(Shortage { asked, granted }))),
            Err(refusal) if refusal.is_out_of_memory() => {
                (granted, patience) = (granted.halved().ok_or(refusal)?, REFUND);
                tracing::debug!("memory is short: trying rings of {granted}");
            }
            Err(refusal) => return Err(refusal),
        }
    }
}

fn one_each(config: &Config, size: Size, patience: Duration) -> Result<Vec<Prepared>, Refusal> {
    let shards = config.settings().shards;
    let end = size.until(shards, patience);
    let core = |shard| config.settings().cores.get(usize::from(shard)).copied();
    (0..shards).map(|shard| on_its_core(core(shard), size, end)).collect()
}

/// On the core that will use it, so that its pages lie near that; and on a thread of its own, which stays as it
/// was in every other respect: pinning would last.
fn on_its_core(core: Option<usize>, size: Size, end: Instant) -> Result<Prepared, Refusal> {
    let make = move || {
        if let Some(Err(error)) = core.map(affinity::pin_current_thread) {
            tracing::debug!(%error, "a ring is made on another core than it will be used on");
        }
        Prepared::new(size, end)
    };
    let thread = thread::Builder::new().name("shardgram-ring".to_owned()).spawn(make);
    let thread = thread.map_err(|e| Refusal::new("ring_thread", e))?;
    match thread.join() {
        Ok(made) => made.map_err(|failed| Refusal::new(failed.step, failed.error)),
        Err(_) => Err(Refusal::new("ring_thread", io::Error::other("it panicked"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(config: &Config) -> Vec<(u32, u32, u16)> {
        let sizes = std::iter::successors(Some(Size::of(config.settings())), |size| size.halved());
        sizes.map(|size| (size.entries, size.completions, size.buffers)).collect()
    }

    #[test]
    fn sizes_are_halved_as_long_as_that_saves_memory() {
        let default = [(256, 1024, 256), (128, 512, 256), (64, 256, 256), (64, 128, 256)];
        assert_eq!(steps(&Config::new()), default);
        let large = Config::new().submission_entries(300).receive_buffers(1024);
        let (first, last) = ((300, 4096, 1024), (64, 128, 256));
        assert_eq!((steps(&large).first(), steps(&large).last()), (Some(&first), Some(&last)));
    }

    #[test]
    fn small_rings_stay_as_they_are() {
        let small = Config::new().submission_entries(4).completion_entries(8).receive_buffers(8);
        assert_eq!(steps(&small), [(4, 8, 8)]);
    }

    #[test]
    fn the_completion_queue_never_becomes_the_shorter_one() {
        for entries in [4_u16, 5, 63, 64, 65, 100, 127, 128, 129, 200, 300, 1000, 32_768] {
            let config =
                Config::new().submission_entries(entries).completion_entries(u32::from(entries).max(8));
            assert_eq!(config.validate(), Ok(()));
            for (entries, completions, _) in steps(&config) {
                assert!(completions.next_power_of_two() >= entries.next_power_of_two(), "{entries}");
            }
        }
    }
}
