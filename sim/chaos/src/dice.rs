//! Numbers that follow from a seed, and from what they are for.

use std::ops::RangeInclusive;

/// What a stream of numbers is for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Purpose {
    Scenario = 1,
    Node,
    Action,
    Callback,
    Probe,
    Groups,
}

/// A stream of numbers (SplitMix64: Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", 2014).
///
/// Each purpose has a stream of its own, named by a few words. So leaving out one action of a run changes little of
/// what the others do, and a failing run can be made shorter.
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn of(words: &[u64]) -> Self {
        Self(words.iter().fold(0x5eed, |state, word| mix(state ^ word.wrapping_mul(0x9E37_79B9_7F4A_7C15))))
    }

    pub(crate) fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    /// A number below `bound`; 0 if that is 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.number()) * u128::from(bound)) >> 64) as u64
    }

    pub(crate) fn range(&mut self, range: RangeInclusive<u64>) -> u64 {
        range.start() + self.below(range.end() - range.start() + 1)
    }

    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn percent(&mut self, share: u8) -> bool {
        self.below(100) < u64::from(share)
    }

    pub(crate) fn pick<'a, T>(&mut self, all: &'a [T]) -> Option<&'a T> {
        all.get(self.below(all.len() as u64) as usize)
    }

    /// An index, each as often as its weight says. The weights may not all be 0.
    pub(crate) fn weighted(&mut self, weights: &[u8]) -> usize {
        let mut left = self.below(weights.iter().map(|w| u64::from(*w)).sum());
        for (index, weight) in weights.iter().enumerate() {
            match left.checked_sub(u64::from(*weight)) {
                Some(rest) => left = rest,
                None => return index,
            }
        }
        0
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_follow_from_what_they_are_for() {
        let of = |words: &[u64]| Dice::of(words).number();
        assert_eq!(of(&[1, 2]), of(&[1, 2]));
        assert_ne!(of(&[1, 2]), of(&[2, 1]));
        assert_ne!(of(&[1]), of(&[1, 0]));
    }

    #[test]
    fn numbers_stay_in_their_range() {
        let mut dice = Dice::of(&[1]);
        assert!((0..1_000).all(|_| (3..=5).contains(&dice.range(3..=5)) && dice.weighted(&[0, 1, 0]) == 1));
        assert_eq!(dice.below(0), 0);
    }
}
