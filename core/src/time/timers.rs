//! A hierarchical timer wheel with cancel and per-peer timers.
//!
//! Eight levels of 64 slots over ticks of 1,024 ns: nine years. A timer never fires early, and fires at
//! most one tick late as far as the wheel is concerned. Setting and cancelling touch a constant number
//! of nodes; moving a crowded slot down a level is done in bounded steps, so a million timers due in the
//! same second stall no turn.
//!
//! After Varghese and Lauck, "Hashed and Hierarchical Timing Wheels" (SOSP 1987).

use std::time::{Duration, Instant};

use slab::Slab;

const TICK_BITS: u32 = 10;
const SLOT_BITS: u32 = 6;
const SLOTS: usize = 1 << SLOT_BITS;
const LEVELS: usize = 8;
const MAX_TICK: u64 = (1 << (SLOT_BITS as usize * LEVELS)) - 1;
const NONE: u32 = u32::MAX;
/// Lists beside the wheel's slots: what is due, and one that is always empty.
const DUE: usize = LEVELS * SLOTS;
const NOTHING: usize = DUE + 1;
/// How many timers of the next slot are looked at for the exact deadline.
const EXACT_LOOK: usize = 16;
/// How many timers one call moves down.
const MOVES_PER_STEP: usize = 1024;

/// Names a timer that was set, for [`crate::Io::cancel`]. A stale one cancels nothing.
///
/// ```
/// use shardgram_core::{Handler, Io, TimerId};
/// fn rearm<H: Handler>(io: &mut Io<H>, old: TimerId, timer: H::Timer) -> Option<TimerId> {
///     io.cancel(old);
///     let at = io.now() + std::time::Duration::from_millis(20);
///     io.set_timer(at, timer).ok()
/// }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct TimerId {
    slot: u32,
    /// Counts all timers ever set, so that no other has this id, in the same slot or not.
    serial: u64,
}

#[derive(Clone, Copy)]
struct List {
    head: u32,
    tail: u32,
}

const EMPTY: List = List { head: NONE, tail: NONE };

struct Node<T> {
    tick: u64,
    serial: u64,
    list: u16,
    next: u32,
    prev: u32,
    /// Slot of the peer that owns it, or `NONE`, and its neighbours among that peer's timers.
    peer: u32,
    peer_next: u32,
    peer_prev: u32,
    value: T,
}

/// The head of a peer's own timers, kept with the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PeerTimers(u32);

impl PeerTimers {
    pub(crate) const EMPTY: Self = Self(NONE);
}

pub(crate) struct TimerWheel<T> {
    nodes: Slab<Node<T>>,
    limit: usize,
    /// Serial number of the next timer.
    serial: u64,
    lists: Box<[List]>,
    occupied: [u64; LEVELS],
    /// The slot whose timers are on their way down a level, or `NOTHING`. Its bit in `occupied` is clear.
    moving: usize,
    /// Every timer with a tick up to this one is due, or on its way there.
    elapsed: u64,
    start: Instant,
}

impl<T> TimerWheel<T> {
    pub(crate) fn new(limit: usize, start: Instant) -> Self {
        Self::with(Slab::with_capacity(limit), limit, start)
    }

    /// For as many timers as there are things that have one each, with nothing reserved for them.
    pub(crate) fn unreserved(start: Instant) -> Self {
        Self::with(Slab::new(), usize::MAX, start)
    }

    fn with(nodes: Slab<Node<T>>, limit: usize, start: Instant) -> Self {
        Self {
            nodes,
            limit,
            serial: 0,
            lists: vec![EMPTY; NOTHING + 1].into_boxed_slice(),
            occupied: [0; LEVELS],
            moving: NOTHING,
            elapsed: 0,
            start,
        }
    }

    /// The tick that begins at or after `at`: rounding up is what keeps a timer from firing early.
    fn tick_of(&self, at: Instant) -> u64 {
        let ns = at.saturating_duration_since(self.start).as_nanos();
        let ticks = ns.div_ceil(1 << TICK_BITS);
        u64::try_from(ticks).unwrap_or(MAX_TICK).min(MAX_TICK)
    }

    fn instant_of(&self, tick: u64) -> Instant {
        self.start + Duration::from_nanos(tick << TICK_BITS)
    }

