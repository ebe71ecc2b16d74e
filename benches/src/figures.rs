//! Numbers of several rounds in one line.

use std::fmt;

use serde::Serialize;

/// Least, quartiles, and most.
///
/// ```
/// use shardgram_benches::figures::Quartiles;
/// let rounds = Quartiles::of(&[3.0, 1.0, 2.0]);
/// assert_eq!(rounds.median(), 2.0);
/// assert_eq!(format!("{rounds:.1}"), "median 2.0 (min 1.0, quartiles 2.0 to 3.0, max 3.0)");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Quartiles([f64; 5]);

impl Quartiles {
    /// Of these numbers, of which there is one at least.
    #[must_use]
    pub fn of(values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |part: f64| sorted[((sorted.len() - 1) as f64 * part).round() as usize];
        Self([0.0, 0.25, 0.5, 0.75, 1.0].map(at))
    }

    /// The least.
    #[must_use]
    pub fn min(&self) -> f64 {
        self.0[0]
    }

    /// The first and the third quartile: half of the numbers lie between.
    #[must_use]
    pub fn spread(&self) -> (f64, f64) {
        (self.0[1], self.0[3])
    }

    /// The one in the middle.
    #[must_use]
    pub fn median(&self) -> f64 {
        self.0[2]
    }
}

impl fmt::Display for Quartiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = f.precision().unwrap_or(0);
        let [min, low, median, high, max] = self.0.map(|v| format!("{v:.width$}"));
        write!(f, "median {median} (min {min}, quartiles {low} to {high}, max {max})")
    }
}
