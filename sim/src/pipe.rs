//! What leaves one after the other: a link's bandwidth with the queue before it, and a host's uplink with the
//! send buffers that fill behind it.
//!
//! Neither needs events of its own. A pipe knows until when it is busy; what comes meanwhile leaves after that,
//! and how much waits follows from the time.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

/// Pipes are forgotten when they are idle, once there are so many.
const KEPT: usize = 1_024;

/// A number of bytes at a rate.
fn ns_for(bytes: u64, bytes_per_second: u64) -> u64 {
    let ns = u128::from(bytes) * 1_000_000_000 / u128::from(bytes_per_second.max(1));
    u64::try_from(ns).unwrap_or(u64::MAX)
}

/// How fast a link is and how much waits before it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Bandwidth {
    pub(crate) bytes_per_second: u64,
    pub(crate) queue_bytes: u32,
}

/// The links that have a bandwidth, and until when each is busy.
#[derive(Debug, Default)]
pub(crate) struct Pipes {
    busy_until_ns: BTreeMap<(IpAddr, IpAddr), u64>,
    tidy_at: usize,
}

impl Pipes {
    /// When so many bytes have left a link, if they are given to it now; `None` if its queue is full.
    pub(crate) fn pass(
        &mut self,
        way: (IpAddr, IpAddr),
        bandwidth: Bandwidth,
        bytes: u64,
        now_ns: u64,
    ) -> Option<u64> {
        let Bandwidth { bytes_per_second, queue_bytes } = bandwidth;
        if self.busy_until_ns.len() >= self.tidy_at.max(KEPT) {
            self.busy_until_ns.retain(|_, until| *until > now_ns);
            self.tidy_at = 2 * self.busy_until_ns.len();
        }
        let busy_until = self.busy_until_ns.entry(way).or_insert(now_ns);
        let begin = (*busy_until).max(now_ns);
        // One that finds the link idle waits for nothing.
        if begin > now_ns && begin - now_ns + ns_for(bytes, bytes_per_second) > queue_ns(bandwidth) {
            return None;
        }
        debug_assert!(queue_bytes > 0, "a link with a bandwidth has a queue");
        *busy_until = begin.saturating_add(ns_for(bytes, bytes_per_second));
        Some(*busy_until)
    }
}

/// How long a full queue takes to leave.
fn queue_ns(bandwidth: Bandwidth) -> u64 {
    ns_for(u64::from(bandwidth.queue_bytes), bandwidth.bytes_per_second)
}

#[derive(Clone, Copy, Debug)]
struct Uplink {
    bytes_per_second: u64,
    busy_until_ns: u64,
}

/// The interfaces that are slow, by their addresses.
#[derive(Debug, Default)]
pub(crate) struct Uplinks(BTreeMap<IpAddr, Uplink>);

impl Uplinks {
    #[inline]
    pub(crate) fn any(&self) -> bool {
        !self.0.is_empty()
    }

    /// What waits keeps its time.
    pub(crate) fn set(&mut self, ip: IpAddr, bytes_per_second: Option<u64>) {
        let busy_until_ns = self.0.get(&ip).map_or(0, |uplink| uplink.busy_until_ns);
        match bytes_per_second {
            Some(bytes_per_second) => drop(self.0.insert(ip, Uplink { bytes_per_second, busy_until_ns })),
            None => drop(self.0.remove(&ip)),
        }
    }

    /// When so many bytes have left.
    pub(crate) fn pass(&mut self, ip: IpAddr, bytes: u64, now_ns: u64) -> u64 {
        let Some(uplink) = self.0.get_mut(&ip) else { return now_ns };
        let begin = uplink.busy_until_ns.max(now_ns);
        uplink.busy_until_ns = begin.saturating_add(ns_for(bytes, uplink.bytes_per_second));
        uplink.busy_until_ns
    }

    /// When everything has left that was given to it; now, if there is no such uplink.
    pub(crate) fn idle_at(&self, ip: IpAddr, now_ns: u64) -> u64 {
        self.0.get(&ip).map_or(now_ns, |uplink| uplink.busy_until_ns)
    }
}

