//! Who gets a socket of its own, and who gives one up.
//!
//! Wishes come from handlers and from the policy. A turn grants a bounded number of them; where a cap is
//! reached, the connected peer that has been silent for longest gives its socket up, if it was silent for long
//! enough, and the wish waits until that one is closed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::TierPolicy;
use crate::connected::links::{Links, Room, State, Wish};
use crate::contract::driver::{ConnectFault, ConnectedLimits, Driver};
use crate::peers::routes::Routes;
use crate::sockets::groups::Groups;
use crate::stats::Stats;
use crate::time::clock::CoarseClock;
use crate::time::moment::Moment;
use crate::types::datagram::{Path, SocketId};
use crate::types::flow::flow_shard;
use crate::types::ids::{PeerId, ShardInfo};
use crate::types::multicast::is_for_many;

/// Sockets made in a turn, at most, and the time after which no other is begun.
const PER_TURN: usize = 16;
const TIME_PER_TURN: Duration = Duration::from_millis(1);
/// How long a peer must have been silent to give up its socket: for one the handler asks for, and for one
/// that only sends much.
const YIELDS_TO_HANDLER: Duration = Duration::from_millis(1);
const YIELDS_TO_POLICY: Duration = Duration::from_secs(1);
/// Datagrams without a pause that earn a socket under [`TierPolicy::Adaptive`], and how long a pause is.
const EARNED_AFTER: u16 = 64;
const PAUSE_MS: u32 = 1_000;

/// Of a shard's time, the part that [`TierPolicy::Adaptive`] may spend on sockets in the long run, and how much at
/// once. With ten thousand peers that all earn a socket in the same second, nobody would be served meanwhile.
const PART: u32 = 50;
const AT_ONCE: Duration = Duration::from_millis(5);

/// Time that may be spent on sockets which nobody asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Thrift {
    left: Duration,
    since: Instant,
}

impl Thrift {
    pub(crate) fn new(now: Instant) -> Self {
        Self { left: AT_ONCE, since: now }
    }

    /// Whether some is left.
    fn any_left(&mut self, now: Instant) -> bool {
        let earned = now.saturating_duration_since(std::mem::replace(&mut self.since, now)) / PART;
        self.left = (self.left + earned).min(AT_ONCE);
        !self.left.is_zero()
    }

    fn spent(&mut self, time: Duration) {
        self.left = self.left.saturating_sub(time);
    }
}

/// Connected peers: their sockets, who waits for one, and the policy.
#[derive(Debug)]
pub(crate) struct Connected {
    pub(crate) links: Links,
    policy: TierPolicy,
    thrift: Thrift,
    clock: CoarseClock,
    info: ShardInfo,
    stats: Arc<Stats>,
}

impl Connected {
    pub(crate) fn new(
        limits: ConnectedLimits,
        policy: TierPolicy,
        info: ShardInfo,
        clock: CoarseClock,
        now: Instant,
        stats: Arc<Stats>,
    ) -> Self {
        Self { links: Links::new(limits), policy, thrift: Thrift::new(now), clock, info, stats }
    }

    /// Whether datagrams that come may earn a peer a socket.
    #[inline]
    pub(crate) fn promotes(&self) -> bool {
        self.policy != TierPolicy::Listener
    }

    /// The handler asks for a socket of a peer's own.
    pub(crate) fn promote(&mut self, routes: &mut Routes, peer: PeerId, time: Moment) {
        self.wish(routes, peer, YIELDS_TO_HANDLER, time);
    }

    /// The policy leaves the peer where it is until it has earned a socket anew.
    pub(crate) fn demote(&mut self, routes: &mut Routes, peer: PeerId) {
        self.cool_down(routes, peer, EARNED_AFTER);
    }

    /// Takes a peer's own socket away and has its policy begin to count from here.
    pub(crate) fn cool_down(&mut self, routes: &mut Routes, peer: PeerId, heat: u16) {
        let Some(route) = routes.get_mut(peer) else { return };
        route.heat = heat;
        // What it still wishes for is passed over when its turn comes.
        route.wishes = false;
        if let Some(slot) = route.link() {
            route.set_link(None);
            self.unlink(slot);
        }
    }

