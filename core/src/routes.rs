//! The peer table: from a path to its peer, and what is kept of each peer beside the handler's state.
//!
//! Open addressing with linear probing over a table that is never more than three quarters full and never
//! grows, so no insertion ever stalls on a rehash. Remote parties choose the keys, so the hash is keyed per
//! shard (SipHash-1-3). Removal shifts entries back: no tombstones, a table that was once full is as
//! fast as a new one.
//!
//! A datagram of a known peer touches three lines of cache here: one of the table, the path's record, and
//! the peer's route. With many peers those lines are what a look-up costs.

use std::cell::Cell;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use siphasher::sip::SipHasher13;

use crate::datagram::{Path, SocketId};
use crate::ecn::Ecn;
use crate::peers::PeerId;
use crate::planted::{self, Fault};
use crate::timers::PeerTimers;

const NONE: u32 = u32::MAX;
/// In place of a path record: the peer is there and has no path yet.
const NO_PATH: u32 = u32::MAX - 1;
/// A payload that every path carries unfragmented: the least MTU of IPv6, 1,280 bytes (RFC 8200 section 5), less
/// its header and that of UDP.
const CARRIED_BY_ALL: u32 = 1_280 - 48;
/// A table entry is eight bits of hash over 24 bits of record number plus one; zero is an empty place.
const INDEX_BITS: u32 = 24;
const INDEX_MASK: u32 = (1 << INDEX_BITS) - 1;

/// What is kept of a peer beside the handler's state.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(crate) struct Route {
    generation: u32,
    /// First of the peer's path records. Answers go along `active`.
    first: u32,
    active: u32,
    pub(crate) timers: PeerTimers,
    /// Milliseconds stamp of the last datagram from it.
    pub(crate) last_seen: u32,
    /// The train of this turn that more datagrams may join, and the turn it belongs to.
    pub(crate) open_train: u32,
    pub(crate) open_turn: u32,
    /// The longest datagram that may stand in a train to it, in bytes: less where the path refused longer ones.
    pub(crate) train_limit: u16,
    /// The longest that was put into a train.
    train_tried: u16,
    /// Slot of the socket of its own, which serves the active path.
    link: u32,
    /// Where is kept how it was dialed.
    dial: u32,
    /// Datagrams it sent without a long pause, as far as the policy of promotion wants to know.
    pub(crate) heat: u16,
    paths: u8,
    pub(crate) validated: bool,
    /// It waits to be promoted.
    pub(crate) wishes: bool,
    /// A send was refused for want of room, and its handler is to hear when there is some.
    pub(crate) refused: bool,
    /// What is sent to it is marked so.
    pub(crate) ecn: Ecn,
    /// Bytes that may still be sent before the peer is validated.
    pub(crate) allowance: u64,
}

impl Route {
    fn new(peer: PeerId, record: u32, stamp: u32) -> Self {
        Self {
            generation: peer.generation(),
            first: record,
            active: record,
            timers: PeerTimers::EMPTY,
            last_seen: stamp,
            open_train: 0,
            open_turn: 0,
            train_limit: u16::MAX,
            train_tried: 0,
            link: NONE,
            dial: NONE,
            heat: 0,
            paths: 1,
            validated: false,
            wishes: false,
            refused: false,
            ecn: Ecn::NotEct,
            allowance: 0,
        }
    }

    /// The slot of the peer's own socket.
    #[inline]
    pub(crate) fn link(&self) -> Option<u32> {
        (self.link != NONE).then_some(self.link)
    }

    /// Where is kept how it was dialed, if it was.
    #[inline]
    pub(crate) fn dial(&self) -> Option<u32> {
        (self.dial != NONE).then_some(self.dial)
    }

    /// Whether everything to it goes along the one path.
    #[inline]
    pub(crate) fn has_one_path(&self) -> bool {
        self.paths == 1
    }

    pub(crate) fn set_link(&mut self, slot: Option<u32>) {
        self.link = slot.unwrap_or(NONE);
    }

