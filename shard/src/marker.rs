//! Markers: datagrams by which a shard learns that its listener has handed over all it held.
//!
//! A peer that gets a socket of its own still has datagrams in the listener's queue, and they go first. When
//! something comes by the new socket, a marker is sent to the listener, from a socket whose address the
//! steering program assigns to this shard, and what came by the new socket is let in when the marker comes
//! out. One marker serves all peers that wait at the time. A marker may be dropped as any datagram may, so another one is
//! sent before long; each is good for those who waited when it was sent, whichever comes out first. A listener that holds
//! more than it hands over in a millisecond has several in it. The first is sent once something has come by the new socket, since then whatever the same sender sent
//! before has reached its queue. Markers come from this host and never reach the shard loop, which would take them for
//! datagrams of a listener of this process.

use std::collections::VecDeque;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use shardgram_sys::flow_shard;

/// How long a marker may take before another one is sent.
const AGAIN: Duration = Duration::from_millis(1);
/// How long peers wait before they are let in without certainty.
const PATIENCE: Duration = Duration::from_millis(250);
/// Ports tried for one that is steered to this shard, for each shard.
const TRIES_PER_SHARD: u32 = 64;
/// Bytes of a marker: the secret and the number.
pub(crate) const LENGTH: usize = 20;

/// A place that waits, and the generation of its socket.
pub(crate) type Waiter = (u32, u32);

/// Somebody who waits, for this marker or a later one, and since when.
#[derive(Debug)]
struct Held {
    waiter: Waiter,
    number: u32,
    since: Instant,
}

/// The markers of one listener.
#[derive(Debug)]
struct Marker {
    /// The listener's place.
    listener: u32,
    socket: UdpSocket,
    from: SocketAddr,
    to: SocketAddr,
    /// The number of the last one, and when it was sent, as long as it is under way.
    number: u32,
    under_way: Option<Instant>,
    /// Whether the system took it.
    sent: bool,
    /// Who is let in when one comes out, in the order of their numbers, and who came since the last one was sent.
    held: VecDeque<Held>,
    next: Vec<Waiter>,
}

impl Marker {
    /// Takes those who waited when a marker was sent that has come out.
    fn let_in(&mut self, number: u32) -> Vec<Waiter> {
        let later = |held: &Held| (number.wrapping_sub(held.number) as i32) < 0;
        let count = self.held.iter().position(later).unwrap_or(self.held.len());
        self.held.drain(..count).map(|held| held.waiter).collect()
    }

    /// Takes those who have waited for too long.
    fn time_out(&mut self, now: Instant) -> Vec<Waiter> {
        let in_time = |held: &Held| now.saturating_duration_since(held.since) <= PATIENCE;
        let count = self.held.iter().position(in_time).unwrap_or(self.held.len());
        self.held.drain(..count).map(|held| held.waiter).collect()
    }
}

/// What the shards of a server know of each other's markers: in the listeners' port group one may be caught
/// by a peer's socket of any shard before that is connected.
#[derive(Debug)]
pub(crate) struct SharedMarkers {
    secret: [u8; 16],
    /// Of each shard: markers that were sent and did not come out.
    lost: Box<[AtomicI64]>,
}

impl SharedMarkers {
    pub(crate) fn new(shards: u16) -> Self {
        let draw = || RandomState::new().build_hasher().finish().to_ne_bytes();
        let mut secret = [0; 16];
        secret[..8].copy_from_slice(&draw());
        secret[8..].copy_from_slice(&draw());
        Self { secret, lost: (0..shards).map(|_| AtomicI64::new(0)).collect() }
    }

    fn add_lost(&self, shard: u16, count: i64) {
        // A count, by which nothing else is ordered.
        if let Some(lost) = self.lost.get(usize::from(shard)) {
            lost.fetch_add(count, Ordering::Relaxed);
        }
    }
}

/// The markers of a shard.
#[derive(Debug)]
pub(crate) struct Markers {
    shard: u16,
    shards: u16,
    shared: Arc<SharedMarkers>,
    all: Vec<Marker>,
    /// Peers that wait, at all listeners.
    waiting: usize,
}

/// What has become of markers.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Who is let in.
    pub(crate) let_in: Vec<Waiter>,
    /// Whether that is without certainty.
    pub(crate) timed_out: bool,
}

impl Markers {
    pub(crate) fn new(shard: u16, shards: u16, shared: Arc<SharedMarkers>) -> Self {
        Self { shard, shards, shared, all: Vec::new(), waiting: 0 }
    }

    /// Whether anybody waits.
    #[inline]
    pub(crate) fn any(&self) -> bool {
        self.waiting > 0
    }

    /// Markers that were sent and dropped on the way: the kernel counts them as datagrams it dropped.
    pub(crate) fn lost(&self) -> i64 {
        self.shared.lost.get(usize::from(self.shard)).map_or(0, |lost| lost.load(Ordering::Relaxed))
    }

