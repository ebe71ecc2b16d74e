//! One flow: which of its datagrams are out, and what each reply is.
//!
//! A closed loop keeps a window of slots, so it knows exactly which datagrams are out however far the
//! newest has run ahead. An open loop has no window. For both a ring of bits remembers which of the latest
//! sequences were answered, to tell duplicates from replies that come late.

/// The fewest sequences that are remembered.
const LEAST_REMEMBERED: u64 = 1_024;
/// The most: half a MiB of bits.
const MOST_REMEMBERED: u64 = 1 << 22;

/// What a reply is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// The first reply in time. `reordered` if one that was sent later came before it.
    Fresh { reordered: bool },
    /// It was answered before.
    Duplicate,
    /// The first reply, but after the datagram was given up for lost.
    Late,
    /// Nothing like it was ever sent.
    Alien,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Verdict {
    pub(crate) kind: Kind,
    /// Whether its slot of the window is free now.
    pub(crate) frees: bool,
    /// Whether it was sent after the warm-up.
    pub(crate) counts: bool,
}

#[derive(Clone, Copy)]
struct Out {
    /// `None` if the slot is free.
    sequence: Option<u64>,
    sent_ns: u64,
}

pub(crate) struct Flow {
    next: u64,
    /// Datagrams without a reply so far.
    outstanding: u64,
    /// The first sequence after the warm-up.
    counted_from: u64,
    highest: Option<u64>,
    window: Box<[Out]>,
    /// Nothing in the window is older than this.
    oldest_ns: u64,
    /// One bit a sequence, set when it was answered.
    answered: Box<[u64]>,
    /// Sequences that fell out of `answered` without an answer.
    forgotten: u64,
}

impl Flow {
    /// A flow with a window of so many slots, 0 for an open loop, that remembers at least so many sequences.
    pub(crate) fn new(window: usize, remember: u64) -> Self {
        let bits = remember.clamp(LEAST_REMEMBERED, MOST_REMEMBERED).next_power_of_two();
        Self {
            next: 0,
            outstanding: 0,
            counted_from: u64::MAX,
            highest: None,
            window: vec![Out { sequence: None, sent_ns: 0 }; window].into(),
            oldest_ns: 0,
            answered: vec![0; bits as usize / 64].into(),
            forgotten: 0,
        }
    }

    /// The sequence of the next datagram.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// How many datagrams no reply came for, however long ago they were sent.
    pub(crate) fn outstanding(&self) -> u64 {
        self.outstanding
    }

    /// Notes that the next datagram was sent, in this slot; it counts unless this is the warm-up.
    #[inline]
    pub(crate) fn sent(&mut self, slot: u16, sent_ns: u64, counts: bool) {
        let sequence = self.next;
        self.next += 1;
        self.outstanding += 1;
        if counts && self.counted_from == u64::MAX {
            self.counted_from = sequence;
        }
        let (word, bit) = self.place(sequence);
        let overwritten = self.answered[word] & bit == 0;
        if overwritten && sequence >= self.remembered() {
            self.forgotten += 1;
        }
        self.answered[word] &= !bit;
        if let Some(out) = self.window.get_mut(usize::from(slot)) {
            *out = Out { sequence: Some(sequence), sent_ns };
        }
    }

    /// What the reply with this low half of a sequence is; `in_time` if it is not yet to be given up.
    #[inline]
    pub(crate) fn reply(&mut self, low: u32, slot: u16, in_time: bool) -> Verdict {
        let behind = (self.next as u32).wrapping_sub(1).wrapping_sub(low);
        let Some(sequence) = self.next.checked_sub(1 + u64::from(behind)) else {
            return Verdict { kind: Kind::Alien, frees: false, counts: true };
        };
        let counts = sequence >= self.counted_from;
        let out = self.window.get_mut(usize::from(slot)).filter(|out| out.sequence == Some(sequence));
        let frees = out.map(|out| out.sequence = None).is_some();
        let first = self.mark(sequence, frees);
        self.outstanding = self.outstanding.saturating_sub(u64::from(first));
        let kind = match first {
            false => Kind::Duplicate,
            true if !in_time || (!frees && !self.window.is_empty()) => Kind::Late,
            true => {
                let reordered = self.highest.is_some_and(|highest| sequence < highest);
                self.highest = self.highest.max(Some(sequence));
                Kind::Fresh { reordered }
            }
        };
        Verdict { kind, frees, counts }
    }