/// What a socket has sent and its host's uplink has not yet.
#[derive(Debug, Default)]
pub(crate) struct SendBuffer {
    leaving: VecDeque<(u64, u64)>,
    charged_bytes: u64,
    /// It was found full and has to become half empty.
    full: bool,
}

impl SendBuffer {
    /// Whether it takes something. As on Linux, one with any room at all takes a whole datagram, and one that
    /// was full has to become half empty first (`sock_writeable` in include/net/sock.h).
    pub(crate) fn has_room(&mut self, limit_bytes: u64, now_ns: u64) -> bool {
        while let Some(&(at, bytes)) = self.leaving.front()
            && at <= now_ns
        {
            self.leaving.pop_front();
            self.charged_bytes -= bytes;
        }
        let enough = if self.full { self.charged_bytes * 2 <= limit_bytes } else { true };
        self.full = !enough || self.charged_bytes >= limit_bytes;
        !self.full
    }

    pub(crate) fn charge(&mut self, bytes: u64, leaves_at_ns: u64) {
        self.leaving.push_back((leaves_at_ns, bytes));
        self.charged_bytes += bytes;
    }

    /// When a full one is half empty.
    pub(crate) fn room_at(&self, limit_bytes: u64) -> Option<u64> {
        // A socket for every address sends by several interfaces, so a later one may leave earlier; it makes room with
        // those before it.
        let (mut left, mut all_at) = (self.charged_bytes, 0);
        self.leaving.iter().find_map(|(at, bytes)| {
            left -= bytes;
            all_at = all_at.max(*at);
            (left * 2 <= limit_bytes).then_some(all_at)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    #[test]
    fn a_link_serializes_and_drops_at_the_tail() {
        let mut pipes = Pipes::default();
        let slow = Bandwidth { bytes_per_second: 1_000, queue_bytes: 250 };
        let mut pass = |now_ns| pipes.pass((ip(1), ip(2)), slow, 100, now_ns);
        let ms = 1_000_000;
        assert_eq!([pass(0), pass(0), pass(0)], [Some(100 * ms), Some(200 * ms), None]);
        assert_eq!(pass(40 * ms), None, "160 bytes are ahead");
        assert_eq!([pass(50 * ms), pass(50 * ms)], [Some(300 * ms), None], "150, and then 250");
        assert_eq!(pass(1_000 * ms), Some(1_100 * ms));
        let mut tiny = Pipes::default();
        let narrow = Bandwidth { bytes_per_second: 1_000, queue_bytes: 1 };
        assert!(tiny.pass((ip(1), ip(2)), narrow, 100, 0).is_some(), "an idle link takes anything");
    }

    #[test]
    fn a_full_buffer_says_when_it_takes_something() {
        let mut buffer = SendBuffer::default();
        buffer.charge(60, 100);
        buffer.charge(60, 50);
        assert!(!buffer.has_room(100, 70));
        assert_eq!(buffer.room_at(100), Some(100), "what leaves first is behind another one");
        assert!(buffer.has_room(100, 100));
    }

    #[test]
    fn idle_pipes_are_forgotten() {
        let mut pipes = Pipes::default();
        let fast = Bandwidth { bytes_per_second: 1_000_000_000, queue_bytes: 1_000 };
        for n in 0..100_000_u32 {
            let from = IpAddr::from(n.to_be_bytes());
            assert!(pipes.pass((from, ip(1)), fast, 100, u64::from(n) * 1_000).is_some());
        }
        assert!(pipes.busy_until_ns.len() <= KEPT);
    }

    #[test]
    fn a_full_buffer_becomes_half_empty_first() {
        let mut buffer = SendBuffer::default();
        for at in 1..=4 {
            assert!(buffer.has_room(4_000, 0));
            buffer.charge(1_000, at);
        }
        assert!(!buffer.has_room(4_000, 0));
        assert_eq!(buffer.room_at(4_000), Some(2));
        assert!(!buffer.has_room(4_000, 1), "three quarters");
        assert!(buffer.has_room(4_000, 2));
        buffer.charge(1_000, 5);
        assert!(buffer.has_room(4_000, 2), "it was not full");
    }
}
