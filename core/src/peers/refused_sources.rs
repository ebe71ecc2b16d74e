//! Who is not heard for a while, because what came from there made a handler panic.
//!
//! First the 4-tuple is refused. When several 4-tuples of one address made handlers panic, that address is, and when
//! several addresses of one prefix did, that prefix. Each further panic doubles the time. Only strangers are looked up
//! here: whoever is a peer stays one, but for the peer whose datagram it was.
//!
//! Sources may be forged, so what stands here may be somebody else's, and all of it is bounded: in a full set of the
//! table the entry that would be forgotten first gives way, and the longest refusal is named below. An entry is found by a keyed
//! hash, so nobody can aim at one that is to give way.

use std::hash::Hasher;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use siphasher::sip::SipHasher13;

use crate::types::datagram::Path;

/// For how long the first panic has a source refused. Each further one doubles it.
pub(crate) const FIRST: Duration = Duration::from_secs(1);
/// The longest a 4-tuple is refused that proved nothing.
pub(crate) const LONGEST: Duration = Duration::from_secs(256);
/// The longest an address or a prefix is refused for what came from 4-tuples that proved nothing: less, since whoever
/// forges one of its 4-tuples has all of it refused.
pub(crate) const LONGEST_FOR_MANY: Duration = Duration::from_secs(64);
/// How many times as long a source is refused that was proven.
pub(crate) const PROVEN: u32 = 16;
/// So many 4-tuples of an address, and so many addresses of a prefix, have it refused.
pub(crate) const SEVERAL: u32 = 4;
/// Without another panic an entry is forgotten so long after its refusal is over.
const FORGOTTEN: Duration = Duration::from_secs(600);
/// Bits of a prefix.
const PREFIX_V4: u32 = 24;
const PREFIX_V6: u32 = 56;
/// The table: sets of entries, 4,096 in all. Made with the first panic.
const SETS: usize = 512;
const WAYS: usize = 8;
/// Bits of a set of 4-tuples that had peers when a handler was replaced; there are two such sets.
const SPARED_BITS: usize = 1 << 19;
/// After so long a new one is begun, and the older of the two is forgotten.
const SPARED_FOR: Duration = Duration::from_secs(60);

/// For how long whom is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Refusal {
    pub(crate) tuple: Duration,
    pub(crate) address: Option<Duration>,
    pub(crate) prefix: Option<Duration>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    key: u64,
    /// Refused until then.
    until: Instant,
    forgotten: Instant,
    /// How often it was refused.
    refusals: u32,
    /// 4-tuples of an address, or addresses of a prefix, of which panics came.
    members: u32,
}

/// What a key stands for; a part of what is hashed.
#[derive(Clone, Copy)]
enum Level {
    Tuple,
    Address,
    Prefix,
}

pub(crate) struct RefusedSources {
    hasher: SipHasher13,
    entries: Vec<Option<Entry>>,
    /// Nobody is refused after this.
    last: Option<Instant>,
    spared: Spared,
}

impl RefusedSources {
    pub(crate) fn new(key: (u64, u64)) -> Self {
        let hasher = SipHasher13::new_with_keys(key.0, key.1);
        Self { hasher, entries: Vec::new(), last: None, spared: Spared::default() }
    }

    /// Whether nobody is refused.
    #[inline]
    pub(crate) fn are_none(&self, now: Instant) -> bool {
        self.last.is_none_or(|last| last <= now)
    }

    /// Whether what comes from there is refused.
    #[cold]
    pub(crate) fn has(&self, path: &Path, now: Instant) -> bool {
        let is = |key: u64| self.find(key).is_some_and(|entry| entry.until > now);
        let tuple = self.key(Level::Tuple, path);
        if is(tuple) {
            return true;
        }
        let many = is(self.key(Level::Address, path)) || is(self.key(Level::Prefix, path));
        many && !self.spared.has(tuple)
    }

    /// What came from there made a handler panic.
    pub(crate) fn blame(&mut self, path: &Path, proven: bool, now: Instant) -> Refusal {
        if self.entries.is_empty() {
            self.entries = vec![None; SETS * WAYS];
        }
        let keys = [Level::Tuple, Level::Address, Level::Prefix].map(|level| self.key(level, path));
        let times = if proven { PROVEN } else { 1 };
        let (new_tuple, entry) = self.entry(keys[0], now);
        let tuple = entry.refuse(LONGEST, times, now);
        let (new_address, entry) = self.entry(keys[1], now);
        let address = entry.refuse_for_many(new_tuple, times, now);
        let (_, entry) = self.entry(keys[2], now);
        let prefix = entry.refuse_for_many(new_address, times, now);
        let longest = [Some(tuple), address, prefix].into_iter().flatten().max().unwrap_or(tuple);
        self.last = self.last.max(Some(now + longest));
        Refusal { tuple, address, prefix }
    }

