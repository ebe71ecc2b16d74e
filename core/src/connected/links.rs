//! Which peers have sockets of their own, which are to get one, and which are to lose theirs.
//!
//! A peer's path stays what it is when the peer is promoted or demoted; only the socket differs by which its
//! datagrams come and go. A link is such a socket: connected, then retiring (it takes no new datagrams, and
//! hands over what it holds), then vacant once the driver says so.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::contract::driver::ConnectedLimits;
use crate::types::datagram::Path;
use crate::types::ids::PeerId;

/// Links looked at for one to give up.
const CANDIDATES: usize = 32;
/// The same with those that are passed over, since they are at other addresses or on their way out.
const LOOKED_AT: usize = 1_024;
/// How long promotions rest when the system has no more descriptors or memory.
const REST: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    Vacant,
    Connected(PeerId),
    Retiring,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Link {
    pub(crate) state: State,
    pub(crate) path: Path,
}

/// A promotion that was asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Wish {
    pub(crate) peer: PeerId,
    /// How long another peer must have been silent to give up its socket for this.
    pub(crate) yields_after: Duration,
}

/// What a wish comes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Room {
    /// This slot is free.
    Slot(u32),
    /// Something has to be given up first, at this address if it is named.
    Full(Option<SocketAddr>),
    /// The last socket of this very path is not closed yet.
    Wait,
}

#[derive(Debug)]
pub(crate) struct Links {
    slots: Vec<Link>,
    free: Vec<u32>,
    limits: ConnectedLimits,
    wishes: VecDeque<Wish>,
    /// Slots the driver is to be told of once the sends are carried out, and whose they were.
    retire: Vec<(u32, PeerId)>,
    /// Links that retire, told or not.
    retiring: Vec<u32>,
    hand: u32,
    /// Sockets by local address.
    per_address: BTreeMap<SocketAddr, u32>,
    resting: Option<Instant>,
}

