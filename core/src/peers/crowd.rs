//! Who gets a place in the peer table, who keeps it, and what `accept` is told of the crowd.
//!
//! Strangers always get in: in a full table a newcomer displaces a peer of which less is known. Those that answered or
//! were proven keep their places, up to `max_proven_peers`; beyond that one of the heaviest prefix is lowered to
//! [`Standing::Heard`]: it stays open, and may be displaced. No prefix is refused for having many newcomers, since
//! whoever forges sources could lock it out so; `accept` is told that a proof is wanted.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use siphasher::sip::SipHasher13;

use crate::config::Settings;
use crate::peers::cookie::CookieJar;
use crate::peers::prefix::{Prefix, Sketch};
use crate::peers::routes::Routes;
use crate::peers::standing::{Candidate, HEARD_APART_MS, Look, Standing};
use crate::stats::Stats;
use crate::time::moment::Moment;
use crate::time::seldom::Seldom;
use crate::types::datagram::Path;
use crate::types::ids::PeerId;

/// Seconds in which something has to come from a peer after it was answered, before it passes for answered.
const SECONDS_HEARD: u8 = 3;
/// Of so many places one is kept free of strangers, for peers that this side opens.
const KEPT_FREE: usize = 64;
/// In place of an address: not of any of those that are looked at, since only dialed peers may have no path.
const NOWHERE: (IpAddr, u32) = (IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
/// Newcomers of a wide prefix per newcomer that a narrow one may have.
const WIDE: u32 = 16;

/// How crowded the table of peers is, for [`crate::Handler::accept`] to decide whether a newcomer has to prove its address first.
///
/// ```
/// use shardgram_core::{Accept, Datagram, Handler, Io};
/// fn admit<H: Handler<Peer = ()>>(io: &mut Io<H>, first: &Datagram<'_>) -> Accept<()> {
///     let path = first.path();
///     if io.verify(path, first) || !io.pressure(path).wants_proof() {
///         return Accept::Peer(());
///     }
///     let cookie = io.cookie(path);
///     let _ = io.answer(path, &cookie);
///     Accept::Done
/// }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Pressure {
    /// Peers of whose address nothing certain is known.
    pub unproven: u32,
    /// How many of them there may be.
    pub places: u32,
    /// How many of them were displaced by newcomers, in the last second.
    pub displaced_per_second: u32,
    /// Newcomers of unproven address that the source's prefix (/24, IPv6 /56) had in about a second; never too few.
    pub prefix_per_second: u32,
    /// Whether that, or what its /16 or /48 had, is beyond [`crate::Config::newcomers_per_prefix`].
    pub prefix_is_over: bool,
}

impl Pressure {
    /// Whether a newcomer is better asked for a proof of its address than given a place: when half of the places for unproven
    /// peers are taken, or its prefix had more newcomers than it may have.
    ///
    /// ```
    /// use shardgram_core::{Datagram, Handler, Io};
    /// fn is_calm<H: Handler>(io: &Io<H>, first: &Datagram<'_>) -> bool {
    ///     !io.pressure(first.path()).wants_proof()
    /// }
    /// ```
    #[must_use]
    pub fn wants_proof(&self) -> bool {
        self.prefix_is_over || u64::from(self.unproven) * 2 >= u64::from(self.places)
    }

    /// The share of the places for unproven peers that is taken, 0 to 1.
    ///
    /// ```
    /// use shardgram_core::{Datagram, Handler, Io};
    /// fn percent<H: Handler>(io: &Io<H>, first: &Datagram<'_>) -> u32 {
    ///     (io.pressure(first.path()).share() * 100.0) as u32
    /// }
    /// ```
    #[must_use]
    pub fn share(&self) -> f64 {
        f64::from(self.unproven) / f64::from(self.places.max(1))
    }
}

/// Events of this second and of the last one.
#[derive(Clone, Copy, Debug, Default)]
struct Rate {
    second: u32,
    now: u32,
    before: u32,
}

impl Rate {
    fn count(&mut self, second: u32) {
        if second != self.second {
            self.before = if second.wrapping_sub(self.second) == 1 { self.now } else { 0 };
            (self.second, self.now) = (second, 0);
        }
        self.now += 1;
    }

    fn lately(&self, second: u32) -> u32 {
        match second.wrapping_sub(self.second) {
            0 => self.now.max(self.before),
            1 => self.now,
            _ => 0,
        }
    }
}

#[derive(Clone, Copy)]
struct Keyed((u64, u64));

