//! What is known of where a peer's datagrams come from, and who gives a place in the table up for whom.
//!
//! A source address may be forged, and how many datagrams came from it says nothing: who forges one forges two.
//! So peers are told apart by what only somebody who receives at the address can bring about, and those of
//! whom nothing is known cannot displace the others.

use std::cell::Cell;
use std::cmp::Reverse;

use siphasher::sip::SipHasher13;

use crate::peers::prefix::Prefix;

/// What is known of a peer's address, in the order in which peers keep their places.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub(crate) enum Standing {
    /// A datagram came from there.
    New,
    /// One came after something had been sent there, in a later turn.
    Heard,
    /// So it went for several seconds. Who forges a source passes for this without ever receiving an answer, by
    /// sending again from the same source each second for as long; so it counts for less than a proof.
    Answered,
    /// The handler validated the address, or a cookie that was sent there came back.
    Proven,
    /// This side opened or dialed it. It never gives way.
    Own,
}

impl Standing {
    /// Which of the lists it stands in.
    #[inline]
    fn list(self) -> usize {
        match self {
            Self::New | Self::Heard => UNPROVEN,
            Self::Answered => ANSWERED,
            Self::Proven => PROVEN,
            Self::Own => OWN,
        }
    }
}

/// Seconds in which a peer was heard count if they are at least so many milliseconds apart.
pub(crate) const HEARD_APART_MS: u32 = 1_000;

const UNPROVEN: usize = 0;
const ANSWERED: usize = 1;
const PROVEN: usize = 2;
const OWN: usize = 3;

/// Peers that are looked at for one to give its place up to a newcomer.
const LOOKED_AT: usize = 8;
/// The same where it has to be one of the newcomer's own prefix.
const LOOKED_AT_ALIKE: usize = 64;
/// Peers whose prefixes are counted, to find the heaviest: all of them where there are no more.
const CENSUS: usize = 128;

/// The peers of a shard by standing, so that one of them can be drawn at random.
pub(crate) struct Standings {
    lists: [Vec<u32>; 4],
    /// By slot: where in its list it is.
    places: Vec<u32>,
    /// Peers that may be answered or proven, together.
    reserved: usize,
    hasher: SipHasher13,
    draws: Cell<u64>,
}

/// What is asked of a peer that is looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate {
    pub(crate) slot: u32,
    /// The networks that it is in.
    pub(crate) wide: Prefix,
    pub(crate) narrow: Prefix,
    /// For how long nothing came from it, in milliseconds.
    pub(crate) silent: u32,
}

/// What is seen of an unproven peer that is looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    pub(crate) slot: u32,
    pub(crate) narrow: Prefix,
    /// The higher, the more is known.
    pub(crate) grade: u32,
}

impl Standings {
    /// Of so many peers, of which so many may be answered or proven. Draws follow from the key.
    pub(crate) fn new(max_peers: usize, reserved: usize, key: (u64, u64)) -> Self {
        Self {
            // Reserved, and not touched until there are so many.
            lists: [max_peers, reserved, reserved, max_peers].map(Vec::with_capacity),
            places: Vec::with_capacity(max_peers),
            reserved,
            hasher: SipHasher13::new_with_keys(!key.0, key.1),
            draws: Cell::new(0),
        }
    }

    pub(crate) fn insert(&mut self, slot: u32, standing: Standing) {
        let list = &mut self.lists[standing.list()];
        let place = list.len() as u32;
        list.push(slot);
        match self.places.get_mut(slot as usize) {
            Some(old) => *old = place,
            // Slots are handed out in order, so a slot never seen is the next one.
            None => self.places.push(place),
        }
    }

    pub(crate) fn remove(&mut self, slot: u32, standing: Standing) {
        let list = &mut self.lists[standing.list()];
        let place = self.places[slot as usize];
        list.swap_remove(place as usize);
        if let Some(moved) = list.get(place as usize) {
            self.places[*moved as usize] = place;
        }
    }

    pub(crate) fn change(&mut self, slot: u32, from: Standing, to: Standing) {
        if from.list() != to.list() {
            self.remove(slot, from);
            self.insert(slot, to);
        }
    }

    /// Peers of whose address nothing certain is known.
    pub(crate) fn unproven(&self) -> usize {
        self.lists[UNPROVEN].len()
    }

    /// Peers that keep their places before those.
    pub(crate) fn kept(&self) -> usize {
        self.lists[ANSWERED].len() + self.lists[PROVEN].len()
    }

    /// Peers that this side opened.
    pub(crate) fn own(&self) -> usize {
        self.lists[OWN].len()
    }

    pub(crate) fn has_reserve(&self) -> bool {
        self.kept() < self.reserved
    }