impl Links {
    pub(crate) fn new(limits: ConnectedLimits) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            limits,
            wishes: VecDeque::new(),
            retire: Vec::new(),
            retiring: Vec::new(),
            hand: 0,
            per_address: BTreeMap::new(),
            resting: None,
        }
    }

    /// Whether there can be any.
    #[inline]
    pub(crate) fn possible(&self) -> bool {
        self.limits.total > 0 && self.limits.per_address > 0
    }

    /// Notes a wish. False if as many wait as there can be sockets, or if promotions rest.
    pub(crate) fn ask(&mut self, wish: Wish, now: Instant) -> bool {
        let rests = self.resting.is_some_and(|until| until > now);
        if !self.possible() || rests || self.wishes.len() >= self.limits.total as usize {
            return false;
        }
        self.wishes.push_back(wish);
        true
    }

    pub(crate) fn next_wish(&mut self) -> Option<Wish> {
        self.wishes.pop_front()
    }

    /// Puts a wish back that has to wait.
    pub(crate) fn put_back(&mut self, wish: Wish) {
        self.wishes.push_back(wish);
    }

    pub(crate) fn wishes(&self) -> usize {
        self.wishes.len()
    }

    /// The system has no room for more: wishes are given up, and there are none for a while.
    pub(crate) fn rest(&mut self, now: Instant) -> Vec<Wish> {
        self.resting = Some(now + REST);
        self.wishes.drain(..).collect()
    }

    /// Whether there is room for a socket of this path.
    pub(crate) fn room(&mut self, path: &Path) -> Room {
        if self.retiring.iter().any(|slot| self.slots[*slot as usize].path == *path) {
            return Room::Wait;
        }
        if self.per_address.get(&path.local).is_some_and(|n| *n >= self.limits.per_address) {
            return Room::Full(Some(path.local));
        }
        if let Some(slot) = self.free.last() {
            return Room::Slot(*slot);
        }
        if self.slots.len() < self.limits.total as usize {
            self.slots.push(Link { state: State::Vacant, path: *path });
            self.free.push(self.slots.len() as u32 - 1);
            return Room::Slot(self.slots.len() as u32 - 1);
        }
        Room::Full(None)
    }

    /// The peer in this slot, which [`Links::room`] named, is connected.
    pub(crate) fn connected(&mut self, slot: u32, peer: PeerId, path: Path) {
        debug_assert_eq!(self.free.last(), Some(&slot), "the slot that `room` named");
        self.free.pop();
        self.slots[slot as usize] = Link { state: State::Connected(peer), path };
        *self.per_address.entry(path.local).or_default() += 1;
    }

    #[inline]
    pub(crate) fn get(&self, slot: u32) -> Option<&Link> {
        self.slots.get(slot as usize).filter(|link| link.state != State::Vacant)
    }

    /// Takes a socket out of service, with this turn's end.
    pub(crate) fn retire(&mut self, slot: u32) {
        if let Some(link) = self.slots.get_mut(slot as usize)
            && let State::Connected(peer) = link.state
        {
            link.state = State::Retiring;
            self.retire.push((slot, peer));
            self.retiring.push(slot);
        }
    }

    /// Whom the driver is to be told of.
    pub(crate) fn take_retired(&mut self) -> Vec<(u32, PeerId)> {
        std::mem::take(&mut self.retire)
    }

    pub(crate) fn has_retired(&self) -> bool {
        !self.retire.is_empty()
    }

    /// How many sockets will become free without more being done.
    pub(crate) fn retiring(&self) -> usize {
        self.retiring.len()
    }

    /// The driver has closed a socket.
    pub(crate) fn vacate(&mut self, slot: u32) {
        let Some(link) = self.slots.get_mut(slot as usize) else { return };
        if link.state != State::Retiring {
            return;
        }
        link.state = State::Vacant;
        if let Some(count) = self.per_address.get_mut(&link.path.local) {
            *count -= 1;
            if *count == 0 {
                self.per_address.remove(&link.path.local);
            }
        }
        self.retiring.retain(|retiring| *retiring != slot);
        self.free.push(slot);
    }

    /// The connected peer that has been silent for longest of some, at this address if one is named.
    /// `silence` says for how long a peer has been.
    pub(crate) fn least_useful(
        &mut self,
        at: Option<SocketAddr>,
        silence: impl Fn(PeerId) -> Option<Duration>,
    ) -> Option<(u32, Duration)> {
        let extent = self.slots.len();
        let mut best: Option<(u32, Duration)> = None;
        let mut seen = 0;
        for _ in 0..extent.min(LOOKED_AT) {
            let slot = self.hand;
            self.hand = if slot as usize + 1 >= extent { 0 } else { slot + 1 };
            let link = self.slots[slot as usize];
            let State::Connected(peer) = link.state else { continue };
            if at.is_some_and(|at| at != link.path.local) {
                continue;
            }
            let Some(quiet) = silence(peer) else { continue };
            if best.is_none_or(|(_, longest)| quiet > longest) {
                best = Some((slot, quiet));
            }
            seen += 1;
            if seen == CANDIDATES {
                break;
            }
        }
        best
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::states::Peers;
    use crate::types::datagram::SocketId;

    fn path(local: u8, port: u16) -> Path {
        Path {
            local: ([10, 0, 0, local], 9).into(),
            remote: ([10, 0, 1, 1], port).into(),
            socket: SocketId::listener(0),
        }
    }

    fn connect(links: &mut Links, peer: PeerId, path: Path) -> Room {
        let room = links.room(&path);
        if let Room::Slot(slot) = room {
            links.connected(slot, peer, path);
        }
        room
    }

    #[test]
    fn caps_hold_until_the_driver_has_closed_a_socket() {
        let mut peers = Peers::new(0, 8);
        let ids: Vec<PeerId> = (0..8).map(|_| peers.insert(()).expect("room")).collect();
        let mut links = Links::new(ConnectedLimits { total: 3, per_address: 2 });
        assert_eq!(connect(&mut links, ids[0], path(1, 1)), Room::Slot(0));
        assert_eq!(connect(&mut links, ids[1], path(1, 2)), Room::Slot(1));
        assert_eq!(links.room(&path(1, 3)), Room::Full(Some(([10, 0, 0, 1], 9).into())));
        assert_eq!(connect(&mut links, ids[2], path(2, 1)), Room::Slot(2));
        assert_eq!(links.room(&path(2, 2)), Room::Full(None));
        links.retire(0);
        links.retire(0);
        assert_eq!(links.take_retired(), [(0, ids[0])]);
        assert_eq!(links.room(&path(1, 1)), Room::Wait, "its last socket is not closed yet");
        assert_eq!(links.room(&path(1, 3)), Room::Full(Some(([10, 0, 0, 1], 9).into())));
        links.vacate(0);
        links.vacate(0);
        assert_eq!(connect(&mut links, ids[3], path(1, 3)), Room::Slot(0));
        assert_eq!(links.room(&path(2, 2)), Room::Full(None));
    }

    #[test]
    fn the_most_silent_gives_up_its_socket() {
        let mut peers = Peers::new(0, 8);
        let ids: Vec<PeerId> = (0..4).map(|_| peers.insert(()).expect("room")).collect();
        let mut links = Links::new(ConnectedLimits { total: 4, per_address: 4 });
        for (n, id) in ids.iter().enumerate() {
            connect(&mut links, *id, path(1 + n as u8 % 2, n as u16));
        }
        let silence = |peer: PeerId| Some(Duration::from_millis([5, 9, 7, 1][peer.slot() as usize]));
        assert_eq!(links.least_useful(None, silence).map(|(slot, _)| slot), Some(1));
        let first = Some(([10, 0, 0, 1], 9).into());
        assert_eq!(links.least_useful(first, silence).map(|(slot, _)| slot), Some(2));
    }
}