    /// Who speaks from there had a peer when the handler was replaced: what others of its address did is not its own.
    pub(crate) fn spare(&mut self, path: &Path, now: Instant) {
        let tuple = self.key(Level::Tuple, path);
        self.spared.add(tuple, now);
    }

    /// The entry of a key, and whether it is new.
    fn entry(&mut self, key: u64, now: Instant) -> (bool, &mut Entry) {
        let set = &mut self.entries[set_of(key)];
        let known = |entry: &Option<Entry>| entry.is_some_and(|e| e.key == key && e.forgotten > now);
        let known = set.iter().position(known);
        // A place that is empty comes before all others.
        let first_to_go = || (0..WAYS).min_by_key(|at| set[*at].map(|e| (e.key != key, e.forgotten)));
        let at = known.or_else(first_to_go).unwrap_or(0);
        if known.is_none() {
            set[at] = None;
        }
        let fresh = || Entry { key, until: now, forgotten: now + FORGOTTEN, refusals: 0, members: 0 };
        (known.is_none(), set[at].get_or_insert_with(fresh))
    }

    fn find(&self, key: u64) -> Option<&Entry> {
        self.entries.get(set_of(key))?.iter().flatten().find(|entry| entry.key == key)
    }

    fn key(&self, level: Level, path: &Path) -> u64 {
        let mut hasher = self.hasher;
        let prefix = matches!(level, Level::Prefix);
        match path.remote.ip() {
            IpAddr::V4(ip) => hasher.write_u32(ip.to_bits() >> if prefix { 32 - PREFIX_V4 } else { 0 }),
            IpAddr::V6(ip) => hasher.write_u128(ip.to_bits() >> if prefix { 128 - PREFIX_V6 } else { 0 }),
        }
        if matches!(level, Level::Tuple) {
            hasher.write_u16(path.remote.port());
            // An endpoint that is opened anew, as when a handler is replaced, may have another port.
            hasher.write_u16(if path.socket.as_listener().is_some() { path.local.port() } else { 0 });
            let local = match path.local.ip() {
                IpAddr::V4(ip) => ip.to_ipv6_mapped(),
                IpAddr::V6(ip) => ip,
            };
            hasher.write_u128(Ipv6Addr::to_bits(local));
        }
        hasher.write_u8(level as u8);
        hasher.finish()
    }
}

fn set_of(key: u64) -> std::ops::Range<usize> {
    let set = key as usize % SETS;
    set * WAYS..(set + 1) * WAYS
}

impl Entry {
    fn refuse(&mut self, longest: Duration, times: u32, now: Instant) -> Duration {
        let doubled = FIRST.saturating_mul(1 << self.refusals.min(16)).min(longest);
        let time = doubled.saturating_mul(times);
        self.refusals += 1;
        self.until = self.until.max(now + time);
        self.forgotten = self.until + FORGOTTEN;
        time
    }

    fn refuse_for_many(&mut self, new_member: bool, times: u32, now: Instant) -> Option<Duration> {
        self.members = self.members.saturating_add(new_member.into());
        self.forgotten = self.forgotten.max(now + FORGOTTEN);
        (self.members >= SEVERAL).then(|| self.refuse(LONGEST_FOR_MANY, times, now))
    }
}

/// Two sets of 4-tuples, kept as bits: somebody may be taken for one of them who is not, and that lets him in.
#[derive(Default)]
struct Spared {
    newer: Vec<u64>,
    older: Vec<u64>,
    since: Option<Instant>,
}

impl Spared {
    fn add(&mut self, tuple: u64, now: Instant) {
        match self.since {
            None => {
                self.newer = vec![0; SPARED_BITS / 64];
                self.older = vec![0; SPARED_BITS / 64];
                self.since = Some(now);
            }
            Some(since) if now.saturating_duration_since(since) >= SPARED_FOR => {
                std::mem::swap(&mut self.newer, &mut self.older);
                self.newer.fill(0);
                self.since = Some(now);
            }
            Some(_) => {}
        }
        for bit in bits_of(tuple) {
            self.newer[bit / 64] |= 1 << (bit % 64);
        }
    }