    /// The socket by which a datagram along a path of this peer leaves. A socket of its own serves one path
    /// only, so a peer that has others sends along them by theirs.
    #[inline]
    pub(crate) fn socket(&self, path: &Path) -> SocketId {
        if self.link == NONE || self.paths > 1 { path.socket } else { SocketId::connected(self.link) }
    }

    /// Whether no train of datagrams of this length was sent to it yet.
    #[inline]
    pub(crate) fn is_untried(&self, segment: u32) -> bool {
        segment > u32::from(self.train_tried)
    }

    /// A train of datagrams of this length is sent to it.
    #[inline]
    pub(crate) fn tried(&mut self, segment: u32) {
        self.train_tried = self.train_tried.max(segment as u16);
    }

    /// A train of datagrams of this length was refused along its path. Where every path carries so much it was
    /// not for their length, and there are to be no more trains.
    pub(crate) fn train_refused(&mut self, segment: u32) {
        let limit = if segment > CARRIED_BY_ALL { segment - 1 } else { 0 };
        self.train_limit = self.train_limit.min(limit as u16);
        self.train_tried = 0;
    }

    /// Another path may carry other trains.
    fn forget_trains(&mut self) {
        (self.train_limit, self.train_tried) = (u16::MAX, 0);
    }

    /// Whether it is that of this peer, and not of another in the slot or of one on another shard.
    #[inline]
    fn is_of(&self, peer: PeerId, shard: u16) -> bool {
        let same = self.generation == peer.generation() || planted::is(Fault::StaleId);
        self.first != NONE && same && peer.shard() == shard
    }
}

/// What identifies a path, in words: socket and remote port; then for IPv4 both addresses, for IPv6 the
/// remote one, the local one, and the remote scope. The socket tells the families apart.
#[derive(Clone, Copy, Debug)]
struct Key([u64; 6]);

impl PartialEq for Key {
    /// Word by word without a branch: for so few words that is less than the call that a comparison of
    /// arrays becomes.
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
    }
}

impl Key {
    #[inline]
    fn of(path: &Path) -> Self {
        let first = u64::from(path.socket.bits()) << 32 | u64::from(path.remote.port());
        match (&path.remote, &path.local) {
            (SocketAddr::V4(remote), SocketAddr::V4(local)) => {
                let addresses = u64::from(remote.ip().to_bits()) << 32 | u64::from(local.ip().to_bits());
                Self([first, addresses, 0, 0, 0, 0])
            }
            (SocketAddr::V6(remote), SocketAddr::V6(local)) => {
                let halves = |ip: &Ipv6Addr| [(ip.to_bits() >> 64) as u64, ip.to_bits() as u64];
                let ([r1, r2], [l1, l2]) = (halves(remote.ip()), halves(local.ip()));
                Self([first, r1, r2, l1, l2, u64::from(remote.scope_id())])
            }
            // Both ends of a path are of the socket's family.
            _ => Self([first, 0, 0, 0, 0, 0]),
        }
    }

    fn socket(&self) -> SocketId {
        SocketId::from_bits((self.0[0] >> 32) as u32)
    }

    /// The remote and the local address; the local port is not part of the key.
    fn addresses(&self, ipv6: bool, local_port: u16) -> (SocketAddr, SocketAddr) {
        let [first, w1, w2, w3, w4, scope] = self.0;
        let port = first as u16;
        if ipv6 {
            let ip = |high: u64, low: u64| Ipv6Addr::from_bits(u128::from(high) << 64 | u128::from(low));
            (
                SocketAddrV6::new(ip(w1, w2), port, 0, scope as u32).into(),
                SocketAddrV6::new(ip(w3, w4), local_port, 0, 0).into(),
            )
        } else {
            (
                SocketAddrV4::new(Ipv4Addr::from_bits((w1 >> 32) as u32), port).into(),
                SocketAddrV4::new(Ipv4Addr::from_bits(w1 as u32), local_port).into(),
            )
        }
    }
}

