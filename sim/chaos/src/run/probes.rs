//! When all is quiet and every address is back, a stranger is heard wherever a node listens, once.

use std::net::SocketAddr;
use std::time::Duration;

use shardgram_core::{Ecn, Snapshot};
use shardgram_sim::LinkConfig;

use crate::dice::{Dice, Purpose};
use crate::payload;
use crate::run::Stage;

/// Addresses that nobody else has.
const STRANGERS: [&str; 2] = ["10.99.0.1:4000", "[fd00:99::1]:4000"];
/// How long a probe may take: a few turns of every shard.
pub(super) const TIME: Duration = Duration::from_millis(50);

impl Stage {
    /// Sends a datagram to each listener of each node at each of its addresses, on a network without faults.
    pub(super) fn probe(&mut self) -> Result<(), String> {
        self.sim.link(LinkConfig::new());
        self.world.borrow_mut().ledger.least_delay = Duration::ZERO;
        self.sim.mis_steer(0.0).expect("in range");
        self.sim.stray(0.0).expect("in range");
        self.all_addresses_come();
        self.pass(TIME)?;
        let mut dice = Dice::of(&[self.seed, Purpose::Probe as u64]);
        for index in self.places.clone() {
            if self.world.borrow().nodes[index].shards.iter().any(|shard| shard.ended) {
                continue;
            }
            let doors = self.doors_of(index);
            let before = self.sim.stats(&self.nodes[index]);
            for to in &doors {
                let stranger = STRANGERS.iter().filter_map(|from| from.parse::<SocketAddr>().ok());
                let Some(from) = stranger.into_iter().find(|from| from.is_ipv4() == to.is_ipv4()) else {
                    continue;
                };
                let number = dice.number();
                self.enter(number, (from, *to), payload::NUMBER, Ecn::NotEct);
                self.sim.send_from(from, *to, &payload::of(number, payload::NUMBER));
            }
            self.pass(TIME)?;
            let after = self.sim.stats(&self.nodes[index]);
            let grown = |count: fn(&Snapshot) -> u64| count(&after) - count(&before);
            let (received, forwarded) = (grown(|s| s.received), grown(|s| s.forwarded_out));
            if (received, forwarded) != (doors.len() as u64, 0) {
                return Err(format!(
                    "of {} datagrams to {doors:?} node {index} had {received}, {forwarded} of them on the wrong shard",
                    doors.len()
                ));
            }
            self.world.borrow_mut().reached.note("probe", "heard");
        }
        Ok(())
    }

    /// Where a node listens.
    fn doors_of(&self, index: usize) -> Vec<SocketAddr> {
        let host = &self.scenario.nodes[index].host;
        let mut doors = Vec::new();
        for listener in self.sim.local_addrs(&self.nodes[index]) {
            let of_it = |ip: &&std::net::IpAddr| match listener.ip().is_unspecified() {
                true => ip.is_ipv4() == listener.is_ipv4(),
                false => **ip == listener.ip(),
            };
            doors.extend(host.iter().filter(of_it).map(|ip| SocketAddr::new(*ip, listener.port())));
        }
        doors
    }
}