    /// Sets a timer; `peer` is the slot of the peer that owns it and the head of its timers. It is due
    /// after `now`, however early it is asked for, so a timer that sets itself again fires once a turn.
    pub(crate) fn set(
        &mut self,
        now: Instant,
        at: Instant,
        value: T,
        peer: Option<(u32, &mut PeerTimers)>,
    ) -> Result<TimerId, T> {
        let tick = self.tick_of(at).max(self.floor_tick(now) + 1);
        if self.nodes.len() == self.limit {
            return Err(value);
        }
        let (serial, list, next, prev) = (self.serial, NOTHING as u16, NONE, NONE);
        self.serial += 1;
        let (owner, peer_next) = peer.as_ref().map_or((NONE, NONE), |(slot, head)| (*slot, head.0));
        let node = Node { tick, serial, list, next, prev, peer: owner, peer_next, peer_prev: NONE, value };
        let slot = self.nodes.insert(node) as u32;
        if let Some((_, head)) = peer {
            if peer_next != NONE {
                self.nodes[peer_next as usize].peer_prev = slot;
            }
            head.0 = slot;
        }
        self.place(slot);
        Ok(TimerId { slot, serial })
    }

    /// Takes all timers that no peer owns.
    pub(crate) fn take_unowned(&mut self) -> Vec<T> {
        let unowned = self.nodes.iter().filter(|(_, node)| node.peer == NONE);
        let slots: Vec<u32> = unowned.map(|(slot, _)| slot as u32).collect();
        slots.into_iter().map(|slot| self.remove(slot, None)).collect()
    }

    /// The slot of the peer that owns this timer, if it is set and a peer does.
    pub(crate) fn owner(&self, id: TimerId) -> Option<u32> {
        let node = self.live(id)?;
        (node.peer != NONE).then_some(node.peer)
    }

    /// Takes a timer back. `head` is the head of the timers of the peer that owns it, if one does.
    pub(crate) fn cancel(&mut self, id: TimerId, head: Option<&mut PeerTimers>) -> Option<T> {
        self.live(id)?;
        Some(self.remove(id.slot, head))
    }

    /// Takes all timers of a peer.
    pub(crate) fn take_all(&mut self, head: &mut PeerTimers) -> Vec<T> {
        let mut taken = Vec::new();
        while head.0 != NONE {
            taken.push(self.remove(head.0, Some(head)));
        }
        taken
    }

    /// The next timer that is due at `now`, in order of time as far as ticks tell.
    pub(crate) fn next_due(&mut self, now: Instant) -> Option<TimerId> {
        if self.nodes.is_empty() {
            return None;
        }
        if self.lists[DUE].head == NONE {
            self.advance(self.floor_tick(now));
        }
        let slot = self.lists[DUE].head;
        let node = self.nodes.get(slot as usize)?;
        Some(TimerId { slot, serial: node.serial })
    }

