//! Which receives are to be armed next.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Datagrams that the kernel receives of one socket before the next one's turn: MULTISHOT_MAX_RETRY of its
/// io_uring/net.c.
pub(crate) const IN_A_ROW: usize = 32;

/// What a socket may be ahead of others in the order, in datagrams: two turns' worth. So who had much while there were
/// buffers for all is behind the others for two turns only, and who is new waits for all that were there before it.
const LEAD: u64 = 2 * IN_A_ROW as u64;

/// Whose turn it is: what it has had, as far as that counts; among equals the first that came; its place.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Turn {
    had: u64,
    added: u64,
    slot: u32,
}

impl Turn {
    /// The place of the socket.
    pub(crate) fn slot(&self) -> u32 {
        self.slot
    }

    /// What counts as what it has had.
    pub(crate) fn had(&self) -> u64 {
        self.had
    }
}

/// Places whose receives have to be armed, those that had least first.
///
/// Where buffers are short, the first that is armed takes all there are if it is flooded, and how many there are differs
/// from turn to turn. So their shares are equal only if what each one got counts: this is start-time fair queueing, in
/// datagrams.
#[derive(Debug, Default)]
pub(crate) struct ToArm {
    waiting: BinaryHeap<Reverse<Turn>>,
    /// What the one had had that was first when receives were armed last.
    now: u64,
    added: u64,
    /// Those that were armed for the buffers there were, and may not have had them yet.
    fed: Vec<Fed>,
    turn: u64,
}

/// A place whose receive was armed for buffers, what it had had then, and the turn of the loop.
#[derive(Debug)]
struct Fed {
    slot: u32,
    had: u64,
    turn: u64,
}

impl ToArm {
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Adds the place of a socket that has had so much.
    pub(crate) fn add(&mut self, slot: u32, had: u64) {
        self.added += 1;
        let had = had.clamp(self.now, self.now + LEAD);
        self.waiting.push(Reverse(Turn { had, added: self.added, slot }));
    }

    /// Adds the place of a socket that has not been armed before.
    pub(crate) fn add_new(&mut self, slot: u32) {
        self.add(slot, u64::MAX);
    }

    /// Receives are going to be armed.
    pub(crate) fn begin(&mut self) {
        if let Some(Reverse(first)) = self.waiting.peek() {
            self.now = first.had;
        }
    }

    /// A turn of the loop begins.
    #[inline]
    pub(crate) fn turn_begins(&mut self) {
        self.turn += 1;
    }

    /// The place has had so much and was armed for buffers. The kernel gives it some when it is entered the next time but
    /// one, since such a receive asks first whether there is anything (IORING_RECVSEND_POLL_FIRST).
    pub(crate) fn feed(&mut self, slot: u32, had: u64) {
        self.fed.push(Fed { slot, had, turn: self.turn });
    }

    /// How many places are still to have the buffers they were armed for: those that are armed and have had no more since,
    /// as `waits` says of a place and what it had had. After a turn one has nothing to receive, and is not waited for.
    pub(crate) fn still_fed(&mut self, waits: impl Fn(u32, u64) -> bool) -> usize {
        let since = self.turn.saturating_sub(1);
        self.fed.retain(|fed| fed.turn >= since && waits(fed.slot, fed.had));
        self.fed.len()
    }

    pub(crate) fn next(&mut self) -> Option<Turn> {
        self.waiting.pop().map(|Reverse(turn)| turn)
    }

    /// It was not armed, and is the next one again.
    pub(crate) fn put_back(&mut self, turn: Turn) {
        self.waiting.push(Reverse(turn));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What six flooded sockets get that had had so much before, when so many buffers come back again and again, and the
    /// kernel gives each socket 32 at most in a row.
    fn shares(mut had: [u64; 6], buffers: &[usize]) -> [u64; 6] {
        let (mut to_arm, mut got) = (ToArm::default(), [0; 6]);
        (0..6).for_each(|slot| to_arm.add(slot, had[slot as usize]));
        for free in buffers.iter().cycle().take(6_000) {
            let (mut left, mut fed) = (*free as u64, free.div_ceil(IN_A_ROW));
            to_arm.begin();
            while let Some(turn) = to_arm.next() {
                if fed == 0 {
                    to_arm.put_back(turn);
                    break;
                }
                fed -= 1;
                let much = left.min(IN_A_ROW as u64);
                left -= much;
                got[turn.slot() as usize] += much;
                had[turn.slot() as usize] = turn.had() + much;
            }
            // Those that were armed end for want of buffers.
            for slot in 0..6 {
                if !to_arm.waiting.iter().any(|Reverse(turn)| turn.slot == slot) {
                    to_arm.add(slot, had[slot as usize]);
                }
            }
        }
        got
    }

    #[test]
    fn flooded_sockets_get_the_same_however_many_buffers_there_are_at_a_time() {
        for buffers in [&[32, 7][..], &[64], &[25, 25, 14], &[1], &[16, 3, 16], &[100, 1, 1, 1, 1, 1]] {
            let got = shares([0; 6], buffers);
            let (least, most) = (got.iter().min().expect("six"), got.iter().max().expect("six"));
            assert!(most - least <= 4 * LEAD, "{buffers:?} buffers: {got:?}");
        }
    }

    #[test]
    fn what_was_had_before_counts_for_two_turns_only() {
        for before in [[1_000_000, 0, 0, 0, 0, 0], [0, 70, 1 << 40, 5, 0, 33]] {
            for buffers in [&[64][..], &[25], &[32, 7]] {
                let got = shares(before, buffers);
                let (least, most) = (got.iter().min().expect("six"), got.iter().max().expect("six"));
                assert!(most - least <= 4 * LEAD, "{before:?} before, {buffers:?} buffers: {got:?}");
            }
        }
    }

    #[test]
    fn newcomers_do_not_keep_who_was_there_waiting() {
        let mut to_arm = ToArm::default();
        to_arm.add(0, 1_000_000);
        for newcomer in 1..10 {
            to_arm.add_new(newcomer);
            to_arm.begin();
            if to_arm.next().is_some_and(|turn| turn.slot() == 0) {
                return;
            }
        }
        panic!("it waits for one newcomer after the other");
    }

    #[test]
    fn who_is_put_back_keeps_its_place() {
        let mut to_arm = ToArm::default();
        (0..3).for_each(|slot| to_arm.add(slot, 0));
        let first = to_arm.next().expect("three");
        to_arm.put_back(first);
        let order: Vec<_> = std::iter::from_fn(|| to_arm.next()).map(|turn| turn.slot()).collect();
        assert_eq!(order, [0, 1, 2]);
    }

    #[test]
    fn buffers_are_promised_once() {
        let mut to_arm = ToArm::default();
        to_arm.turn_begins();
        to_arm.feed(3, 64);
        to_arm.feed(5, 80);
        assert_eq!(to_arm.still_fed(|_, _| true), 2);
        to_arm.turn_begins();
        assert_eq!(to_arm.still_fed(|slot, had| (slot, had) == (3, 64)), 1, "the other one had some");
        to_arm.turn_begins();
        assert_eq!(to_arm.still_fed(|_, _| true), 0, "nothing came to it");
    }
}
