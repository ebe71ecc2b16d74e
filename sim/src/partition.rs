//! Partitions: sets of addresses that do not reach each other.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Names a partition of the network ([`crate::Sim::partition`]).
///
/// ```
/// # use std::net::IpAddr;
/// use shardgram_sim::{PartitionId, Sim};
/// fn split(sim: &mut Sim, left: &[IpAddr], right: &[IpAddr]) -> PartitionId {
///     sim.partition(left, right)
/// }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PartitionId(u64);

#[derive(Debug)]
struct Partition {
    from: BTreeSet<IpAddr>,
    to: BTreeSet<IpAddr>,
    /// Also the other way round.
    both: bool,
}

impl Partition {
    fn parts(&self, from: IpAddr, to: IpAddr) -> bool {
        let there = self.from.contains(&from) && self.to.contains(&to);
        there || (self.both && self.from.contains(&to) && self.to.contains(&from))
    }
}

#[derive(Debug, Default)]
pub(crate) struct Partitions {
    all: BTreeMap<u64, Partition>,
    next: u64,
}

impl Partitions {
    pub(crate) fn add(&mut self, from: &[IpAddr], to: &[IpAddr], both: bool) -> PartitionId {
        let set = |ips: &[IpAddr]| ips.iter().copied().collect();
        self.all.insert(self.next, Partition { from: set(from), to: set(to), both });
        self.next += 1;
        PartitionId(self.next - 1)
    }

    /// True if there was such a partition.
    pub(crate) fn heal(&mut self, id: PartitionId) -> bool {
        self.all.remove(&id.0).is_some()
    }

    pub(crate) fn heal_all(&mut self) {
        self.all.clear();
    }

    #[inline]
    pub(crate) fn any(&self) -> bool {
        !self.all.is_empty()
    }

    /// Whether something sent from one address to another is lost.
    pub(crate) fn parts(&self, from: IpAddr, to: IpAddr) -> bool {
        self.all.values().any(|partition| partition.parts(from, to))
    }
}