    /// The list among which one has to give up its place in the reserve to a peer of this standing; `None` if all in it
    /// have a better one.
    fn giving_way_to(&self, standing: Standing) -> Option<usize> {
        match standing {
            _ if self.reserved == 0 => None,
            _ if !self.lists[ANSWERED].is_empty() => Some(ANSWERED),
            Standing::Proven => Some(PROVEN),
            _ => None,
        }
    }

    /// A number below `bound`, which nobody can foretell who does not know the key.
    fn draw(&self, bound: usize) -> usize {
        self.draws.set(self.draws.get().wrapping_add(1));
        let drawn = self.hasher.hash(&self.draws.get().to_le_bytes());
        ((u128::from(drawn) * bound as u128) >> 64) as usize
    }

    /// The slot of the unproven peer that gives its place up: of a few that are drawn the one of which least is known. Of several
    /// such it is one of the narrow prefix that most of those drawn have. Where most of them have the newcomer's, it is one of
    /// those in any case, so that a host with many ports displaces its own. Where that prefix `may_not` have more, one of
    /// it is looked for.
    pub(crate) fn displaced(
        &self,
        look: impl Fn(u32) -> Look,
        newcomer: Prefix,
        may_not: bool,
    ) -> Option<u32> {
        let among = self.unproven();
        if among == 0 {
            return None;
        }
        let draw = || look(self.lists[UNPROVEN][self.draw(among)]);
        if may_not
            && let Some(found) =
                (0..LOOKED_AT_ALIKE.min(among)).map(|_| draw()).find(|look| look.narrow == newcomer)
        {
            return Some(found.slot);
        }
        let drawn: [Look; LOOKED_AT] = std::array::from_fn(|_| draw());
        let of = |prefix: Prefix| drawn.iter().filter(move |one| one.narrow == prefix);
        if of(newcomer).count() > LOOKED_AT / 2 {
            return of(newcomer).min_by_key(|one| one.grade).map(|one| one.slot);
        }
        drawn.iter().min_by_key(|one| (one.grade, Reverse(of(one.narrow).count()))).map(|one| one.slot)
    }

    /// The slot of the peer that gives up its place in the reserve to one of this standing: of the heaviest wide prefix, and in it
    /// of the heaviest narrow one, the one that was silent longest. Prefixes are weighed by [`CENSUS`] peers that are drawn, so
    /// one that holds a large share of the reserve is found, and a small one is not mistaken for it.
    pub(crate) fn outweighed(&self, standing: Standing, candidate: impl Fn(u32) -> Candidate) -> Option<u32> {
        let list = self.giving_way_to(standing)?;
        let among = self.lists[list].len();
        let all = among <= CENSUS;
        let mut census = Vec::with_capacity(CENSUS);
        for at in 0..among.min(CENSUS) {
            let at = if all { at } else { self.draw(among) };
            census.push(candidate(self.lists[list][at]));
        }
        let wide = heaviest(&mut census, |candidate| candidate.wide)?;
        census.retain(|candidate| candidate.wide == wide);
        let narrow = heaviest(&mut census, |candidate| candidate.narrow)?;
        census.retain(|candidate| candidate.narrow == narrow);
        census.iter().max_by_key(|candidate| candidate.silent).map(|candidate| candidate.slot)
    }
}