    /// When something has to be done next: exactly the earliest timer, or earlier where finding it out
    /// would take a long walk. `None` with no timer set.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        if self.nodes.is_empty() {
            return None;
        }
        if self.lists[DUE].head != NONE || self.lists[self.moving].head != NONE {
            return Some(self.instant_of(self.elapsed));
        }
        let (level, slot, tick) = self.next_slot()?;
        if level == 0 {
            return Some(self.instant_of(tick));
        }
        let mut earliest = u64::MAX;
        let mut at = self.lists[level * SLOTS + slot].head;
        for _ in 0..EXACT_LOOK {
            let Some(node) = self.nodes.get(at as usize) else { break };
            earliest = earliest.min(node.tick);
            at = node.next;
        }
        Some(self.instant_of(if at == NONE { earliest } else { tick }))
    }

    fn floor_tick(&self, now: Instant) -> u64 {
        let ns = now.saturating_duration_since(self.start).as_nanos();
        u64::try_from(ns >> TICK_BITS).unwrap_or(MAX_TICK).min(MAX_TICK)
    }

    /// Brings timers up to `now` to the due list, a bounded number at a time, the earliest slot first.
    fn advance(&mut self, now: u64) {
        for _ in 0..MOVES_PER_STEP {
            let slot = self.lists[self.moving].head;
            if slot != NONE {
                self.unlink(slot);
                self.place(slot);
                continue;
            }
            self.moving = NOTHING;
            if self.lists[DUE].head != NONE {
                return;
            }
            match self.next_slot() {
                Some((level, slot, tick)) if tick <= now => {
                    // From here on nothing can be placed in this slot until it is empty: what belongs
                    // to its time differs from `elapsed` only in lower bits.
                    self.elapsed = tick;
                    self.occupied[level] &= !(1 << slot);
                    self.moving = level * SLOTS + slot;
                }
                _ => {
                    self.elapsed = self.elapsed.max(now);
                    return;
                }
            }
        }
    }

    /// The earliest occupied slot: level, slot, and the tick it begins at.
    fn next_slot(&self) -> Option<(usize, usize, u64)> {
        for level in 0..LEVELS {
            let shift = SLOT_BITS * level as u32;
            let here = (self.elapsed >> shift) as usize % SLOTS;
            let ahead = self.occupied[level] & (u64::MAX << here);
            if ahead != 0 {
                let slot = ahead.trailing_zeros() as usize;
                let rotation = self.elapsed >> (shift + SLOT_BITS) << (shift + SLOT_BITS);
                let tick = (rotation + ((slot as u64) << shift)).max(self.elapsed);
                return Some((level, slot, tick));
            }
        }
        None
    }

    fn place(&mut self, slot: u32) {
        let tick = self.nodes[slot as usize].tick;
        if tick <= self.elapsed {
            self.append(slot, DUE);
            return;
        }
        // The level is where the highest differing bit lies: a slot of that level then comes round
        // before the timer is due, and no timer ever sits in a slot that has passed.
        let differing = 63 - (self.elapsed ^ tick).leading_zeros();
        let level = (differing / SLOT_BITS) as usize;
        let index = (tick >> (SLOT_BITS * level as u32)) as usize % SLOTS;
        self.occupied[level] |= 1 << index;
        self.append(slot, level * SLOTS + index);
    }

    fn append(&mut self, slot: u32, list: usize) {
        let tail = self.lists[list].tail;
        let node = &mut self.nodes[slot as usize];
        node.list = list as u16;
        node.next = NONE;
        node.prev = tail;
        if tail == NONE {
            self.lists[list].head = slot;
        } else {
            self.nodes[tail as usize].next = slot;
        }
        self.lists[list].tail = slot;
    }

    fn unlink(&mut self, slot: u32) {
        let node = &self.nodes[slot as usize];
        let (list, next, prev) = (node.list as usize, node.next, node.prev);
        if prev == NONE {
            self.lists[list].head = next;
        } else {
            self.nodes[prev as usize].next = next;
        }
        if next == NONE {
            self.lists[list].tail = prev;
        } else {
            self.nodes[next as usize].prev = prev;
        }
        if list < DUE && self.lists[list].head == NONE {
            self.occupied[list / SLOTS] &= !(1 << (list % SLOTS));
        }
    }

    fn live(&self, id: TimerId) -> Option<&Node<T>> {
        self.nodes.get(id.slot as usize).filter(|node| node.serial == id.serial)
    }

    /// Takes a timer out of its list, out of its peer's, and out of the wheel.
    fn remove(&mut self, slot: u32, head: Option<&mut PeerTimers>) -> T {
        self.unlink(slot);
        let node = self.nodes.remove(slot as usize);
        if let Some(head) = head {
            if node.peer_prev == NONE {
                head.0 = node.peer_next;
            } else {
                self.nodes[node.peer_prev as usize].peer_next = node.peer_next;
            }
            if node.peer_next != NONE {
                self.nodes[node.peer_next as usize].peer_prev = node.peer_prev;
            }
        }
        node.value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due<T>(wheel: &mut TimerWheel<T>, now: Instant) -> Vec<T> {
        let mut out = Vec::new();
        loop {
            let Some(id) = wheel.next_due(now) else {
                match wheel.next_deadline() {
                    Some(at) if at <= now => continue,
                    _ => return out,
                }
            };
            out.extend(wheel.cancel(id, None));
        }
    }

    #[test]
    fn fires_in_order_and_never_early() {
        let start = Instant::now();
        let mut wheel = TimerWheel::new(10_000, start);
        let seed = 0x5eed_u64;
        let mut x = seed;
        let mut want = Vec::new();
        for i in 0..if cfg!(miri) { 100 } else { 5_000_u64 } {
            x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let at = start + Duration::from_nanos((x >> 20) % 300_000_000_000);
            wheel.set(start, at, (at, i), None).expect("room");
            want.push((at, i));
        }
        want.sort();
        let mut got = Vec::new();
        while let Some(deadline) = wheel.next_deadline() {
            for (at, i) in due(&mut wheel, deadline) {
                assert!(at <= deadline, "timer {i} fired early (seed {seed:#x})");
                assert!(
                    deadline - at <= Duration::from_nanos(1 << TICK_BITS),
                    "timer {i} fired late (seed {seed:#x})"
                );
                got.push((at, i));
            }
        }
        assert!(wheel.nodes.is_empty());
        let tick = |at: Instant| (at - start).as_nanos().div_ceil(1 << TICK_BITS);
        assert!(got.windows(2).all(|w| tick(w[0].0) <= tick(w[1].0)), "out of order (seed {seed:#x})");
        got.sort();
        assert_eq!(got, want, "seed {seed:#x}");
    }

    #[test]
    fn a_sparse_timer_has_an_exact_deadline() {
        let start = Instant::now();
        let mut wheel = TimerWheel::new(4, start);
        wheel.set(start, start + Duration::from_secs(7), (), None).expect("room");
        let deadline = wheel.next_deadline().expect("one is set");
        assert!(deadline >= start + Duration::from_secs(7));
        assert!(deadline <= start + Duration::from_secs(7) + Duration::from_nanos(1 << TICK_BITS));
    }

    #[test]
    fn cancel_takes_it_out_once() {
        let start = Instant::now();
        let mut wheel = TimerWheel::new(2, start);
        let first = wheel.set(start, start + Duration::from_millis(1), 'a', None).expect("room");
        assert_eq!(wheel.cancel(first, None), Some('a'));
        assert_eq!(wheel.cancel(first, None), None);
        let second = wheel.set(start, start + Duration::from_millis(1), 'b', None).expect("room");
        assert_ne!(first, second);
        assert_eq!(wheel.cancel(first, None), None, "a stale id cancels nothing");
        assert_eq!(due(&mut wheel, start + Duration::from_secs(1)), ['b']);
    }

    #[test]
    fn a_peers_timers_stay_when_the_others_go() {
        let start = Instant::now();
        let mut wheel = TimerWheel::new(8, start);
        let mut head = PeerTimers::EMPTY;
        let at = start + Duration::from_millis(3);
        wheel.set(start, at, 'p', Some((1, &mut head))).expect("room");
        wheel.set(start, at, 'a', None).expect("room");
        assert_eq!(wheel.take_unowned(), ['a']);
        wheel.set(start, at, 'b', None).expect("room");
        assert_eq!(wheel.take_all(&mut head), ['p']);
        assert_eq!(due(&mut wheel, start + Duration::from_secs(1)), ['b']);
        assert_eq!(wheel.next_deadline(), None);
    }

    #[test]
    fn one_that_sets_itself_again_waits_for_the_next_turn() {
        let start = Instant::now();
        let mut wheel = TimerWheel::new(2, start);
        let now = start + Duration::from_millis(5);
        wheel.set(now, start, 'a', None).expect("room");
        assert_eq!(due(&mut wheel, now), []);
        assert_eq!(due(&mut wheel, now + Duration::from_micros(2)), ['a']);
    }

    #[test]
    fn the_limit_gives_the_value_back() {
        let start = Instant::now();
        let mut wheel = TimerWheel::new(1, start);
        wheel.set(start, start, 1, None).expect("room");
        assert_eq!(wheel.set(start, start, 2, None), Err(2));
    }

    #[test]
    fn a_peers_timers_go_with_it() {
        let start = Instant::now();
        let mut wheel = TimerWheel::new(8, start);
        let mut head = PeerTimers::EMPTY;
        let ids: Vec<_> = (0..4)
            .map(|i| {
                wheel.set(start, start + Duration::from_millis(i), i, Some((7, &mut head))).expect("room")
            })
            .collect();
        wheel.set(start, start + Duration::from_millis(2), 99, None).expect("room");
        assert_eq!(wheel.owner(ids[2]), Some(7));
        assert_eq!(wheel.cancel(ids[2], Some(&mut head)), Some(2));
        assert_eq!(wheel.take_all(&mut head), [3, 1, 0]);
        assert_eq!(head, PeerTimers::EMPTY);
        assert_eq!(due(&mut wheel, start + Duration::from_secs(1)), [99]);
    }

    #[test]
    fn a_crowded_slot_moves_down_in_bounded_steps() {
        let start = Instant::now();
        let count = MOVES_PER_STEP * 3;
        let mut wheel = TimerWheel::new(count, start);
        for i in 0..count {
            wheel.set(start, start + Duration::from_millis(900), i, None).expect("room");
        }
        assert!(wheel.next_due(start + Duration::from_secs(1)).is_none(), "the first step moves only some");
        assert_eq!(due(&mut wheel, start + Duration::from_secs(1)).len(), count);
    }
}
