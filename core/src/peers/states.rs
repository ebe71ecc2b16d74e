//! Peers by id: the handler's state of each, behind ids that never name another peer.

use std::ops::Range;

use crate::types::ids::PeerId;

/// Slots whose bits share a word.
const WORD: usize = u64::BITS as usize;

struct Slot<P> {
    generation: u32,
    state: Option<P>,
}

/// The handler's states of this shard's peers.
///
/// ```
/// use shardgram_core::{PeerId, Peers};
/// struct Player { score: u32 }
/// fn best(peers: &mut Peers<Player>) -> Option<(PeerId, u32)> {
///     peers.iter_mut().map(|(id, player)| (id, player.score)).max_by_key(|(_, score)| *score)
/// }
/// ```
pub struct Peers<P> {
    slots: Vec<Slot<P>>,
    /// A bit for each slot, set where a peer lives: a walk costs next to nothing where nobody does, however many there were.
    in_use: Vec<u64>,
    free: Vec<u32>,
    shard: u16,
    limit: usize,
    len: usize,
}

impl<P> Peers<P> {
    pub(crate) fn new(shard: u16, limit: usize) -> Self {
        Self {
            slots: Vec::with_capacity(limit),
            in_use: Vec::with_capacity(limit.div_ceil(WORD)),
            free: Vec::with_capacity(limit),
            shard,
            limit,
            len: 0,
        }
    }

    /// The state of a peer, `None` if it was closed or lives on another shard.
    ///
    /// ```
    /// use shardgram_core::{PeerId, Peers};
    /// fn name(peers: &Peers<String>, id: PeerId) -> &str {
    ///     peers.get(id).map_or("nobody", String::as_str)
    /// }
    /// ```
    #[inline]
    pub fn get(&self, id: PeerId) -> Option<&P> {
        self.slots.get(self.index(id)?)?.state.as_ref()
    }

    /// The state of a peer, to change.
    ///
    /// ```
    /// use shardgram_core::{PeerId, Peers};
    /// fn score(peers: &mut Peers<u32>, id: PeerId, points: u32) {
    ///     if let Some(score) = peers.get_mut(id) { *score += points; }
    /// }
    /// ```
    #[inline]
    pub fn get_mut(&mut self, id: PeerId) -> Option<&mut P> {
        let index = self.index(id)?;
        self.slots.get_mut(index)?.state.as_mut()
    }

    /// Whether this peer is here and open.
    ///
    /// ```
    /// use shardgram_core::{PeerId, Peers};
    /// fn forget_gone<P>(peers: &Peers<P>, invited: &mut Vec<PeerId>) {
    ///     invited.retain(|id| peers.contains(*id));
    /// }
    /// ```
    pub fn contains(&self, id: PeerId) -> bool {
        self.get(id).is_some()
    }

    /// How many peers there are.
    ///
    /// ```
    /// use shardgram_core::{Accept, Peers};
    /// fn admit(peers: &Peers<()>) -> Accept<()> {
    ///     if peers.len() < 100 { Accept::Peer(()) } else { Accept::Drop("the room is full") }
    /// }
    /// ```
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    ///
    /// ```
    /// fn may_rest<P>(peers: &shardgram_core::Peers<P>) -> bool {
    ///     peers.is_empty()
    /// }
    /// ```
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All peers, in the order of their slots. Beside the peers themselves it takes a nanosecond or so for every 64 that
    /// there were at most.
    ///
    /// ```
    /// use shardgram_core::{PeerId, Peers};
    /// fn others<P>(peers: &Peers<P>, me: PeerId) -> impl Iterator<Item = PeerId> {
    ///     peers.iter().map(|(id, _state)| id).filter(move |id| *id != me)
    /// }
    /// ```
    pub fn iter(&self) -> impl Iterator<Item = (PeerId, &P)> {
        let shard = self.shard;
        let words = self.slots.chunks(WORD).zip(&self.in_use).enumerate();
        words.filter(|(_, (_, in_use))| **in_use != 0).flat_map(move |(word, (slots, _))| {
            (word * WORD..).zip(slots).filter_map(move |(slot, s)| {
                let id = PeerId::of(shard, slot as u32, s.generation);
                Some((id, s.state.as_ref()?))
            })
        })
    }

    /// All peers, to change.
    ///
    /// ```
    /// fn new_round(peers: &mut shardgram_core::Peers<u32>) {
    ///     peers.iter_mut().for_each(|(_id, score)| *score = 0);
    /// }
    /// ```
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (PeerId, &mut P)> {
        let shard = self.shard;
        let words = self.slots.chunks_mut(WORD).zip(&self.in_use).enumerate();
        words.filter(|(_, (_, in_use))| **in_use != 0).flat_map(move |(word, (slots, _))| {
            (word * WORD..).zip(slots).filter_map(move |(slot, s)| {
                let id = PeerId::of(shard, slot as u32, s.generation);
                Some((id, s.state.as_mut()?))
            })
        })
    }

    #[inline]
    fn index(&self, id: PeerId) -> Option<usize> {
        let slot = self.slots.get(id.slot() as usize)?;
        (slot.generation == id.generation() && id.shard() == self.shard).then_some(id.slot() as usize)
    }

