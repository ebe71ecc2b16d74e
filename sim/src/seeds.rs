//! Seeds: many of them, one again, and the one of a run that failed.

use std::env;
use std::time::Duration;

/// Runs one seed again.
const SEED: &str = "SHARDGRAM_SEED";
/// Has all that happens kept, and the end of it printed when a test fails.
const TRACE: &str = "SHARDGRAM_TRACE";
/// How many lines are printed.
pub(crate) const LINES: usize = 200;

/// So many seeds to try, from 0; or the one that stands in the environment as `SHARDGRAM_SEED`, alone.
///
/// A test over them prints the seed with which it fails, as every simulation does that is dropped by a panic. With
/// `SHARDGRAM_TRACE` set to anything it also keeps and prints the last 200 events.
///
/// ```
/// use shardgram_sim::{Sim, seeds};
/// for seed in seeds(100) {
///     let sim = Sim::new(seed);
///     // ...
/// #   assert_eq!(sim.seed(), seed);
/// }
/// ```
///
/// ```text
/// SHARDGRAM_SEED=7 SHARDGRAM_TRACE=1 cargo test the_test
/// ```
///
/// # Panics
/// If `SHARDGRAM_SEED` is set to what is no number.
pub fn seeds(count: u64) -> impl Iterator<Item = u64> {
    match env::var(SEED) {
        Ok(text) => {
            let seed: u64 = text.parse().unwrap_or_else(|_| panic!("{SEED}={text} is not a number"));
            seed..seed.saturating_add(1)
        }
        Err(_) => 0..count,
    }
}

/// How many events are to be kept from the beginning, if any. It changes nothing of what happens.
pub(crate) fn lines_asked() -> Option<usize> {
    env::var_os(TRACE).map(|_| LINES)
}

/// What a test that fails is told: which simulation it was, and how it is run again.
pub(crate) fn how_to_run_again(seed: u64, elapsed: Duration) -> String {
    format!("simulation of seed {seed} at {elapsed:?}: {SEED}={seed} {TRACE}=1 runs it again and tells more")
}