/// The prefix that most of these have. Of several the one with the peer that was silent longest.
fn heaviest(census: &mut [Candidate], prefix: impl Fn(&Candidate) -> Prefix) -> Option<Prefix> {
    census.sort_unstable_by_key(|candidate| (prefix(candidate), candidate.slot));
    let alike = census.chunk_by(|a, b| prefix(a) == prefix(b));
    let weight = |alike: &&[Candidate]| (alike.len(), alike.iter().map(|candidate| candidate.silent).max());
    alike.max_by_key(weight).and_then(<[_]>::first).map(prefix)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn candidate(slot: u32, ip: [u8; 4], silent: u32) -> Candidate {
        let ip = Ipv4Addr::from(ip).into();
        Candidate { slot, wide: Prefix::wide(ip), narrow: Prefix::narrow(ip), silent }
    }

    #[test]
    fn lists_agree_with_a_model_through_random_changes() {
        const ALL: [Standing; 5] =
            [Standing::New, Standing::Heard, Standing::Answered, Standing::Proven, Standing::Own];
        let seed = 7_u64;
        let (mut standings, mut model) = (Standings::new(64, 16, (1, 2)), vec![None; 64]);
        let mut x = seed;
        for slot in 0..64 {
            standings.insert(slot, Standing::New);
            model[slot as usize] = Some(Standing::New);
        }
        for _ in 0..20_000 {
            x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let (slot, to) = ((x >> 33) as u32 % 64, ALL[(x >> 50) as usize % 5]);
            match model[slot as usize] {
                None => standings.insert(slot, to),
                Some(from) if x >> 62 == 0 => standings.remove(slot, from),
                Some(from) => standings.change(slot, from, to),
            }
            let gone = model[slot as usize].is_some() && x >> 62 == 0;
            model[slot as usize] = (!gone).then_some(to);
            let count = |list: usize| model.iter().flatten().filter(|s| s.list() == list).count();
            for list in 0..4 {
                assert_eq!(standings.lists[list].len(), count(list), "seed {seed}");
            }
            for (slot, standing) in (0_u32..).zip(&model) {
                let Some(standing) = standing else { continue };
                let place = standings.places[slot as usize] as usize;
                assert_eq!(standings.lists[standing.list()][place], slot, "seed {seed}");
            }
        }
    }

    #[test]
    fn the_least_known_give_way_first() {
        let mut standings = Standings::new(1_000, 0, (3, 4));
        (0..1_000).for_each(|slot| standings.insert(slot, Standing::New));
        let ip = |slot: u32| Ipv4Addr::from(slot << 8).into();
        let nobody = Prefix::narrow(ip(5_000));
        let look = |slot| Look { slot, narrow: Prefix::narrow(ip(slot)), grade: u32::from(slot >= 500) };
        let drawn: Vec<_> = (0..1_000).filter_map(|_| standings.displaced(look, nobody, false)).collect();
        let known = drawn.iter().filter(|slot| **slot >= 500).count();
        assert!(known < 20, "half of a thousand were known, and {known} times one of them was to go");
        let different: std::collections::HashSet<_> = drawn.iter().collect();
        assert!(different.len() > 300, "any of the others may be the one");

        let one_host = |slot: u32| if slot.is_multiple_of(2) { ip(7) } else { ip(1_000 + slot) };
        let alike = |slot| Look { slot, narrow: Prefix::narrow(one_host(slot)), grade: 0 };
        let others = (0..1_000)
            .filter(|_| standings.displaced(alike, nobody, false).is_some_and(|slot| slot % 2 == 1));
        assert!(others.count() < 100, "who has many ports displaces its own");
        let found = standings.displaced(alike, Prefix::narrow(ip(7)), true).expect("one of them");
        assert_eq!(found % 2, 0);

        // One host has nearly all, is known better than the others, and comes with more.
        let heavy = |slot: u32| if slot.is_multiple_of(50) { ip(1_000 + slot) } else { ip(7) };
        let grade = |slot: u32| u32::from(!slot.is_multiple_of(50));
        let weighed = |slot| Look { slot, narrow: Prefix::narrow(heavy(slot)), grade: grade(slot) };
        let of_others = |newcomer| {
            let displaced = (0..1_000).filter_map(|_| standings.displaced(weighed, newcomer, false));
            displaced.filter(|slot| slot.is_multiple_of(50)).count()
        };
        assert_eq!(of_others(Prefix::narrow(ip(7))), 0, "its own make room for it");
        assert!(of_others(nobody) > 0, "and for others whoever is known least");
    }

    #[test]
    fn the_heaviest_prefix_gives_way_by_its_most_silent() {
        let mut standings = Standings::new(100, 7, (5, 6));
        let peers = [
            candidate(0, [10, 1, 1, 1], 50),
            candidate(1, [10, 1, 2, 1], 90),
            candidate(2, [10, 1, 2, 2], 10),
            candidate(3, [10, 1, 2, 3], 20),
            candidate(4, [10, 9, 1, 1], 99),
            candidate(5, [10, 9, 1, 2], 98),
            candidate(6, [10, 9, 1, 3], 97),
        ];
        peers.iter().for_each(|peer| standings.insert(peer.slot, Standing::Proven));
        let of = |slot: u32| peers[slot as usize];
        assert_eq!(standings.outweighed(Standing::Proven, of), Some(1));
        assert_eq!(standings.outweighed(Standing::Answered, of), None, "a proof counts for more");
        standings.change(5, Standing::Proven, Standing::Answered);
        assert_eq!(standings.outweighed(Standing::Answered, of), Some(5));
        assert_eq!(standings.outweighed(Standing::Proven, of), Some(5));
    }

    #[test]
    fn a_large_share_is_found_among_many() {
        let mut standings = Standings::new(10_000, 10_000, (7, 8));
        (0..10_000).for_each(|slot| standings.insert(slot, Standing::Proven));
        // A third of all are of one /24, the others each of a /16 of its own or nearly.
        let of = |slot: u32| match slot % 3 {
            0 => candidate(slot, [192, 0, 2, 1], slot),
            _ => candidate(slot, [1 + (slot >> 8) as u8, slot as u8, 0, 1], 20_000),
        };
        for _ in 0..100 {
            assert_eq!(standings.outweighed(Standing::Proven, of).expect("one of them") % 3, 0);
        }
    }
}
