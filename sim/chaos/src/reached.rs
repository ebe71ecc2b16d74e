//! What of the interface a run has reached, so that nothing is left out unnoticed.

use std::collections::BTreeMap;

use shardgram_core::Snapshot;

/// How often each thing happened: what was called, and what came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reached {
    notes: BTreeMap<(&'static str, &'static str), u64>,
    counters: BTreeMap<String, u64>,
}

impl Reached {
    pub(crate) fn note(&mut self, call: &'static str, outcome: &'static str) {
        *self.notes.entry((call, outcome)).or_default() += 1;
    }

    /// Notes the counters of a node, refusals aside, which have names of the handler's.
    pub(crate) fn counters(&mut self, snapshot: &Snapshot) {
        for (name, count) in snapshot.named().into_iter().filter(|(name, _)| !name.starts_with("refused.")) {
            *self.counters.entry(name).or_default() += count;
        }
    }

    /// Adds what another run reached.
    pub fn add(&mut self, other: &Self) {
        for (name, count) in &other.notes {
            *self.notes.entry(*name).or_default() += count;
        }
        for (name, count) in &other.counters {
            *self.counters.entry(name.clone()).or_default() += count;
        }
    }

    /// How often something came of a call.
    pub fn count(&self, call: &str, outcome: &str) -> u64 {
        let named = self.notes.iter().find(|((c, o), _)| (*c, *o) == (call, outcome));
        named.map_or(0, |(_, count)| *count)
    }

    /// The sum of a counter of [`Snapshot`].
    pub fn counter(&self, name: &str) -> u64 {
        self.counters.get(name).copied().unwrap_or(0)
    }

    /// Everything that happened, and every counter, by name.
    pub fn all(&self) -> impl Iterator<Item = (String, u64)> + '_ {
        let notes = self.notes.iter().map(|((call, outcome), count)| (format!("{call}: {outcome}"), *count));
        notes.chain(self.counters.iter().map(|(name, count)| (format!("counter {name}"), *count)))
    }
}
