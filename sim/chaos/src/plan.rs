//! What to run, and how it is said on a command line.

use std::ops::Range;

use crate::part::Part;

/// What to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Everything follows from it.
    pub seed: u64,
    /// Which of the actions are done; all of them if this is `None`.
    pub keep: Option<Vec<Range<u32>>>,
    /// What is left out.
    pub without: Vec<Part>,
}

impl Plan {
    /// All that follows from a seed.
    pub fn of(seed: u64) -> Self {
        Self { seed, keep: None, without: Vec::new() }
    }

    pub(crate) fn keeps(&self, index: u32) -> bool {
        self.keep.as_ref().is_none_or(|keep| keep.iter().any(|range| range.contains(&index)))
    }

    /// The command that runs it again.
    pub fn command(&self) -> String {
        let mut command = format!("cargo run --release -p shardgram-chaos -- --seed {}", self.seed);
        if let Some(keep) = &self.keep {
            let ranges: Vec<String> = keep.iter().map(|r| format!("{}-{}", r.start, r.end)).collect();
            command +=
                &format!(" --keep {}", if ranges.is_empty() { "0-0".to_owned() } else { ranges.join(",") });
        }
        if !self.without.is_empty() {
            let parts: Vec<String> = self.without.iter().map(|part| format!("{part:?}")).collect();
            command += &format!(" --without {}", parts.join(","));
        }
        command
    }
}