/// One path of a peer, in one line of cache.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct PathRecord {
    key: Key,
    local_port: u16,
    ipv6: bool,
    slot: u32,
    next: u32,
}

impl PathRecord {
    fn new(path: &Path, slot: u32, next: u32) -> Self {
        let (local_port, ipv6) = (path.local.port(), path.remote.is_ipv6());
        Self { key: Key::of(path), local_port, ipv6, slot, next }
    }

    fn path(&self) -> Path {
        let (remote, local) = self.key.addresses(self.ipv6, self.local_port);
        Path { local, remote, socket: self.key.socket() }
    }
}

pub(crate) struct Routes {
    hasher: SipHasher13,
    table: Box<[u32]>,
    mask: usize,
    records: Vec<PathRecord>,
    free: Vec<u32>,
    record_limit: usize,
    /// Peers that have no path yet, for each of which a record is kept free.
    without_path: usize,
    routes: Vec<Route>,
    max_paths_per_peer: u8,
    shard: u16,
    /// The record that was found last: datagrams of one peer often come in a row. Not one that is free.
    recent: Cell<u32>,
}

/// Why a path was not added.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum AddPath {
    /// Perhaps in place of another, which was on this socket.
    Added {
        lost: Option<SocketId>,
    },
    Full,
    Gone,
}

impl Routes {
    pub(crate) fn new(shard: u16, max_peers: usize, max_paths_per_peer: u8, key: (u64, u64)) -> Self {
        let extra = if max_paths_per_peer > 1 { max_peers.div_ceil(8) } else { 0 };
        let record_limit = max_peers + extra;
        let slots = (record_limit * 4 / 3 + 1).next_power_of_two();
        Self {
            hasher: SipHasher13::new_with_keys(key.0, key.1),
            table: vec![0; slots].into_boxed_slice(),
            mask: slots - 1,
            records: Vec::with_capacity(record_limit),
            free: Vec::new(),
            record_limit,
            without_path: 0,
            routes: Vec::with_capacity(max_peers),
            max_paths_per_peer,
            shard,
            recent: Cell::new(NONE),
        }
    }

    /// The slot of the peer a path belongs to.
    #[inline]
    pub(crate) fn find(&self, path: &Path) -> Option<u32> {
        let key = Key::of(path);
        if let Some(record) = self.records.get(self.recent.get() as usize)
            && record.key == key
        {
            return Some(record.slot);
        }
        let record = self.find_key(&key, path.remote.is_ipv6())?;
        self.recent.set(record);
        Some(self.records[record as usize].slot)
    }

    /// Makes the route of a new peer. The path must be unknown and `peer` newly made.
    pub(crate) fn insert(&mut self, peer: PeerId, path: Path, stamp: u32) -> bool {
        let Some(record) = self.take_record(path, peer.slot(), NONE) else { return false };
        self.add_route(peer, Route::new(peer, record, stamp));
        self.link(record);
        true
    }

    /// Makes the route of a peer that was dialed and has no path yet. There is room ([`Routes::is_full`]).
    pub(crate) fn insert_without_path(&mut self, peer: PeerId, stamp: u32, dial: u32) {
        self.without_path += 1;
        let route = Route { paths: 0, dial, ..Route::new(peer, NO_PATH, stamp) };
        self.add_route(peer, route);
    }

    fn add_route(&mut self, peer: PeerId, route: Route) {
        match self.routes.get_mut(peer.slot() as usize) {
            Some(old) => *old = route,
            // Slots are handed out in order, so a slot never seen is the next one.
            None => self.routes.push(route),
        }
    }

    /// Takes a peer's paths, whose sockets are named one by one, and gives it this one, which nobody else has. It is
    /// as if the peer was heard of last at `stamp`.
    pub(crate) fn replace_paths(&mut self, peer: PeerId, path: Path, stamp: u32, on: impl FnMut(SocketId)) {
        let Some(route) = self.get(peer) else { return };
        let first = route.first;
        if first == NO_PATH {
            self.without_path -= 1;
        }
        self.drop_records(first, on);
        // One was kept free, or is free now.
        let Some(record) = self.take_record(path, peer.slot(), NONE) else { return };
        self.link(record);
        if let Some(route) = self.get_mut(peer) {
            (route.first, route.active, route.paths, route.last_seen) = (record, record, 1, stamp);
            route.forget_trains();
            // A train of this turn goes along a path that is gone, and nothing may join it.
            route.open_turn = 0;
        }
    }