    /// How many slots were ever used: the bound of a walk by slot.
    pub(crate) fn extent(&self) -> u32 {
        self.slots.len() as u32
    }

    /// The peer that lives in a slot now.
    #[inline]
    pub(crate) fn in_slot(&self, slot: u32) -> Option<PeerId> {
        let s = self.slots.get(slot as usize)?;
        s.state.as_ref()?;
        Some(PeerId::of(self.shard, slot, s.generation))
    }

    /// The first peer that lives in one of these slots.
    pub(crate) fn first_in(&self, slots: Range<u32>) -> Option<PeerId> {
        let (from, until) = (slots.start as usize, self.slots.len().min(slots.end as usize));
        let words = self.in_use.get(from / WORD..until.div_ceil(WORD))?;
        let mut mask = u64::MAX << (from % WORD);
        for (word, in_use) in (from / WORD..).zip(words) {
            let in_use = in_use & std::mem::replace(&mut mask, u64::MAX);
            if in_use != 0 {
                let slot = word * WORD + in_use.trailing_zeros() as usize;
                return self.in_slot(slot as u32).filter(|_| slot < until);
            }
        }
        None
    }

    pub(crate) fn insert(&mut self, state: P) -> Result<PeerId, P> {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None if self.slots.len() < self.limit => {
                if self.slots.len().is_multiple_of(WORD) {
                    self.in_use.push(0);
                }
                self.slots.push(Slot { generation: 0, state: None });
                self.slots.len() as u32 - 1
            }
            None => return Err(state),
        };
        let s = &mut self.slots[slot as usize];
        s.state = Some(state);
        self.in_use[slot as usize / WORD] |= 1 << (slot as usize % WORD);
        self.len += 1;
        Ok(PeerId::of(self.shard, slot, s.generation))
    }

    pub(crate) fn remove(&mut self, id: PeerId) -> Option<P> {
        let index = self.index(id)?;
        let slot = self.slots.get_mut(index)?;
        let state = slot.state.take()?;
        self.in_use[index / WORD] &= !(1 << (index % WORD));
        self.len -= 1;
        if let Some(generation) = slot.generation.checked_add(1) {
            slot.generation = generation;
            self.free.push(id.slot());
        }
        Some(state)
    }
}

impl<P> std::fmt::Debug for Peers<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Peers").field("shard", &self.shard).field("len", &self.len).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_id_finds_nothing() {
        let mut peers = Peers::new(3, 1);
        let first = peers.insert("first").expect("room");
        assert_eq!(peers.insert("no room"), Err("no room"));
        assert_eq!(peers.remove(first), Some("first"));
        let second = peers.insert("second").expect("room again");
        assert_eq!(second.slot(), first.slot());
        assert_eq!(peers.get(first), None);
        assert_eq!(peers.remove(first), None);
        assert_eq!(peers.get(second), Some(&"second"));
        assert_eq!(peers.len(), 1);
    }

    #[test]
    fn a_slot_with_no_generation_left_is_retired() {
        let mut peers = Peers::new(0, 1);
        let id = peers.insert(()).expect("room");
        peers.slots[0].generation = u32::MAX;
        let last = PeerId::of(id.shard(), id.slot(), u32::MAX);
        peers.remove(last);
        assert_eq!(peers.insert(()), Err(()), "the slot must not begin again at generation 0");
    }

    #[test]
    fn walks_find_whoever_is_there_through_random_changes() {
        let seed = 11_u64;
        let (mut x, mut peers, mut model) = (seed, Peers::new(2, 200), std::collections::BTreeMap::new());
        for _ in 0..if cfg!(miri) { 100 } else { 2_000 } {
            x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let (slot, there) = ((x >> 33) as u32 % 200, x >> 60 < 9);
            match peers.in_slot(slot) {
                Some(id) => assert_eq!(peers.remove(id), model.remove(&slot), "seed {seed}"),
                None if there => drop(peers.insert(x).map(|id| model.insert(id.slot(), x))),
                None => {}
            }
            let (from, until) = ((x >> 20) as u32 % 210, (x >> 40) as u32 % 210);
            let first = model.range(from.min(until)..until).next().map(|(slot, _)| *slot);
            assert_eq!(peers.first_in(from..until).map(PeerId::slot), first, "{from}..{until}, seed {seed}");
            let slots: Vec<_> = peers.iter().map(|(id, state)| (id.slot(), *state)).collect();
            assert_eq!(slots, model.clone().into_iter().collect::<Vec<_>>(), "seed {seed}");
            let again: Vec<_> = peers.iter_mut().map(|(id, state)| (id.slot(), *state)).collect();
            assert_eq!(slots, again, "seed {seed}");
        }
        assert!(!model.is_empty(), "seed {seed}");
    }

    #[test]
    fn another_shards_id_is_not_ours() {
        let mut peers = Peers::new(0, 2);
        let id = peers.insert(1).expect("room");
        assert_eq!(peers.get(PeerId::of(1, id.slot(), id.generation())), None);
    }
}