    /// Marks a sequence as answered; whether this is the first time. `out` if it surely is.
    fn mark(&mut self, sequence: u64, out: bool) -> bool {
        if sequence + self.remembered() >= self.next {
            let (word, bit) = self.place(sequence);
            let first = self.answered[word] & bit == 0;
            self.answered[word] |= bit;
            first
        } else {
            let first = out || self.forgotten > 0;
            self.forgotten = self.forgotten.saturating_sub(u64::from(first));
            first
        }
    }

    /// Frees every slot whose datagram was sent before `limit_ns`, telling `given_up` the slot and whether
    /// it counts.
    pub(crate) fn give_up(&mut self, limit_ns: u64, now_ns: u64, mut given_up: impl FnMut(u16, bool)) {
        if self.oldest_ns >= limit_ns {
            return;
        }
        self.oldest_ns = now_ns;
        for (slot, out) in self.window.iter_mut().enumerate() {
            let Some(sequence) = out.sequence else { continue };
            if out.sent_ns < limit_ns {
                out.sequence = None;
                given_up(slot as u16, sequence >= self.counted_from);
            } else {
                self.oldest_ns = self.oldest_ns.min(out.sent_ns);
            }
        }
    }

    fn remembered(&self) -> u64 {
        self.answered.len() as u64 * 64
    }

    #[inline]
    fn place(&self, sequence: u64) -> (usize, u64) {
        let at = sequence & (self.remembered() - 1);
        ((at / 64) as usize, 1 << (at % 64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRESH: Kind = Kind::Fresh { reordered: false };

    /// The kinds of replies to these sequences, in this order, after `sent` datagrams.
    fn kinds(flow: &mut Flow, replies: &[u64]) -> Vec<Kind> {
        replies.iter().map(|&r| flow.reply(r as u32, (r % 4) as u16, true).kind).collect()
    }

    fn open(sent: u64) -> Flow {
        let mut flow = Flow::new(0, 0);
        (0..sent).for_each(|at| flow.sent(0, at, true));
        flow
    }

    #[test]
    fn duplicates_and_reordering_are_told_apart() {
        let late_one = Kind::Fresh { reordered: true };
        let got = kinds(&mut open(4), &[0, 2, 1, 2, 1, 3, 9]);
        assert_eq!(got, [FRESH, FRESH, late_one, Kind::Duplicate, Kind::Duplicate, FRESH, Kind::Alien]);
    }

    #[test]
    fn a_reply_after_its_time_is_late_once_and_then_a_duplicate() {
        let mut flow = open(1);
        assert_eq!(flow.reply(0, 0, false).kind, Kind::Late);
        assert_eq!(flow.reply(0, 0, false).kind, Kind::Duplicate);
    }

    #[test]
    fn what_a_window_gave_up_comes_late() {
        let mut flow = Flow::new(4, 0);
        (0..4).for_each(|at| flow.sent(at as u16, at * 10, at > 1));
        let mut lost = Vec::new();
        flow.give_up(25, 100, |slot, counts| lost.push((slot, counts)));
        assert_eq!(lost, [(0, false), (1, false), (2, true)]);
        flow.give_up(25, 100, |_, _| panic!("given up twice"));
        assert_eq!(flow.reply(3, 3, true), Verdict { kind: FRESH, frees: true, counts: true });
        assert_eq!(flow.reply(2, 2, true), Verdict { kind: Kind::Late, frees: false, counts: true });
        assert_eq!(flow.reply(1, 1, true), Verdict { kind: Kind::Late, frees: false, counts: false });
        flow.sent(0, 90, true);
        flow.give_up(95, 200, |slot, _| assert_eq!(slot, 0));
        assert!(!flow.reply(4, 0, true).frees);
    }

    #[test]
    fn a_window_knows_what_is_out_beyond_what_is_remembered() {
        let mut flow = Flow::new(2, 0);
        flow.sent(0, 0, true);
        for sequence in 1..5_000 {
            flow.sent(1, 0, true);
            assert_eq!(flow.reply(sequence, 1, true).kind, FRESH);
        }
        assert_eq!(flow.reply(1, 1, true).kind, Kind::Late, "it may have been sequence 0's");
        assert_eq!(flow.reply(2, 1, true).kind, Kind::Duplicate);
        let verdict = flow.reply(0, 0, true);
        assert!(verdict.frees);
        assert_eq!(flow.reply(0, 0, true).kind, Kind::Duplicate);
    }

    #[test]
    fn sequences_go_on_past_32_bits() {
        let mut flow = open(0);
        flow.next = (1 << 32) - 1;
        flow.sent(0, 0, true);
        flow.sent(0, 0, true);
        assert_eq!(flow.next(), (1 << 32) + 1);
        assert_eq!(kinds(&mut flow, &[u64::from(u32::MAX), 1 << 32]), [FRESH, FRESH]);
    }
}