    /// Somebody waits for what the listener in this place, at this address, holds.
    pub(crate) fn wait(&mut self, waiter: Waiter, listener: u32, address: SocketAddr) -> io::Result<()> {
        let at = match self.all.iter().position(|marker| marker.listener == listener) {
            Some(at) => at,
            None => {
                let (socket, from) = self.steered_here(address)?;
                self.all.push(Marker {
                    listener,
                    socket,
                    from,
                    to: address,
                    number: 0,
                    under_way: None,
                    sent: false,
                    held: VecDeque::new(),
                    next: Vec::new(),
                });
                self.all.len() - 1
            }
        };
        self.all[at].next.push(waiter);
        self.waiting += 1;
        Ok(())
    }

    /// A socket whose datagrams to a listener's address reach this shard.
    fn steered_here(&self, listener: SocketAddr) -> io::Result<(UdpSocket, SocketAddr)> {
        let mut any_port = listener;
        any_port.set_port(0);
        // One at a time: the system begins its search for a free port at a random one (udp_lib_get_port in net/ipv4/udp.c).
        for _ in 0..TRIES_PER_SHARD * u32::from(self.shards) {
            let socket = UdpSocket::bind(any_port)?;
            let from = socket.local_addr()?;
            if flow_shard(from, self.shards) == self.shard {
                socket.set_nonblocking(true)?;
                return Ok((socket, from));
            }
        }
        Err(io::ErrorKind::AddrNotAvailable.into())
    }

    /// Sends the markers that are due.
    pub(crate) fn send(&mut self, now: Instant) -> Outcome {
        let mut outcome = Outcome::default();
        for marker in &mut self.all {
            if let Some(last) = marker.under_way {
                if now.saturating_duration_since(last) < AGAIN {
                    continue;
                }
                self.shared.add_lost(self.shard, i64::from(marker.sent));
                marker.under_way = None;
                let late = marker.time_out(now);
                self.waiting -= late.len();
                outcome.timed_out |= !late.is_empty();
                outcome.let_in.extend(late);
            }
            if marker.held.is_empty() && marker.next.is_empty() {
                continue;
            }
            let number = marker.number.wrapping_add(1);
            marker.number = number;
            marker.held.extend(marker.next.drain(..).map(|waiter| Held { waiter, number, since: now }));
            let mut bytes = [0; LENGTH];
            bytes[..16].copy_from_slice(&self.shared.secret);
            bytes[16..].copy_from_slice(&number.to_ne_bytes());
            // A marker that cannot be sent is as good as one that was dropped.
            marker.sent = marker.socket.send_to(&bytes, marker.to).is_ok();
            marker.under_way = Some(now);
        }
        outcome
    }