    fn has(&self, tuple: u64) -> bool {
        let all = |set: &[u64]| {
            bits_of(tuple).iter().all(|bit| set.get(bit / 64).is_some_and(|word| word >> (bit % 64) & 1 == 1))
        };
        all(&self.newer) || all(&self.older)
    }
}

fn bits_of(tuple: u64) -> [usize; 2] {
    [tuple as usize % SPARED_BITS, (tuple >> 32) as usize % SPARED_BITS]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::datagram::SocketId;

    fn path(remote: &str) -> Path {
        let remote: std::net::SocketAddr = remote.parse().expect("an address");
        let local = if remote.is_ipv4() { "192.0.2.1:9000" } else { "[2001:db8::1]:9000" };
        Path { local: local.parse().expect("an address"), remote, socket: SocketId::listener(0) }
    }

    #[test]
    fn a_source_is_refused_for_a_growing_time_and_forgotten_in_the_end() {
        let (mut sources, start) = (RefusedSources::new((1, 2)), Instant::now());
        let bad = path("198.51.100.7:4000");
        assert!(sources.are_none(start));
        let mut now = start;
        for seconds in [1, 2, 4, 8, 16, 32, 64, 128, 256, 256] {
            let time = Duration::from_secs(seconds);
            assert_eq!(sources.blame(&bad, false, now), Refusal { tuple: time, address: None, prefix: None });
            assert!(sources.has(&bad, now + time - Duration::from_millis(1)));
            assert!(!sources.has(&path("198.51.100.7:4001"), now));
            now += time;
            assert!(!sources.has(&bad, now) && sources.are_none(now));
        }
        now += FORGOTTEN;
        assert_eq!(sources.blame(&bad, true, now).tuple, FIRST * PROVEN);
    }

    #[test]
    fn several_sources_of_an_address_have_it_refused_and_several_addresses_their_prefix() {
        for family in [["198.51.100.", "198.51.101.1:9"], ["2001:db8:0:100::", "[2001:db8:0:200::1]:9"]] {
            let at = |host: u32, port: u32| {
                let [prefix, _] = family;
                let text = if prefix.contains(':') {
                    format!("[{prefix}{host}]:{port}")
                } else {
                    format!("{prefix}{host}:{port}")
                };
                path(&text)
            };
            let (mut sources, now) = (RefusedSources::new((1, 2)), Instant::now());
            let said: Vec<_> = (1..=6).map(|port| sources.blame(&at(7, port), false, now).address).collect();
            assert_eq!(said, [None, None, None, Some(FIRST), Some(2 * FIRST), Some(4 * FIRST)]);
            assert!(sources.has(&at(7, 99), now) && !sources.has(&at(8, 99), now));
            for host in 8..10 {
                assert_eq!(sources.blame(&at(host, 1), false, now).prefix, None);
            }
            let said = sources.blame(&at(10, 1), true, now);
            assert_eq!((said.address, said.prefix), (None, Some(FIRST * PROVEN)));
            assert!(sources.has(&at(200, 99), now) && !sources.has(&path(family[1]), now));
            sources.spare(&at(200, 99), now);
            assert!(!sources.has(&at(200, 99), now), "it was there before");
            assert!(sources.has(&at(10, 1), now));
            sources.spare(&at(10, 1), now);
            assert!(sources.has(&at(10, 1), now), "what it did itself stands");
            let later = now + SPARED_FOR;
            sources.spare(&at(201, 99), later);
            assert!(!sources.has(&at(200, 99), now));
            sources.spare(&at(201, 99), later + SPARED_FOR);
            assert!(sources.has(&at(200, 99), now), "in the end that is forgotten too");
        }
    }

    #[test]
    fn the_table_is_bounded_and_the_longest_refusals_stay() {
        let (mut sources, now) = (RefusedSources::new((1, 2)), Instant::now());
        let proven = path("203.0.113.1:4000");
        sources.blame(&proven, true, now);
        for n in 0..100_000_u32 {
            let [a, b, c, _] = n.to_be_bytes();
            sources.blame(&path(&format!("10.{b}.{c}.{}:{}", n % 256, 1 + a)), false, now);
        }
        assert_eq!(sources.entries.len(), SETS * WAYS);
        assert!(sources.has(&proven, now));
    }
}