impl BuildHasher for Keyed {
    type Hasher = SipHasher13;
    fn build_hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_keys(self.0.0, self.0.1)
    }
}

/// How many of each prefix are answered or proven, where that is bounded.
struct Caps {
    limit: u32,
    counts: HashMap<Prefix, u32, Keyed>,
    /// By slot, of those that are counted.
    of_slot: Vec<Option<Prefix>>,
}

impl Caps {
    /// Counts a peer, unless its prefix has as many as it may have.
    fn take(&mut self, slot: u32, prefix: Prefix) -> bool {
        let count = self.counts.entry(prefix).or_insert(0);
        if *count >= self.limit {
            return false;
        }
        *count += 1;
        let slot = slot as usize;
        self.of_slot.resize(self.of_slot.len().max(slot + 1), None);
        self.of_slot[slot] = Some(prefix);
        true
    }

    fn give_back(&mut self, slot: u32) {
        let Some(prefix) = self.of_slot.get_mut(slot as usize).and_then(Option::take) else { return };
        if let Some(count) = self.counts.get_mut(&prefix) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&prefix);
            }
        }
    }
}

/// What a shard knows of those who come.
pub(crate) struct Crowd {
    cookies: CookieJar,
    sketch: Sketch,
    per_prefix: u32,
    caps: Option<Caps>,
    displaced: Rate,
    warned: Seldom,
    max_peers: usize,
    /// The path whose cookie the callback at hand has verified.
    verified: Option<Path>,
    stats: Arc<Stats>,
}

impl Crowd {
    pub(crate) fn new(settings: &Settings, key: (u64, u64), cookies: CookieJar, stats: Arc<Stats>) -> Self {
        let reserved = settings.reserved_peers();
        let caps = (settings.max_proven_per_prefix > 0).then(|| Caps {
            limit: settings.max_proven_per_prefix,
            counts: HashMap::with_capacity_and_hasher(reserved, Keyed(key)),
            of_slot: Vec::with_capacity(settings.max_peers as usize),
        });
        Self {
            cookies,
            sketch: Sketch::new((key.0, !key.1)),
            per_prefix: settings.newcomers_per_prefix,
            caps,
            displaced: Rate::default(),
            warned: Seldom::default(),
            max_peers: settings.max_peers as usize,
            verified: None,
            stats,
        }
    }

    fn is_over(&self, ip: IpAddr) -> bool {
        self.per_prefix != 0
            && (self.sketch.lately(Prefix::narrow(ip)) > self.per_prefix
                || self.sketch.lately(Prefix::wide(ip)) > self.per_prefix.saturating_mul(WIDE))
    }
}

/// Who comes, who stays, and what was proven.
impl Crowd {
    /// How crowded the table is for a newcomer from this address.
    pub(crate) fn pressure(&self, routes: &Routes, ip: IpAddr, time: Moment) -> Pressure {
        let standings = &routes.standings;
        let places = self.max_peers - (standings.kept() + standings.own()).min(self.max_peers);
        Pressure {
            unproven: standings.unproven() as u32,
            places: places as u32,
            displaced_per_second: self.displaced.lately(time.second()),
            prefix_per_second: self.sketch.lately(Prefix::narrow(ip)),
            prefix_is_over: self.is_over(ip),
        }
    }

    pub(crate) fn cookie(&self, path: &Path, time: Moment) -> [u8; 16] {
        self.cookies.bake(path, time.now)
    }

    /// Whether a cookie was made for this path not long ago, which proves its address.
    pub(crate) fn verify(&mut self, routes: &mut Routes, path: Path, cookie: &[u8], time: Moment) -> bool {
        let holds = self.cookies.verify(&path, cookie, time.now);
        if holds {
            if let Some(peer) = routes.owner(&path) {
                self.validate(routes, peer, &path, time);
            }
            // For whoever `accept` lets in, also in the place of one that it opened along this path and closed.
            self.verified = Some(path);
        }
        holds
    }

    /// Whether the callback at hand verified a cookie of this path.
    pub(crate) fn has_verified(&mut self, path: &Path) -> bool {
        self.verified.take().is_some_and(|verified| verified == *path)
    }

    /// A callback begins that may verify a cookie.
    #[inline]
    pub(crate) fn forget_verified(&mut self) {
        self.verified = None;
    }

    /// The address at the end of this path is proven. False if it is not one of the peer's.
    pub(crate) fn validate(&mut self, routes: &mut Routes, peer: PeerId, path: &Path, time: Moment) -> bool {
        let is_its_own = routes.validate(peer, path);
        if is_its_own {
            self.raise(routes, peer, Standing::Proven, time);
        }
        is_its_own
    }

