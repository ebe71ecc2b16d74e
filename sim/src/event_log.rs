//! What happened, as one number: two runs with the same hash did the same things at the same times.

use std::collections::VecDeque;
use std::hash::Hasher;
use std::net::{IpAddr, SocketAddr};

use siphasher::sip::SipHasher13;

use crate::wire::NOWHERE;

/// Keys of the hash. Any will do, as long as they never change.
const KEYS: (u64, u64) = (0x7368_6172_6467_7261, 0x6d20_7369_6d20_6c67);
/// Bytes of one event.
const RECORD: usize = 64;
/// Stands for "no shard" in an event.
pub(crate) const NO_SHARD: u32 = u32::MAX;

/// What may happen to a datagram, and the turn of a shard, which may do what no datagram shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Sent = 1,
    Lost = 2,
    Duplicated = 3,
    HeldBack = 4,
    Delivered = 5,
    Unclaimed = 6,
    Overflowed = 7,
    Turn = 8,
    TailDropped = 9,
    /// An ICMP error arrived: from whom it speaks of, to whom it speaks.
    Told = 10,
    /// A translator gave it these addresses, or let it not pass.
    Translated = 11,
    Filtered = 12,
}

/// One event.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event {
    pub(crate) at_ns: u64,
    pub(crate) kind: Kind,
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    pub(crate) len: u32,
    /// Hash of the bytes.
    pub(crate) digest: u64,
    /// The shard it reached.
    pub(crate) shard: u32,
}

/// Hash of a datagram's bytes.
#[inline]
pub(crate) fn digest(bytes: &[u8]) -> u64 {
    SipHasher13::new_with_keys(KEYS.0, KEYS.1).hash(bytes)
}

#[derive(Debug)]
pub(crate) struct EventLog {
    hasher: SipHasher13,
    events: u64,
    /// What is kept to read, and how many lines of it.
    lines: Option<(VecDeque<String>, usize)>,
}

impl EventLog {
    pub(crate) fn new() -> Self {
        Self { hasher: SipHasher13::new_with_keys(KEYS.0, KEYS.1), events: 0, lines: None }
    }

    pub(crate) fn add(&mut self, event: &Event) {
        let mut record = [0; RECORD];
        record[..8].copy_from_slice(&event.at_ns.to_le_bytes());
        record[8] = event.kind as u8;
        put_address(&mut record[9..27], event.from);
        put_address(&mut record[27..45], event.to);
        record[45..49].copy_from_slice(&event.len.to_le_bytes());
        record[49..57].copy_from_slice(&event.digest.to_le_bytes());
        record[57..61].copy_from_slice(&event.shard.to_le_bytes());
        self.hasher.write(&record);
        self.events += 1;
        if let Some((lines, most)) = &mut self.lines {
            if lines.len() >= *most {
                lines.pop_front();
            }
            lines.push_back(line(event));
        }
    }

    /// A shard took a turn.
    pub(crate) fn turn(&mut self, at_ns: u64, shard: u32) {
        let (from, to) = (NOWHERE, NOWHERE);
        self.add(&Event { at_ns, kind: Kind::Turn, from, to, len: 0, digest: 0, shard });
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hasher.finish()
    }

    pub(crate) fn events(&self) -> u64 {
        self.events
    }

    /// Keeps the last so many events as lines from now on; none with `None`.
    pub(crate) fn trace(&mut self, most: Option<usize>) {
        self.lines = most.map(|most| (VecDeque::new(), most));
    }

    pub(crate) fn lines(&self) -> impl DoubleEndedIterator<Item = &String> + ExactSizeIterator {
        self.lines.iter().map(|(lines, _)| lines.iter()).next().unwrap_or_default()
    }
}

/// Eighteen bytes: IPv4 addresses as IPv6 ones, then the port.
fn put_address(to: &mut [u8], address: SocketAddr) {
    let ip = match address.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    to[..16].copy_from_slice(&ip.octets());
    to[16..18].copy_from_slice(&address.port().to_le_bytes());
}

fn line(event: &Event) -> String {
    let Event { at_ns, kind, from, to, len, digest, shard } = event;
    let at_us = at_ns / 1_000;
    let time = format!("{at_us:>10}.{:03} us {kind:?}", at_ns % 1_000);
    let shard = if *shard == NO_SHARD { String::new() } else { format!(" shard {shard}") };
    if *kind == Kind::Turn {
        return time + &shard;
    }
    format!("{time} {from} > {to} {len} bytes {digest:016x}{shard}")
}
