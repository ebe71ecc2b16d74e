//! Floods, from their beginning to their end.

use shardgram_core::Ecn;

use crate::flood::{Flood, FloodId, Shot};
use crate::sim::{Sim, Task};
use crate::wire::check_length;

/// Floods. Those of another simulation may panic.
impl Sim {
    /// Begins a flood. It is part of what the seed decides, and does not keep the simulation from being
    /// quiet between two of its datagrams.
    ///
    /// ```
    /// use std::time::Duration;
    /// use shardgram_sim::{Flood, Sim};
    /// let mut sim = Sim::new(1);
    /// let victim = sim.socket("192.0.2.1:9000".parse().unwrap());
    /// let flood = sim.flood(Flood::new("192.0.2.1:9000".parse().unwrap(), 1_000).unwrap());
    /// sim.run_for(Duration::from_secs(1));
    /// assert_eq!(sim.flood_sent(flood), 1_001); // the first one at once
    /// sim.end_flood(flood);
    /// let sources = std::iter::from_fn(|| sim.receive(victim).map(|received| received.from));
    /// assert_eq!(sources.collect::<std::collections::BTreeSet<_>>().len(), 1_000); // one is on its way
    /// ```
    pub fn flood(&mut self, flood: Flood) -> FloodId {
        let began_ns = self.network.borrow().now_ns();
        let id = self.floods.begin(flood, began_ns);
        self.plan.add(began_ns, Task::Flood(id));
        id
    }

    /// How many datagrams a flood has sent.
    pub fn flood_sent(&self, flood: FloodId) -> u64 {
        self.floods.sent(flood)
    }

    /// Ends a flood.
    pub fn end_flood(&mut self, flood: FloodId) {
        self.floods.end(flood);
    }

    /// Sends the next datagram of a flood.
    pub(super) fn flood_goes_on(&mut self, id: FloodId) {
        let Some(Shot { from, to, bytes, next_ns }) = self.floods.next(id) else { return };
        if let Some(next_ns) = next_ns {
            self.plan.add(next_ns, Task::Flood(id));
        }
        check_length(to, bytes.len());
        self.launch((from, to), &bytes, 0, Ecn::NotEct);
    }
}