    /// Something came from a peer of which nothing is known yet, in this turn.
    #[cold]
    pub(crate) fn heard_again(&mut self, routes: &mut Routes, peer: PeerId, turn: u32, time: Moment) {
        let stamp = time.stamp;
        let Some(route) = routes.get_mut(peer) else { return };
        // Only what follows an answer says anything.
        if route.open_turn == 0 || route.open_turn == turn {
            return;
        }
        let mut answered = false;
        if stamp.wrapping_sub(route.heard_at) >= HEARD_APART_MS {
            route.heard_at = stamp;
            route.seconds_heard = (route.seconds_heard + 1).min(SECONDS_HEARD);
            answered = route.seconds_heard == SECONDS_HEARD;
        }
        if route.standing() == Standing::New {
            routes.set_standing(peer.slot(), Standing::Heard);
        }
        if answered {
            self.raise(routes, peer, Standing::Answered, time);
        }
    }

    /// Gives a peer a better standing, where there is room in the reserve or another has to give way to it.
    fn raise(&mut self, routes: &mut Routes, peer: PeerId, to: Standing, time: Moment) {
        let Some(from) = routes.get(peer).map(|route| route.standing()) else { return };
        if from >= to {
            return;
        }
        if from == Standing::Answered {
            return routes.set_standing(peer.slot(), to);
        }
        if !routes.standings.has_reserve() {
            let Some(weakest) = outweighed(routes, to, time) else { return };
            self.lower(routes, weakest, time);
        }
        if let Some(caps) = &mut self.caps
            && let Some((ip, _)) = routes.seen(peer.slot())
            && !caps.take(peer.slot(), Prefix::narrow(ip))
        {
            return;
        }
        routes.set_standing(peer.slot(), to);
    }

    /// A peer gives its place in the reserve up, and has to be heard for seconds again to get one.
    fn lower(&mut self, routes: &mut Routes, slot: u32, time: Moment) {
        self.leave_reserve(slot);
        if let Some(route) = routes.in_slot_mut(slot) {
            (route.seconds_heard, route.heard_at) = (0, time.stamp);
        }
        routes.set_standing(slot, Standing::Heard);
        self.stats.peers_outweighed.add(1);
    }

    /// Takes a peer that goes off the count of its prefix.
    pub(crate) fn leave_reserve(&mut self, slot: u32) {
        if let Some(caps) = &mut self.caps {
            caps.give_back(slot);
        }
    }

    /// Whether there is no room for one more stranger beside so many peers.
    pub(crate) fn is_full(&self, routes: &Routes, peers: usize) -> bool {
        let (max, own) = (self.max_peers, routes.standings.own());
        let kept_free = (max / KEPT_FREE).saturating_sub(own);
        peers + kept_free >= max || routes.free_paths() <= kept_free
    }

    /// The slot of the peer that gives its place to a newcomer from this address.
    pub(crate) fn displaced(&self, routes: &Routes, ip: IpAddr) -> Option<u32> {
        let look = |slot| {
            let (ip, _) = routes.seen(slot).unwrap_or(NOWHERE);
            Look { slot, narrow: Prefix::narrow(ip), grade: routes.grade(slot) }
        };
        routes.standings.displaced(look, Prefix::narrow(ip), self.is_over(ip))
    }

    /// A peer is displaced. If that is to be warned of: how many were since the last warning.
    pub(crate) fn count_displaced(&mut self, time: Moment) -> Option<u64> {
        self.displaced.count(time.second());
        self.stats.peers_displaced.add(1);
        self.warned.due(time.now)
    }

    /// A newcomer of unproven address is let in.
    pub(crate) fn count_newcomer(&mut self, ip: IpAddr, time: Moment) {
        if self.per_prefix != 0 {
            self.sketch.age(time.second());
            self.sketch.count(Prefix::narrow(ip));
            self.sketch.count(Prefix::wide(ip));
        }
    }
}

/// The slot of the peer in the reserve that gives its place there to one of this standing.
fn outweighed(routes: &Routes, by: Standing, time: Moment) -> Option<u32> {
    let candidate = |slot| {
        let (ip, seen) = routes.seen(slot).unwrap_or(NOWHERE);
        let (wide, narrow) = (Prefix::wide(ip), Prefix::narrow(ip));
        Candidate { slot, wide, narrow, silent: time.stamp.wrapping_sub(seen) }
    };
    routes.standings.outweighed(by, candidate)
}
