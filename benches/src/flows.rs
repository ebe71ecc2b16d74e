//! Flows that number their datagrams, and what a server notices of them.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Bytes of a datagram.
pub const LENGTH: usize = 16;

/// What a datagram says: a kind, which the server may go by, the flow, and its number in it, from 1.
///
/// ```
/// use shardgram_benches::flows::{bytes, parse};
/// assert_eq!(parse(&bytes(b'n', 7, 1)), Some((b'n', 7, 1)));
/// assert_eq!(parse(b"short"), None);
/// ```
#[must_use]
pub fn bytes(kind: u8, flow: u32, number: u64) -> [u8; LENGTH] {
    let mut bytes = [0; LENGTH];
    bytes[0] = kind;
    bytes[4..8].copy_from_slice(&flow.to_be_bytes());
    bytes[8..].copy_from_slice(&number.to_be_bytes());
    bytes
}

/// Reads what [`bytes`] wrote.
#[must_use]
pub fn parse(bytes: &[u8]) -> Option<(u8, u32, u64)> {
    let bytes: &[u8; LENGTH] = bytes.try_into().ok()?;
    let (flow, number) = (bytes[4..8].try_into().ok()?, bytes[8..].try_into().ok()?);
    Some((bytes[0], u32::from_be_bytes(flow), u64::from_be_bytes(number)))
}

/// What went wrong, counted by all shards.
#[derive(Debug, Default)]
pub struct Faults {
    /// Datagrams of one flow that were given to the peer of another.
    pub misdelivered: AtomicU64,
    /// Datagrams that came after one of their flow with a higher number.
    pub reordered: AtomicU64,
}

/// What a server keeps of a flow's peer.
#[derive(Debug)]
pub struct Flow {
    /// Which it is.
    pub id: u32,
    last: u64,
}

impl Flow {
    /// That of the first datagram.
    #[must_use]
    pub fn new(id: u32) -> Self {
        Self { id, last: 0 }
    }

    /// Whether nothing was given to this flow's peer yet.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.last == 0
    }

    /// A datagram was given to this flow's peer.
    pub fn came(&mut self, flow: u32, number: u64, faults: &Faults) {
        if flow != self.id {
            faults.misdelivered.fetch_add(1, Ordering::Relaxed);
        } else if number <= self.last {
            faults.reordered.fetch_add(1, Ordering::Relaxed);
        } else {
            self.last = number;
        }
    }
}

/// The loopback address of a family.
#[must_use]
pub fn loopback(ipv6: bool) -> IpAddr {
    if ipv6 { Ipv6Addr::LOCALHOST.into() } else { Ipv4Addr::LOCALHOST.into() }
}

/// Waits until so many of something may have been done since `start`, at that many a second.
pub fn pace(start: Instant, done: u64, per_second: u64) {
    let due = start + Duration::from_secs_f64(done as f64 / per_second as f64);
    std::thread::sleep(due.saturating_duration_since(Instant::now()));
}

/// Flows that send on a thread of their own.
#[derive(Debug)]
pub struct Flood {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<u64>>,
}

impl Flood {
    /// One flow a socket, with these numbers, sent from this core: so many datagrams a second, or as fast as it can.
    #[must_use]
    pub fn start(
        core: usize,
        kind: u8,
        sockets: Vec<(u32, UdpSocket)>,
        to: SocketAddr,
        per_second: Option<u64>,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            // One that moved to another core could overtake itself: the kernel works datagrams off core by core.
            core_affinity::set_for_current(core_affinity::CoreId { id: core });
            let (start, mut number, mut sent) = (Instant::now(), 0, 0);
            while !stopped.load(Ordering::Relaxed) {
                number += 1;
                for (flow, socket) in &sockets {
                    sent += u64::from(socket.send_to(&bytes(kind, *flow, number), to).is_ok());
                }
                if let Some(per_second) = per_second {
                    pace(start, number * sockets.len() as u64, per_second);
                }
            }
            sent
        });
        Self { stop, thread: Some(thread) }
    }

    /// Ends it; says how many datagrams were sent.
    ///
    /// # Errors
    /// If its thread panicked.
    pub fn stop(mut self) -> io::Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().map(JoinHandle::join);
        thread.and_then(Result::ok).ok_or_else(|| io::Error::other("the flood's thread panicked"))
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