    /// Takes a peer's paths, whose sockets are named one by one. It is as before it had one, and a record is kept free
    /// for it.
    pub(crate) fn take_paths(&mut self, peer: PeerId, on: impl FnMut(SocketId)) {
        let Some(first) = self.get(peer).map(|route| route.first).filter(|first| *first != NO_PATH) else {
            return;
        };
        self.drop_records(first, on);
        self.without_path += 1;
        if let Some(route) = self.get_mut(peer) {
            (route.first, route.active, route.paths) = (NO_PATH, NO_PATH, 0);
            route.forget_trains();
            // A train of this turn goes along a path that is gone, and nothing may join it.
            route.open_turn = 0;
        }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.free.len() + (self.record_limit - self.records.len()) <= self.without_path
    }

    /// Adds a path to a peer. Answers keep going along the old one. A peer that has all the paths it may
    /// have loses the one that was added first of those it does not use, so that forged sources cannot
    /// keep it from ever moving; the socket of a path that was lost is given back.
    pub(crate) fn add_path(&mut self, peer: PeerId, path: Path) -> AddPath {
        let limit = self.max_paths_per_peer;
        // One without a path has nothing to add to: what is tried is its only one.
        let Some(route) = self.get(peer).filter(|route| route.first != NO_PATH) else { return AddPath::Gone };
        let crowded = route.paths >= limit || self.is_full();
        let lost = if crowded {
            match self.oldest_unused(peer) {
                Some(record) => Some(self.drop_path(peer, record)),
                None => return AddPath::Full,
            }
        } else {
            None
        };
        let first = self.routes[peer.slot() as usize].first;
        let Some(record) = self.take_record(path, peer.slot(), first) else { return AddPath::Full };
        if let Some(route) = self.get_mut(peer) {
            route.first = record;
            route.paths += 1;
        }
        self.link(record);
        AddPath::Added { lost }
    }

    /// The path record of a peer that was added first of those that answers do not use.
    fn oldest_unused(&self, peer: PeerId) -> Option<u32> {
        let route = self.get(peer)?;
        self.records_of(route.first).filter(|record| *record != route.active).last()
    }

