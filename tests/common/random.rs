//! Random numbers of a seed that is printed, so that a test that failed can be run again as it was.

use std::hash::{BuildHasher, RandomState};

pub struct Random(u64);

impl Random {
    /// The seed is that of the environment variable `SHARDGRAM_SEED`, or any.
    pub fn seeded() -> Self {
        let any = |_| RandomState::new().hash_one(0);
        let seed = std::env::var("SHARDGRAM_SEED").map_or_else(any, |seed| seed.parse().expect("a number"));
        println!("SHARDGRAM_SEED={seed}");
        Self(seed)
    }

    /// A number below `end`: SplitMix64.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }
}