    fn wish(&mut self, routes: &mut Routes, peer: PeerId, yields_after: Duration, time: Moment) {
        let Some(route) = routes.get_mut(peer) else { return };
        if route.link().is_some() || route.wishes {
            return;
        }
        route.wishes = self.links.ask(Wish { peer, yields_after }, time.now);
        if !route.wishes {
            self.stats.promotions_refused.add(1);
        }
    }

    /// The peer's own socket, which its route has let go, is to be closed.
    pub(crate) fn unlink(&mut self, slot: u32) {
        self.links.retire(slot);
        self.stats.demoted.add(1);
    }

    /// A new peer came; the policy may want it connected.
    pub(crate) fn newcomer(&mut self, routes: &mut Routes, peer: PeerId, time: Moment) {
        if self.policy == TierPolicy::Connected {
            self.wish(routes, peer, YIELDS_TO_HANDLER, time);
        }
    }

    /// So many datagrams of a peer that has no socket of its own came; the policy may want it to have one.
    #[inline]
    pub(crate) fn warm(&mut self, routes: &mut Routes, peer: PeerId, datagrams: usize, time: Moment) {
        let Some(route) = routes.get_mut(peer).filter(|route| route.link().is_none()) else { return };
        let paused = time.stamp.wrapping_sub(route.last_seen) > PAUSE_MS;
        let before = if paused { 0 } else { route.heat };
        let sum = u16::try_from(datagrams).ok().and_then(|more| before.checked_add(more));
        let heat = sum.unwrap_or(1 << 15);
        route.heat = heat;
        // Whoever is refused is looked at again when it has sent as much again, or 32,768 datagrams more.
        if sum.is_none() || heat.leading_zeros() < before.leading_zeros() {
            match self.policy {
                TierPolicy::Adaptive if heat < EARNED_AFTER || !self.thrift.any_left(time.now) => {}
                TierPolicy::Connected | TierPolicy::Adaptive => {
                    self.wish(routes, peer, YIELDS_TO_POLICY, time);
                }
                TierPolicy::Listener => {}
            }
        }
    }

    /// Whether a turn has to be made for the sake of promotions: some could be granted now, or sockets are to
    /// be closed.
    pub(crate) fn has_promotions(&self) -> bool {
        self.links.has_retired() || self.links.wishes() > self.links.retiring()
    }

    /// Grants what may be granted in this turn. Whether any peer got a socket.
    #[inline]
    pub(crate) fn grant_wishes(
        &mut self,
        routes: &mut Routes,
        groups: &Groups,
        time: Moment,
        driver: &mut impl Driver,
    ) -> bool {
        self.links.wishes() > 0 && self.grant_some(routes, groups, time, driver)
    }

    #[cold]
    fn grant_some(
        &mut self,
        routes: &mut Routes,
        groups: &Groups,
        time: Moment,
        driver: &mut impl Driver,
    ) -> bool {
        let begin = driver.now();
        let (mut now, mut any) = (begin, false);
        // Those that have to wait are put back, and looked at once a turn.
        for _ in 0..self.links.wishes().min(PER_TURN) {
            let Some(wish) = self.links.next_wish() else { break };
            any |= self.grant(routes, groups, wish, time, driver);
            now = driver.now();
            if now.saturating_duration_since(begin) > TIME_PER_TURN {
                break;
            }
        }
        let spent = now.saturating_duration_since(begin);
        self.thrift.spent(spent);
        self.stats.promotion_ns.add(u64::try_from(spent.as_nanos()).unwrap_or(u64::MAX));
        any
    }