    /// When another marker is due.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.all.iter().filter_map(|marker| Some(marker.under_way? + AGAIN)).min()
    }

    /// Whether what came by a socket is a marker; then who is let in.
    #[cold]
    pub(crate) fn came(&mut self, place: u32, from: SocketAddr, bytes: &[u8]) -> Option<Vec<Waiter>> {
        let number = bytes.strip_prefix(&self.shared.secret)?.try_into().ok().map(u32::from_ne_bytes)?;
        let awaited = |marker: &&mut Marker| {
            marker.listener == place && marker.from == from && marker.under_way.is_some()
        };
        let Some(marker) = self.all.iter_mut().find(awaited) else {
            // One that was slow and is taken for lost, or that was caught by a peer's socket: then it is
            // taken for lost sooner or later. Its sender is the shard to which it would have been steered.
            self.shared.add_lost(flow_shard(from, self.shards), -1);
            return Some(Vec::new());
        };
        let let_in = marker.let_in(number);
        self.waiting -= let_in.len();
        let is_last = number == marker.number;
        if !is_last {
            // It was taken for lost when the next one was sent.
            self.shared.add_lost(self.shard, -1);
        }
        if marker.held.is_empty() {
            marker.under_way = None;
            // Nobody waits for the last one any more. When it comes out it is no longer taken for lost.
            self.shared.add_lost(self.shard, i64::from(marker.sent && !is_last));
        }
        Some(let_in)
    }

    /// A listener is closed: nobody needs to wait for it.
    pub(crate) fn forget(&mut self, listener: u32) -> Vec<Waiter> {
        let Some(at) = self.all.iter().position(|marker| marker.listener == listener) else {
            return Vec::new();
        };
        let Marker { held, mut next, .. } = self.all.swap_remove(at);
        next.extend(held.into_iter().map(|held| held.waiter));
        self.waiting -= next.len();
        next
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    fn markers(shard: u16, shards: u16) -> Markers {
        Markers::new(shard, shards, Arc::new(SharedMarkers::new(shards)))
    }

    fn listener() -> (UdpSocket, SocketAddr) {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("bind");
        let address = socket.local_addr().expect("an address");
        (socket, address)
    }

    fn receive(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
        let mut bytes = vec![0; 64];
        let (len, from) = socket.recv_from(&mut bytes).expect("a marker");
        bytes.truncate(len);
        (bytes, from)
    }

    #[test]
    fn the_search_for_a_port_takes_one_descriptor_at_a_time() {
        let markers = markers(1_234, 2_000);
        let (lowest, address) = listener();
        for _ in 0..4 {
            let (socket, from) = markers.steered_here(address).expect("a port");
            assert_eq!(flow_shard(from, 2_000), 1_234);
            // Other tests of this process have some as well.
            let taken = socket.as_raw_fd() - lowest.as_raw_fd();
            assert!(taken < 200, "{taken} descriptors before the one that was looked for");
        }
    }

    #[test]
    fn one_marker_lets_in_all_who_waited_when_it_was_sent() {
        let (socket, address) = listener();
        let mut markers = markers(1, 3);
        let now = Instant::now();
        markers.wait((7, 0), 0, address).expect("a socket");
        markers.wait((8, 0), 0, address).expect("a socket");
        assert!(markers.send(now).let_in.is_empty());
        markers.wait((9, 0), 0, address).expect("a socket");
        let (bytes, from) = receive(&socket);
        assert_eq!((bytes.len(), flow_shard(from, 3)), (LENGTH, 1));
        assert_eq!(markers.came(0, from, &bytes), Some(vec![(7, 0), (8, 0)]));
        assert!(markers.any() && markers.deadline().is_none());
        markers.send(now);
        let (bytes, from) = receive(&socket);
        assert_eq!(markers.came(0, from, &bytes), Some(vec![(9, 0)]));
        assert!(!markers.any());
    }

    #[test]
    fn a_stranger_cannot_make_one_and_one_that_went_astray_lets_nobody_in() {
        let (socket, address) = listener();
        let mut markers = markers(0, 1);
        markers.wait((7, 0), 0, address).expect("a socket");
        markers.send(Instant::now());
        let (bytes, from) = receive(&socket);
        assert_eq!(markers.came(0, from, &[0; LENGTH]), None, "without the secret");
        assert!(markers.any());
        assert_eq!(markers.lost(), 0);
        // With it, it is nobody's datagram, but says nothing of this listener.
        assert_eq!(markers.came(0, address, &bytes), Some(vec![]), "from another address");
        assert_eq!(markers.came(1, from, &bytes), Some(vec![]), "by another socket");
        assert!(markers.any());
    }

    #[test]
    fn a_marker_that_is_lost_is_sent_again_and_not_for_ever() {
        let (socket, address) = listener();
        let mut markers = markers(0, 1);
        let start = Instant::now();
        markers.wait((7, 0), 0, address).expect("a socket");
        markers.send(start);
        let (first, from) = receive(&socket);
        markers.send(start + AGAIN / 2);
        markers.send(start + AGAIN);
        assert_eq!(markers.lost(), 1);
        let (second, _) = receive(&socket);
        assert_eq!(markers.came(0, from, &second), Some(vec![(7, 0)]));
        assert_eq!(markers.came(0, from, &first), Some(vec![]), "it was slow, and nobody waits for it");
        assert_eq!(markers.lost(), 0);
        markers.wait((8, 0), 0, address).expect("a socket");
        markers.send(start);
        let late = markers.send(start + PATIENCE + AGAIN);
        assert!(late.timed_out);
        assert_eq!(late.let_in, [(8, 0)]);
        assert!(!markers.any());
        assert_eq!(markers.lost(), 1);
        let (third, _) = receive(&socket);
        assert_eq!(markers.came(0, from, &third), Some(vec![]), "later than anybody waits for it");
        assert_eq!(markers.lost(), 0);
    }

    /// More of them are in it than the last one, and somebody comes for each.
    #[test]
    fn a_listener_that_takes_longer_than_a_marker_is_waited_for_lets_in_who_waited_then() {
        let (socket, address) = listener();
        let mut markers = markers(0, 1);
        let start = Instant::now();
        let mut sent = Vec::new();
        for at in 0..4 {
            markers.wait((at, 0), 0, address).expect("a socket");
            assert!(!markers.send(start + AGAIN * at).timed_out);
            sent.push(receive(&socket));
        }
        assert_eq!(markers.lost(), 3);
        let mut came = |at: usize| markers.came(0, sent[at].1, &sent[at].0);
        assert_eq!(came(0), Some(vec![(0, 0)]));
        assert_eq!(came(2), Some(vec![(1, 0), (2, 0)]), "the one between is lost");
        // Of two who wait one has waited for too long.
        let late = start + AGAIN * 3 + PATIENCE;
        markers.wait((9, 0), 0, address).expect("a socket");
        assert_eq!(markers.send(late).let_in, []);
        assert_eq!(markers.send(late + AGAIN).let_in, [(3, 0)]);
        assert!(markers.any());
        receive(&socket);
        let (bytes, from) = receive(&socket);
        assert_eq!(markers.came(0, from, &bytes), Some(vec![(9, 0)]));
        assert!(!markers.any());
        assert_eq!(markers.lost(), 3, "the second, the fourth, and the one before the last");
    }
}