    fn records_of(&self, first: u32) -> impl Iterator<Item = u32> + '_ {
        let mut at = first;
        std::iter::from_fn(move || {
            let record = self.records.get(at as usize)?;
            Some(std::mem::replace(&mut at, record.next))
        })
    }

    /// Takes one path from a peer that has others; gives back its socket.
    fn drop_path(&mut self, peer: PeerId, record: u32) -> SocketId {
        let gone = self.records[record as usize];
        let slot = peer.slot() as usize;
        if self.routes[slot].first == record {
            self.routes[slot].first = gone.next;
        } else {
            let mut at = self.routes[slot].first;
            while self.records[at as usize].next != record {
                at = self.records[at as usize].next;
            }
            self.records[at as usize].next = gone.next;
        }
        self.routes[slot].paths -= 1;
        self.unlink(record, &gone);
        self.free.push(record);
        gone.key.socket()
    }

    /// Takes the paths on `socket` from a peer, if it answers along another; gives back how many.
    pub(crate) fn drop_paths_on(&mut self, peer: PeerId, socket: SocketId) -> u32 {
        let Some(route) = self.get(peer) else { return 0 };
        let (first, active) = (route.first, route.active);
        let on_it = |record: &u32| *record != active && self.records[*record as usize].key.socket() == socket;
        let gone: Vec<u32> = self.records_of(first).filter(on_it).collect();
        for record in &gone {
            self.drop_path(peer, *record);
        }
        gone.len() as u32
    }

    /// Whether one of a peer's paths is on `socket`.
    pub(crate) fn has_path_on(&self, peer: PeerId, socket: SocketId) -> bool {
        let Some(route) = self.get(peer) else { return false };
        self.records_of(route.first).any(|record| self.records[record as usize].key.socket() == socket)
    }

    /// Makes answers go along `path` from now on. False if it is not a path of that peer.
    pub(crate) fn use_path(&mut self, peer: PeerId, path: &Path) -> bool {
        let Some(record) = self.find_record(path) else { return false };
        let slot = self.records[record as usize].slot;
        let Some(route) = self.get_mut(peer).filter(|_| slot == peer.slot()) else { return false };
        if std::mem::replace(&mut route.active, record) != record {
            route.forget_trains();
        }
        true
    }

    #[inline]
    pub(crate) fn get(&self, peer: PeerId) -> Option<&Route> {
        let shard = self.shard;
        self.routes.get(peer.slot() as usize).filter(|route| route.is_of(peer, shard))
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, peer: PeerId) -> Option<&mut Route> {
        let shard = self.shard;
        self.routes.get_mut(peer.slot() as usize).filter(|route| route.is_of(peer, shard))
    }

    /// The route in a slot, whoever lives there.
    pub(crate) fn in_slot_mut(&mut self, slot: u32) -> Option<&mut Route> {
        self.routes.get_mut(slot as usize).filter(|r| r.first != NONE)
    }

    /// The path along which answers to this peer go.
    #[inline]
    pub(crate) fn active_path(&self, peer: PeerId) -> Option<Path> {
        Some(self.records.get(self.get(peer)?.active as usize)?.path())
    }

    /// Forgets a peer with all its paths, whose sockets are named one by one; gives back the head of its
    /// timers.
    pub(crate) fn remove(&mut self, peer: PeerId, on: impl FnMut(SocketId)) -> Option<PeerTimers> {
        let route = self.get_mut(peer)?;
        let timers = route.timers;
        let first = std::mem::replace(&mut route.first, NONE);
        if first == NO_PATH {
            self.without_path -= 1;
        }
        self.drop_records(first, on);
        Some(timers)
    }

    fn drop_records(&mut self, first: u32, mut on: impl FnMut(SocketId)) {
        let mut at = first;
        while let Some(&record) = self.records.get(at as usize) {
            self.unlink(at, &record);
            self.free.push(at);
            on(record.key.socket());
            at = record.next;
        }
    }

    fn take_record(&mut self, path: Path, slot: u32, next: u32) -> Option<u32> {
        let record = PathRecord::new(&path, slot, next);
        if let Some(index) = self.free.pop() {
            self.records[index as usize] = record;
            return Some(index);
        }
        if self.records.len() == self.record_limit {
            return None;
        }
        self.records.push(record);
        Some(self.records.len() as u32 - 1)
    }

    #[inline]
    fn hash(&self, key: &Key, ipv6: bool) -> u64 {
        let bytes = key.0.map(u64::to_le_bytes);
        // The words an IPv4 path leaves empty are not worth the time.
        let significant = if ipv6 { &bytes[..] } else { &bytes[..2] };
        self.hasher.hash(significant.as_flattened())
    }

    fn find_record(&self, path: &Path) -> Option<u32> {
        self.find_key(&Key::of(path), path.remote.is_ipv6())
    }

    #[inline]
    fn find_key(&self, key: &Key, ipv6: bool) -> Option<u32> {
        let hash = self.hash(key, ipv6);
        let (tag, mut at) = (tag_of(hash), hash as usize & self.mask);
        loop {
            let entry = self.table[at];
            if entry == 0 {
                return None;
            }
            if entry & !INDEX_MASK == tag {
                let index = (entry & INDEX_MASK) - 1;
                if self.records[index as usize].key == *key {
                    return Some(index);
                }
            }
            at = (at + 1) & self.mask;
        }
    }

    fn link(&mut self, index: u32) {
        let record = &self.records[index as usize];
        let hash = self.hash(&record.key, record.ipv6);
        let mut at = hash as usize & self.mask;
        while self.table[at] != 0 {
            at = (at + 1) & self.mask;
        }
        self.table[at] = tag_of(hash) | (index + 1);
    }

    fn unlink(&mut self, index: u32, record: &PathRecord) {
        if self.recent.get() == index {
            self.recent.set(NONE);
        }
        let mut at = self.hash(&record.key, record.ipv6) as usize & self.mask;
        while self.table[at] & INDEX_MASK != index + 1 {
            if self.table[at] == 0 {
                return;
            }
            at = (at + 1) & self.mask;
        }
        self.shift_back(at);
    }

    /// Empties a place and closes the gap: whatever follows and would no longer be found moves into it.
    fn shift_back(&mut self, mut gap: usize) {
        let mut at = gap;
        loop {
            at = (at + 1) & self.mask;
            let entry = self.table[at];
            if entry == 0 {
                self.table[gap] = 0;
                return;
            }
            let record = &self.records[(entry & INDEX_MASK) as usize - 1];
            let home = self.hash(&record.key, record.ipv6) as usize & self.mask;
            let distance_home = at.wrapping_sub(home) & self.mask;
            let distance_gap = at.wrapping_sub(gap) & self.mask;
            if distance_home >= distance_gap {
                self.table[gap] = entry;
                gap = at;
            }
        }
    }
}