    fn grant(
        &mut self,
        routes: &mut Routes,
        groups: &Groups,
        wish: Wish,
        time: Moment,
        driver: &mut impl Driver,
    ) -> bool {
        let peer = wish.peer;
        if routes.get(peer).is_none_or(|route| !route.wishes) {
            return false;
        }
        let Some(path) = routes.active_path(peer) else { return false };
        if !self.may_be_connected(&path, groups) {
            self.refuse(routes, wish);
            return false;
        }
        let Some(slot) = self.room_for(routes, wish, &path, time) else { return false };
        match driver.connect(SocketId::connected(slot), &path) {
            Ok(()) => {
                self.links.connected(slot, peer, path);
                self.stats.promoted.add(1);
                if let Some(route) = routes.get_mut(peer) {
                    route.wishes = false;
                    route.set_link(Some(slot));
                }
                return true;
            }
            Err(ConnectFault::Unsupported) => self.refuse(routes, wish),
            Err(fault) => self.fail(routes, wish, fault, time),
        }
        false
    }

    /// Whether a socket may be connected along this path. One of a peer that lives here because of a group would catch what
    /// its owner's shard is to have.
    fn may_be_connected(&self, path: &Path, groups: &Groups) -> bool {
        let stays_elsewhere =
            groups.any_stayed_here && flow_shard(path.remote, self.info.shards) != self.info.shard;
        path.socket.as_listener().is_some()
            && !path.local.ip().is_unspecified()
            && !is_for_many(path.remote.ip())
            && !stays_elsewhere
    }

    /// The slot for a wish that can be granted now; if there is none it is put back, or refused.
    fn room_for(&mut self, routes: &mut Routes, wish: Wish, path: &Path, time: Moment) -> Option<u32> {
        match self.links.room(path) {
            Room::Slot(slot) => return Some(slot),
            Room::Wait => self.links.put_back(wish),
            Room::Full(at) => {
                // One that retires makes room for the first wish, another one for the next.
                let enough = self.links.retiring() > self.links.wishes();
                if enough || self.evict(routes, at, wish.yields_after, time) {
                    self.links.put_back(wish);
                } else {
                    self.refuse(routes, wish);
                }
            }
        }
        None
    }

    fn refuse(&mut self, routes: &mut Routes, wish: Wish) {
        self.stats.promotions_refused.add(1);
        if let Some(route) = routes.get_mut(wish.peer) {
            route.wishes = false;
        }
    }

    fn fail(&mut self, routes: &mut Routes, wish: Wish, fault: ConnectFault, time: Moment) {
        tracing::debug!(peer = %wish.peer, %fault, "a peer got no socket of its own");
        self.stats.promotions_failed.add(1);
        if let Some(route) = routes.get_mut(wish.peer) {
            route.wishes = false;
        }
        if matches!(fault, ConnectFault::Exhausted { .. }) {
            for given_up in self.links.rest(time.now) {
                self.refuse(routes, given_up);
            }
        }
    }

    /// Takes the socket of the peer that was silent for longest, if that was long enough.
    fn evict(
        &mut self,
        routes: &mut Routes,
        at: Option<SocketAddr>,
        silent_for: Duration,
        time: Moment,
    ) -> bool {
        let silence = |peer: PeerId| Some(self.clock.since(routes.get(peer)?.last_seen, time.now));
        let Some((slot, silence)) = self.links.least_useful(at, silence) else { return false };
        if silence < silent_for {
            return false;
        }
        if let Some(State::Connected(peer)) = self.links.get(slot).map(|link| link.state) {
            // Not at once again, or two peers could take turns.
            self.demote(routes, peer);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fiftieth_of_the_time_is_spent_in_the_long_run() {
        let start = Instant::now();
        let mut thrift = Thrift::new(start);
        let (each, mut spent) = (Duration::from_micros(40), Duration::ZERO);
        for ms in 0..1_000 {
            let now = start + Duration::from_millis(ms);
            while thrift.any_left(now) {
                thrift.spent(each);
                spent += each;
            }
        }
        assert!(spent > Duration::from_millis(20) && spent < Duration::from_millis(70), "{spent:?}");
        let idle = start + Duration::from_secs(3_600);
        assert!(thrift.any_left(idle));
        assert_eq!(thrift.left, AT_ONCE, "what was not spent is not kept");
    }
}
