//! The peer table: from a path to its peer, and what is kept of each peer beside the handler's state.
//!
//! Open addressing with linear probing over a table that is never more than three quarters full and never
//! grows, so no insertion ever stalls on a rehash. Remote parties choose the keys, so the hash is keyed per
//! shard (SipHash-1-3). Removal shifts entries back: no tombstones, a table that was once full is as
//! fast as a new one.
//!
//! A datagram of a known peer touches three lines of cache here: one of the table, the path's record, and
//! the peer's route. With many peers those lines are what a look-up costs.

mod lost;
mod path_record;
mod route;

use std::cell::Cell;
use std::net::IpAddr;

use siphasher::sip::SipHasher13;

use crate::peers::standing::{Standing, Standings};
use crate::time::timers::PeerTimers;
use crate::types::datagram::{Path, SocketId};
use crate::types::ids::PeerId;

use path_record::{Key, PathRecord};
pub(crate) use route::Route;

const NONE: u32 = u32::MAX;
/// In place of a path record: the peer is there and has no path yet.
const NO_PATH: u32 = u32::MAX - 1;
/// A table entry is eight bits of hash over 24 bits of record number plus one; zero is an empty place.
const INDEX_BITS: u32 = 24;
const INDEX_MASK: u32 = (1 << INDEX_BITS) - 1;

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
    pub(crate) standings: Standings,
    /// Peers that lost a path in this turn.
    lost_a_path: Vec<PeerId>,
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
    pub(crate) fn new(
        shard: u16,
        max_peers: usize,
        reserved: usize,
        max_paths_per_peer: u8,
        key: (u64, u64),
    ) -> Self {
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
            lost_a_path: Vec::new(),
            routes: Vec::with_capacity(max_peers),
            max_paths_per_peer,
            shard,
            recent: Cell::new(NONE),
            standings: Standings::new(max_peers, reserved, key),
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

    /// The peer a path belongs to.
    pub(crate) fn owner(&self, path: &Path) -> Option<PeerId> {
        let slot = self.find(path)?;
        Some(PeerId::of(self.shard, slot, self.routes[slot as usize].generation))
    }

    /// Makes the route of a new peer. The path must be unknown and `peer` newly made. The path of one that is proven
    /// is so too.
    pub(crate) fn insert(&mut self, peer: PeerId, path: Path, stamp: u32, standing: Standing) -> bool {
        let Some(record) = self.take_record(path, peer.slot(), NONE) else { return false };
        self.records[record as usize].validated = standing >= Standing::Proven;
        self.add_route(peer, Route::new(peer, record, stamp, standing));
        self.link(record);
        true
    }

    /// Makes the route of a peer that was dialed and has no path yet. There is room ([`Routes::is_full`]).
    pub(crate) fn insert_without_path(&mut self, peer: PeerId, stamp: u32, dial: u32) {
        self.without_path += 1;
        let route = Route { paths: 0, dial, ..Route::new(peer, NO_PATH, stamp, Standing::Own) };
        self.add_route(peer, route);
    }

    fn add_route(&mut self, peer: PeerId, route: Route) {
        self.standings.insert(peer.slot(), route.standing);
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
        // This side chose the address.
        self.records[record as usize].validated = true;
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
        self.free_paths() == 0
    }

    /// Paths that there is room for, beside those that are kept free.
    pub(crate) fn free_paths(&self) -> usize {
        (self.free.len() + (self.record_limit - self.records.len())).saturating_sub(self.without_path)
    }

    /// Says what is known of a peer's address. Whether there is room for it among those like it is the caller's to see to.
    pub(crate) fn set_standing(&mut self, slot: u32, to: Standing) {
        let Some(route) = self.routes.get_mut(slot as usize).filter(|route| route.first != NONE) else {
            return;
        };
        let from = std::mem::replace(&mut route.standing, to);
        self.standings.change(slot, from, to);
    }

    /// Marks a path of a peer as proven. False if it is not a path of that peer.
    pub(crate) fn validate(&mut self, peer: PeerId, path: &Path) -> bool {
        let Some(record) = self.record_of(peer, path) else { return false };
        self.records[record as usize].validated = true;
        true
    }

    /// How many bytes may still be sent along a path of a peer; `None` if its address is proven.
    pub(crate) fn left(&self, peer: PeerId, path: &Path) -> Option<u32> {
        match self.record_of(peer, path).map(|record| self.records[record as usize]) {
            Some(record) if record.validated => None,
            Some(record) => Some(record.allowance),
            None => Some(0),
        }
    }

    /// So many more bytes may be sent along a path.
    pub(crate) fn earn(&mut self, path: &Path, bytes: u64) {
        if let Some(record) = self.find_record(path) {
            let allowance = &mut self.records[record as usize].allowance;
            *allowance = allowance.saturating_add(bytes.min(u64::from(u32::MAX)) as u32);
        }
    }

    /// So many bytes are sent along a path.
    pub(crate) fn spend(&mut self, path: &Path, bytes: usize) {
        if let Some(record) = self.find_record(path) {
            let allowance = &mut self.records[record as usize].allowance;
            *allowance = allowance.saturating_sub(bytes as u32);
        }
    }

    fn record_of(&self, peer: PeerId, path: &Path) -> Option<u32> {
        let record = self.find_record(path)?;
        let slot = self.records[record as usize].slot;
        (slot == peer.slot() && self.get(peer).is_some()).then_some(record)
    }

    /// Adds a path to a peer. Answers keep going along the old one. A peer that has all the paths it may
    /// have loses the one that was added first of those it does not use, so that forged sources cannot
    /// keep it from ever moving; the socket of a path that was lost is given back.
    pub(crate) fn add_path(&mut self, peer: PeerId, path: Path) -> AddPath {
        let limit = self.max_paths_per_peer;
        // One without a path has nothing to add to: what is tried is its only one.
        let Some(route) = self.get(peer).filter(|route| route.first != NO_PATH) else { return AddPath::Gone };
        let crowded = route.paths() >= limit || self.is_full();
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

    /// The path record of a peer that was added first of those that answers do not use: of those whose address is not
    /// proven, if there is one.
    fn oldest_unused(&self, peer: PeerId) -> Option<u32> {
        let route = self.get(peer)?;
        let unused = || self.records_of(route.first).filter(|record| *record != route.active);
        unused().filter(|record| !self.records[*record as usize].validated).last().or_else(|| unused().last())
    }

    fn records_of(&self, first: u32) -> impl Iterator<Item = u32> + '_ {
        let mut at = first;
        std::iter::from_fn(move || {
            let record = self.records.get(at as usize)?;
            Some(std::mem::replace(&mut at, record.next))
        })
    }

    /// Whether one of a peer's paths is on `socket`.
    pub(crate) fn has_path_on(&self, peer: PeerId, socket: SocketId) -> bool {
        let Some(route) = self.get(peer) else { return false };
        self.records_of(route.first).any(|record| self.records[record as usize].key.socket() == socket)
    }

    /// Makes answers go along `path` from now on; whether they went along another. `None` if it is not a path of that peer.
    pub(crate) fn use_path(&mut self, peer: PeerId, path: &Path) -> Option<bool> {
        let record = self.record_of(peer, path)?;
        let route = self.get_mut(peer)?;
        let moves = std::mem::replace(&mut route.active, record) != record;
        if moves {
            route.forget_trains();
        }
        Some(moves)
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

    /// What is known of whoever lives in a slot, and how far it has come to more; the higher, the more.
    pub(crate) fn grade(&self, slot: u32) -> u32 {
        self.routes
            .get(slot as usize)
            .map_or(0, |r| u32::from(r.standing as u8 > 0) + u32::from(r.seconds_heard))
    }

    /// The address that whoever lives in a slot is answered at, and the stamp of when it was last heard.
    pub(crate) fn seen(&self, slot: u32) -> Option<(IpAddr, u32)> {
        let route = self.routes.get(slot as usize)?;
        let record = self.records.get(route.active as usize)?;
        Some((record.path().remote.ip(), route.last_seen))
    }

    /// Forgets a peer with all its paths, whose sockets are named one by one; gives back the head of its
    /// timers.
    pub(crate) fn remove(&mut self, peer: PeerId, on: impl FnMut(SocketId)) -> Option<PeerTimers> {
        let route = self.get_mut(peer)?;
        let (timers, standing) = (route.timers, route.standing);
        let first = std::mem::replace(&mut route.first, NONE);
        self.standings.remove(peer.slot(), standing);
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
mod tests;
