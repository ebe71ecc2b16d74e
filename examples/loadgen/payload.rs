//! What each datagram carries: a header of 32 bytes, then a pattern that only this flow and sequence has.
//!
//! | bytes | holds |
//! | --- | --- |
//! | 0..4 | run: random, so that another run's stragglers are no replies |
//! | 4..8 | flow |
//! | 8..12 | sequence, its low half |
//! | 12..16 | checksum over everything else, seeded with a magic number and the length |
//! | 16..22 | intended send time, in ns since the run began |
//! | 22..24 | slot of the flow's window (closed loop) |
//! | 24..30 | actual send time, in ns since the run began |
//! | 30 | 1 if it subscribes its sender, else 0 |
//! | 31 | nought |
//!
//! All of it little-endian. The checksum covers the payload, so a reply whose checksum holds brought back
//! every byte of the pattern.

/// The shortest datagram that holds the header.
pub(crate) const HEADER_BYTES: usize = 32;

const CHECKSUM: std::ops::Range<usize> = 12..16;
const TIME_BITS: u64 = (1 << 48) - 1;
const MAGIC: u64 = 0x7368_6172_6467_7261;
/// Odd, so multiplying loses nothing: one changed bit always changes its lane.
const PRIME: u64 = 0x9e37_79b9_7f4a_7c15;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Header {
    pub(crate) run: u32,
    pub(crate) flow: u32,
    pub(crate) sequence: u32,
    pub(crate) slot: u16,
    /// Below 2^48, which is 78 hours.
    pub(crate) intended_ns: u64,
    pub(crate) sent_ns: u64,
    /// Fan-out: the server is to send it back, and from then on what others publish.
    pub(crate) subscription: bool,
}

const SUBSCRIPTION: usize = 30;

/// Whether a datagram subscribes its sender, by that byte alone.
pub(crate) fn is_subscription(bytes: &[u8]) -> bool {
    bytes.get(SUBSCRIPTION) == Some(&1)
}

/// Fills `bytes`, which are at least [`HEADER_BYTES`].
pub(crate) fn write(bytes: &mut [u8], header: &Header) {
    let Header { run, flow, sequence, slot, intended_ns, sent_ns, subscription } = *header;
    let words = [
        u64::from(run) | u64::from(flow) << 32,
        u64::from(sequence),
        intended_ns & TIME_BITS | u64::from(slot) << 48,
        sent_ns & TIME_BITS | u64::from(subscription) << 48,
    ];
    for (bytes, word) in bytes.chunks_exact_mut(8).zip(words) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    let mut pattern = (u64::from(flow) << 32 | u64::from(sequence)).wrapping_mul(PRIME);
    let mut words = bytes[HEADER_BYTES..].chunks_exact_mut(8);
    for bytes in &mut words {
        bytes.copy_from_slice(&pattern.to_le_bytes());
        pattern = pattern.wrapping_add(PRIME);
    }
    let rest = words.into_remainder();
    rest.copy_from_slice(&pattern.to_le_bytes()[..rest.len()]);
    // Its own place holds nought so far.
    let sum = checksum(bytes);
    bytes[CHECKSUM].copy_from_slice(&sum.to_le_bytes());
}

/// Reads the header, `None` if a single bit is not as it was written.
pub(crate) fn read(bytes: &mut [u8]) -> Option<Header> {
    if bytes.len() < HEADER_BYTES {
        return None;
    }
    let word = |at: usize| bytes[at..at + 8].try_into().map_or(0, u64::from_le_bytes);
    let (first, second, third, fourth) = (word(0), word(8), word(16), word(24));
    bytes[CHECKSUM].fill(0);
    (checksum(bytes) == (second >> 32) as u32).then_some(Header {
        run: first as u32,
        flow: (first >> 32) as u32,
        sequence: second as u32,
        slot: (third >> 48) as u16,
        intended_ns: third & TIME_BITS,
        sent_ns: fourth & TIME_BITS,
        subscription: fourth >> 48 == 1,
    })
}

/// Multiply and xor over four lanes, so that the multiplications of a block overlap.
fn checksum(bytes: &[u8]) -> u32 {
    let mut lanes = [MAGIC, !MAGIC, PRIME, bytes.len() as u64];
    let mut blocks = bytes.chunks_exact(32);
    for block in &mut blocks {
        mix(&mut lanes, block);
    }
    let rest = blocks.remainder();
    if !rest.is_empty() {
        let mut block = [0; 32];
        block[..rest.len()].copy_from_slice(rest);
        mix(&mut lanes, &block);
    }
    let all = lanes.into_iter().fold(0, |sum: u64, lane| (sum ^ lane).wrapping_mul(PRIME).rotate_left(29));
    (all ^ all >> 32) as u32
}

#[inline]
fn mix(lanes: &mut [u64; 4], block: &[u8]) {
    for (lane, bytes) in lanes.iter_mut().zip(block.chunks_exact(8)) {
        let word = bytes.try_into().map_or(0, u64::from_le_bytes);
        *lane = (*lane ^ word).wrapping_mul(PRIME).rotate_left(29);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: Header = Header {
        run: 0xdead_beef,
        flow: 7,
        sequence: u32::MAX,
        slot: 65_535,
        intended_ns: TIME_BITS,
        sent_ns: 12_345,
        subscription: false,
    };

    #[test]
    fn what_was_written_is_read() {
        for size in [32, 33, 39, 40, 64, 100, 1_472, 65_507] {
            let mut bytes = vec![0; size];
            for header in [HEADER, Header { subscription: true, ..HEADER }] {
                write(&mut bytes, &header);
                assert_eq!(is_subscription(&bytes), header.subscription);
                assert_eq!(read(&mut bytes), Some(header), "{size} bytes");
            }
        }
    }

    #[test]
    fn every_flipped_bit_shows() {
        let mut good = vec![0; 75];
        write(&mut good, &HEADER);
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(read(&mut bad), None, "bit {bit}");
        }
    }

    #[test]
    fn every_other_length_shows() {
        let mut good = vec![0; 75];
        write(&mut good, &HEADER);
        for len in 0..good.len() {
            assert_eq!(read(&mut good[..len].to_vec()), None, "cut to {len}");
        }
        good.push(0);
        assert_eq!(read(&mut good), None);
    }

    #[test]
    fn flows_and_sequences_have_patterns_of_their_own() {
        let filled = |flow, sequence| {
            let mut bytes = vec![0; 64];
            write(&mut bytes, &Header { flow, sequence, ..HEADER });
            bytes.split_off(HEADER_BYTES)
        };
        assert_ne!(filled(1, 2), filled(2, 1));
        assert_ne!(filled(1, 2), filled(1, 3));
        assert_eq!(filled(1, 2), filled(1, 2));
    }
}
