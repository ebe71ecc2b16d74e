//! What nobody outside can guess.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

/// A key nobody outside can know: the standard library seeds its hashers from the system's randomness.
pub(crate) fn random_key() -> (u64, u64) {
    let draw = || RandomState::new().build_hasher().finish();
    (draw(), draw())
}
