//! Judging datagrams where they arrive, by one who did not send them: a sink, a subscriber.

use super::flow::Kind;
use super::payload::Header;
use super::slices::Slices;
use super::tally::Tally;

/// Which of the latest sequences of one sender have arrived.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// The highest so far.
    highest: Option<u32>,
    /// One bit a sequence. Nothing until the first arrives.
    bits: Box<[u64]>,
}

impl Seen {
    /// Notes an arrival; `remember` is how many sequences are kept, a power of two and 64 or more. What is
    /// older than these counts as a duplicate, so that nothing counts as received twice.
    #[inline]
    pub(crate) fn note(&mut self, sequence: u32, remember: u32) -> Kind {
        let Some(highest) = self.highest else {
            self.bits = vec![0; remember as usize / 64].into();
            self.highest = Some(sequence);
            self.mark(sequence);
            return Kind::Fresh { reordered: false };
        };
        let kept = self.bits.len() as u32 * 64;
        let ahead = sequence.wrapping_sub(highest);
        if ahead != 0 && ahead < 1 << 31 {
            if ahead >= kept {
                self.bits.fill(0);
            } else {
                (1..=ahead).for_each(|step| self.forget(highest.wrapping_add(step)));
            }
            self.highest = Some(sequence);
            self.mark(sequence);
            return Kind::Fresh { reordered: false };
        }
        if highest.wrapping_sub(sequence) >= kept || !self.mark(sequence) {
            return Kind::Duplicate;
        }
        Kind::Fresh { reordered: true }
    }

    fn place(&self, sequence: u32) -> (usize, u64) {
        let at = sequence & (self.bits.len() as u32 * 64 - 1);
        ((at / 64) as usize, 1 << (at % 64))
    }

    /// Whether it was not marked yet.
    fn mark(&mut self, sequence: u32) -> bool {
        let (word, bit) = self.place(sequence);
        let first = self.bits[word] & bit == 0;
        self.bits[word] |= bit;
        first
    }

    fn forget(&mut self, sequence: u32) {
        let (word, bit) = self.place(sequence);
        self.bits[word] &= !bit;
    }
}

/// Where arrivals are counted.
pub(crate) struct Books<'a> {
    pub(crate) tally: &'a mut Tally,
    pub(crate) slices: Option<&'a mut Slices>,
    pub(crate) timeout_ns: u64,
    /// For [`Seen::note`].
    pub(crate) remember: u32,
}

/// Counts an intact datagram of this run, of this length.
pub(crate) fn count(books: Books<'_>, seen: &mut Seen, header: &Header, len: usize, now_ns: u64) {
    let Books { tally, mut slices, timeout_ns, remember } = books;
    let kind = seen.note(header.sequence, remember);
    if header.intended_ns < tally.counted_from_ns {
        return;
    }
    let Kind::Fresh { reordered } = kind else {
        tally.duplicated += 1;
        return;
    };
    if now_ns.saturating_sub(header.sent_ns) > timeout_ns {
        tally.late += 1;
        if let Some(slices) = &mut slices {
            slices.late(header.sent_ns);
        }
        return;
    }
    let latency_ns = now_ns.saturating_sub(header.intended_ns);
    tally.received += 1;
    tally.bytes_received += len as u64;
    tally.reordered += u64::from(reordered);
    tally.from_intended.saturating_record(latency_ns);
    tally.from_sent.saturating_record(now_ns.saturating_sub(header.sent_ns));
    if let Some(slices) = &mut slices {
        slices.received(header.sent_ns, latency_ns);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRESH: Kind = Kind::Fresh { reordered: false };
    const OVERTAKEN: Kind = Kind::Fresh { reordered: true };

    fn kinds(sequences: &[u32]) -> Vec<Kind> {
        let mut seen = Seen::default();
        sequences.iter().map(|sequence| seen.note(*sequence, 128)).collect()
    }

    #[test]
    fn each_sequence_is_fresh_once() {
        let got = kinds(&[5, 6, 6, 8, 7, 7, 5, 4]);
        let twice = Kind::Duplicate;
        assert_eq!(got, [FRESH, FRESH, twice, FRESH, OVERTAKEN, twice, twice, OVERTAKEN]);
    }

    #[test]
    fn sequences_wrap_and_leave_what_is_too_old_behind() {
        assert_eq!(kinds(&[u32::MAX, 0, u32::MAX]), [FRESH, FRESH, Kind::Duplicate]);
        assert_eq!(kinds(&[0, 200, 100, 72]), [FRESH, FRESH, OVERTAKEN, Kind::Duplicate]);
        assert_eq!(kinds(&[0, 127, 128, 1, 0]), [FRESH, FRESH, FRESH, OVERTAKEN, Kind::Duplicate]);
    }
}
