//! What was sent to groups: who has to hear it, and who did how often.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Instant;

use crate::ledger::{Entry, Ledger};

/// Who hears something that was sent to a group.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Hearer {
    Client(SocketAddr),
    /// A shard of a node, by a listener or by an endpoint.
    Shard {
        node: usize,
        shard: u16,
        by_endpoint: bool,
    },
}

/// Who has to hear it, as long as it does not leave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Due {
    /// A client, by its number among the hearers.
    Client(usize),
    /// A member of a node, by its number there.
    Member(usize, usize),
}

#[derive(Clone, Debug)]
pub(crate) struct Many {
    /// Before that it has arrived nowhere.
    pub(crate) earliest: Instant,
    pub(crate) due: Vec<Due>,
    /// How often it was handled by whom, of which sender's, and which shards saw it at all.
    handled: BTreeMap<(Hearer, SocketAddr), usize>,
    seen: BTreeSet<Hearer>,
}

impl Many {
    pub(crate) fn new(earliest: Instant, due: Vec<Due>) -> Self {
        Self { earliest, due, handled: BTreeMap::new(), seen: BTreeSet::new() }
    }
}

/// What is known of a datagram that somebody heard in a group.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heard {
    pub(crate) earliest: Instant,
    /// How many datagrams it may be, since a payload may be sent several times.
    pub(crate) sent: usize,
    /// How often this hearer has handled one of them.
    pub(crate) handled: usize,
}

impl Ledger {
    /// Somebody hears something that was sent to a group. `counts` is false for a look at what will come again.
    pub(crate) fn heard(
        &mut self,
        (number, from, to): (u64, SocketAddr, SocketAddr),
        hearer: Hearer,
        counts: bool,
    ) -> Option<Heard> {
        let Self { entries, hosts, .. } = self;
        // The same payload may have been sent there by others, whom not the same members hear.
        let same = |e: &&mut Entry| e.copy.to == to && e.copy.is_from(from, hosts);
        let same = entries.get_mut(&number)?.iter_mut().filter(same);
        let mut all: Vec<&mut Many> = same.filter_map(|e| e.many.as_mut()).collect();
        all.iter_mut().for_each(|many| many.seen.extend([hearer]));
        let first = all.first_mut()?;
        let handled = first.handled.entry((hearer, from)).or_default();
        *handled += usize::from(counts);
        let handled = *handled;
        let earliest = all.iter().map(|many| many.earliest).min()?;
        Some(Heard { earliest, sent: all.len(), handled })
    }

    /// Something that was not heard by somebody who had to hear it, as `has_to` and who has seen it say.
    pub(crate) fn unheard(
        &self,
        has_to: impl Fn(Due, SocketAddr, &BTreeSet<Hearer>) -> bool,
    ) -> Option<String> {
        for (number, entry) in
            self.entries.iter().flat_map(|(number, all)| all.iter().map(move |e| (number, e)))
        {
            let Some(many) = &entry.many else { continue };
            if let Some(due) = many.due.iter().find(|due| has_to(**due, entry.copy.to, &many.seen)) {
                return Some(format!("datagram {number:016x} was not heard by {due:?}: {entry:?}"));
            }
        }
        None
    }
}
