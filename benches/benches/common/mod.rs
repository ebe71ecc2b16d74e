//! What the benches share.

/// Pseudo-random numbers, the same in every run.
#[derive(Default)]
pub(crate) struct Numbers(u64);

impl Numbers {
    /// One below `limit`.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 20) % limit
    }
}