/// Eight bits of the hash that do not choose the place, where an entry keeps them.
#[inline]
fn tag_of(hash: u64) -> u32 {
    ((hash >> 56) as u32) << INDEX_BITS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datagram::SocketId;
    use crate::peers::Peers;
    use std::collections::HashMap;

    fn path(n: u32) -> Path {
        let ip = Ipv4Addr::from(0x0a00_0000 | n >> 4);
        Path {
            local: "10.0.0.1:9".parse().expect("an address"),
            remote: (ip, 1000 + (n & 15) as u16).into(),
            socket: SocketId::listener(0),
        }
    }

    #[test]
    fn a_table_agrees_with_a_map_through_random_churn() {
        let seed = 42_u64;
        let (mut peers, mut routes) = (Peers::new(0, 500), Routes::new(0, 500, 1, (1, 2)));
        let mut model: HashMap<Path, PeerId> = HashMap::new();
        let mut x = seed;
        for _ in 0..if cfg!(miri) { 500 } else { 200_000 } {
            x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let path = path((x >> 33) as u32 % 700);
            match model.get(&path) {
                Some(peer) if x >> 63 == 1 => {
                    assert!(routes.remove(*peer, |_| ()).is_some(), "seed {seed}");
                    peers.remove(*peer);
                    model.remove(&path);
                }
                Some(peer) => assert_eq!(routes.find(&path), Some(peer.slot()), "seed {seed}"),
                None => {
                    assert_eq!(routes.find(&path), None, "seed {seed}");
                    if let Ok(peer) = peers.insert(()) {
                        assert!(routes.insert(peer, path, 0), "seed {seed}");
                        model.insert(path, peer);
                    } else {
                        assert_eq!(model.len(), 500, "seed {seed}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_path_comes_back_as_it_went_in() {
        for (local, remote) in [
            ("10.1.2.3:4", "192.0.2.255:65535"),
            ("[2001:db8::1]:53", "[fe80::1:2:3:4%7]:9"),
            ("0.0.0.0:0", "1.2.3.4:5"),
        ] {
            let socket = SocketId::endpoint(77);
            let (local, remote) = (local.parse().expect(local), remote.parse().expect(remote));
            let path = Path { local, remote, socket };
            assert_eq!(PathRecord::new(&path, 0, 0).path(), path);
        }
    }

    #[test]
    fn paths_of_one_peer_are_bounded_and_go_with_it() {
        let (mut peers, mut routes) = (Peers::new(0, 8), Routes::new(0, 8, 2, (1, 2)));
        let peer = peers.insert(()).expect("room");
        assert!(routes.insert(peer, path(0), 0));
        assert_eq!(routes.add_path(peer, path(2)), AddPath::Added { lost: None });
        let lost = Some(SocketId::listener(0));
        assert_eq!(routes.add_path(peer, path(1)), AddPath::Added { lost }, "in place of the unused one");
        assert_eq!(routes.find(&path(2)), None);
        assert_eq!(routes.active_path(peer), Some(path(0)));
        assert!(routes.use_path(peer, &path(1)));
        assert!(!routes.use_path(peer, &path(2)));
        assert_eq!(routes.active_path(peer), Some(path(1)));
        assert!(routes.remove(peer, |_| ()).is_some());
        assert_eq!((routes.find(&path(0)), routes.find(&path(1))), (None, None));
        assert_eq!(routes.add_path(peer, path(3)), AddPath::Gone);
    }

    #[test]
    fn a_peer_without_a_path_is_sure_to_get_one() {
        // Nine records for eight peers.
        let (mut peers, mut routes) = (Peers::new(0, 8), Routes::new(0, 8, 4, (1, 2)));
        let dialed: Vec<_> = (0..2).map(|_| peers.insert(()).expect("room")).collect();
        dialed.iter().for_each(|peer| routes.insert_without_path(*peer, 0, 7));
        let others: Vec<_> = (0..6).map(|_| peers.insert(()).expect("room")).collect();
        for (n, peer) in (0..).zip(&others) {
            assert!(!routes.is_full());
            assert!(routes.insert(*peer, path(n), 0));
        }
        assert_eq!(routes.add_path(others[0], path(100)), AddPath::Added { lost: None });
        assert!(routes.is_full(), "the other two are kept free");
        assert!(matches!(routes.add_path(others[0], path(101)), AddPath::Added { lost: Some(_) }));
        assert_eq!(routes.add_path(dialed[0], path(102)), AddPath::Gone);
        assert_eq!(routes.active_path(dialed[0]), None);
        assert_eq!(routes.get(dialed[0]).and_then(Route::dial), Some(7));

        assert!(routes.remove(dialed[1], |_| panic!("it has no path")).is_some());
        assert!(!routes.is_full());
        routes.replace_paths(dialed[0], path(103), 5, |_| panic!("it has no path"));
        assert_eq!(routes.active_path(dialed[0]), Some(path(103)));
        let mut left = 0;
        routes.replace_paths(dialed[0], path(104), 6, |_| left += 1);
        assert_eq!(
            (left, routes.find(&path(103)), routes.find(&path(104))),
            (1, None, Some(dialed[0].slot()))
        );
        assert_eq!(routes.get(dialed[0]).map(|route| route.last_seen), Some(6));
        assert!(!routes.is_full());

        // It may lose it again, and is as sure of another as it was of the first.
        routes.take_paths(dialed[0], |_| left += 1);
        routes.take_paths(dialed[0], |_| panic!("it has no path"));
        assert_eq!((left, routes.find(&path(104)), routes.active_path(dialed[0])), (2, None, None));
        assert!(!routes.is_full());
        peers.remove(dialed[1]);
        let another = peers.insert(()).expect("room");
        assert!(routes.insert(another, path(105), 0));
        assert!(routes.is_full(), "the last is kept free");
        routes.replace_paths(dialed[0], path(106), 7, |_| panic!("it has no path"));
        assert_eq!(routes.active_path(dialed[0]), Some(path(106)));
    }

    #[test]
    fn a_peer_costs_at_most_256_bytes_beside_its_state() {
        // A table entry is four bytes, and there are at most 8/3 of them to a record.
        let per_path = size_of::<PathRecord>() + size_of::<u32>() + 4 * 8 / 3;
        let per_peer = size_of::<Route>() + 2 * size_of::<u32>() + size_of::<u32>();
        // A peer may use nine eighths of a path.
        assert!(per_path * 9 / 8 + per_peer <= 256, "{per_path} + {per_peer}");
    }
}
