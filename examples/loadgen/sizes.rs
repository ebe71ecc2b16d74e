//! How long datagrams are: all alike, evenly spread, or in given shares; the same for the same seed.

use std::fmt;

use super::payload::HEADER_BYTES;
use super::units::grouped;

/// Simple IMIX: 7 short, 4 middling and 1 long, which with IP and UDP is what an Ethernet frame holds.
const IMIX: [(usize, u64); 3] = [(64, 7), (576, 4), (1_452, 1)];
/// The longest payload that any address family can carry (RFC 8200).
const MOST: usize = 65_527;
/// The most sizes and the greatest share.
const MOST_SHARES: usize = 64;
const MOST_SHARE: u64 = 1_000_000;

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Sizes {
    /// All of so many bytes.
    Fixed(usize),
    /// Each length from the first to the last equally often.
    Even(usize, usize),
    /// Lengths and their shares.
    Shares(Vec<(usize, u64)>),
}

/// Reads `64`, `64-1200`, `imix`, or lengths with shares as in `64:7,576:4,1500:1`.
pub(crate) fn parse(text: &str) -> Result<Sizes, String> {
    let text = text.trim();
    let sizes = if text.eq_ignore_ascii_case("imix") {
        Sizes::Shares(IMIX.to_vec())
    } else if text.contains(':') {
        Sizes::Shares(shares(text)?)
    } else if let Some((low, high)) = text.split_once('-') {
        Sizes::Even(bytes(low)?, bytes(high)?)
    } else {
        Sizes::Fixed(bytes(text)?)
    };
    sizes.check()
}

fn bytes(text: &str) -> Result<usize, String> {
    let text = text.trim();
    text.parse().map_err(|_| format!("'{text}' is no number of bytes; write 64, 64-1200, imix or 64:7,576:4"))
}

fn shares(text: &str) -> Result<Vec<(usize, u64)>, String> {
    let pairs = text.split(',').map(|pair| {
        let (size, share) = pair.split_once(':').unwrap_or((pair, "1"));
        let share = share.trim().parse().ok().filter(|share| (1..=MOST_SHARE).contains(share));
        let share = share.ok_or_else(|| format!("'{pair}' has no share of 1 to {MOST_SHARE}; write 64:7"))?;
        Ok((bytes(size)?, share))
    });
    let pairs: Vec<_> = pairs.collect::<Result<_, String>>()?;
    match pairs.len() {
        1..=MOST_SHARES => Ok(pairs),
        many => Err(format!("{many} sizes are too many; take {MOST_SHARES} or fewer")),
    }
}

impl Sizes {
    fn check(self) -> Result<Self, String> {
        if let Self::Even(low, high) = &self
            && low > high
        {
            return Err(format!("{low} is more than {high}; write the smaller one first"));
        }
        let (min, max) = (self.min(), self.max());
        if min < HEADER_BYTES {
            return Err(format!(
                "{min} is too small for the header of {HEADER_BYTES} bytes; take {HEADER_BYTES} or more"
            ));
        }
        if max > MOST {
            return Err(format!("{max} is more than UDP can carry; take --size {MOST} or less"));
        }
        Ok(self)
    }

    pub(crate) fn min(&self) -> usize {
        match self {
            Self::Fixed(size) | Self::Even(size, _) => *size,
            Self::Shares(shares) => shares.iter().map(|(size, _)| *size).min().unwrap_or(0),
        }
    }

    pub(crate) fn max(&self) -> usize {
        match self {
            Self::Fixed(size) | Self::Even(_, size) => *size,
            Self::Shares(shares) => shares.iter().map(|(size, _)| *size).max().unwrap_or(0),
        }
    }

    /// Whether a seed makes a difference.
    pub(crate) fn vary(&self) -> bool {
        self.min() < self.max()
    }

    /// The length of one datagram: whichever shard sends it and whenever, the same for the same seed.
    #[inline]
    pub(crate) fn pick(&self, seed: u64, flow: u32, sequence: u32) -> usize {
        if let Self::Fixed(size) = self {
            return *size;
        }
        self.at(mix(seed ^ mix(u64::from(flow) << 32 | u64::from(sequence))))
    }

    fn at(&self, random: u64) -> usize {
        // The high half of the product: an even choice from 0 to below `count`.
        let below = |count: u64| ((u128::from(random) * u128::from(count)) >> 64) as u64;
        match self {
            Self::Fixed(size) => *size,
            Self::Even(low, high) => low + below((high - low) as u64 + 1) as usize,
            Self::Shares(shares) => {
                let mut left = below(shares.iter().map(|(_, share)| share).sum());
                for (size, share) in shares {
                    match left.checked_sub(*share) {
                        None => return *size,
                        Some(rest) => left = rest,
                    }
                }
                self.max()
            }
        }
    }
}

/// The finalizer of SplitMix64: every bit of the result depends on every bit of `x`.
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(size) => write!(f, "{} bytes each", grouped(*size as u64)),
            Self::Even(low, high) => write!(f, "{low} to {high} bytes each"),
            Self::Shares(shares) => {
                let pairs: Vec<_> = shares.iter().map(|(size, share)| format!("{size}:{share}")).collect();
                write!(f, "{} bytes", pairs.join(","))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        assert_eq!(parse("64"), Ok(Sizes::Fixed(64)));
        assert_eq!(parse("64-1200"), Ok(Sizes::Even(64, 1_200)));
        assert_eq!(parse("64:7, 576:4"), Ok(Sizes::Shares(vec![(64, 7), (576, 4)])));
        assert_eq!(parse("IMIX"), parse("64:7,576:4,1452:1"));
        for (text, part) in [
            ("", "64-1200"),
            ("many", "64-1200"),
            ("-64", "64-1200"),
            ("31", "take 32 or more"),
            ("31-64", "take 32 or more"),
            ("64:1,31:1", "take 32 or more"),
            ("65528", "take --size 65527"),
            ("1200-64", "the smaller one first"),
            ("64:0", "has no share"),
            ("64:x", "has no share"),
            ("99999999999999999999", "no number"),
        ] {
            let refusal = parse(text).expect_err(text);
            assert!(refusal.contains(part) && refusal.contains("; "), "{refusal}");
        }
    }

    #[test]
    fn shares_are_kept_and_ends_are_reached() {
        let imix = parse("imix").expect("sizes");
        let mut counts = [0_u32; 3];
        for sequence in 0..12_000 {
            let size = imix.pick(1, 2, sequence);
            counts[IMIX.iter().position(|(known, _)| *known == size).expect("one of the three")] += 1;
        }
        for (count, expected) in counts.into_iter().zip([7_000, 4_000, 1_000]) {
            assert!(u32::abs_diff(count, expected) < 300, "{counts:?}");
        }
        let even = parse("100-103").expect("sizes");
        let seen: std::collections::BTreeSet<_> = (0..200).map(|s| even.pick(7, 0, s)).collect();
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), [100, 101, 102, 103]);
        assert_eq!((even.at(0), even.at(u64::MAX)), (100, 103));
    }

    #[test]
    fn the_seed_decides() {
        let even = parse("64-1200").expect("sizes");
        let drawn = |seed| (0..50).map(|s| even.pick(seed, 3, s)).collect::<Vec<_>>();
        assert_eq!(drawn(1), drawn(1));
        assert_ne!(drawn(1), drawn(2));
    }
}
