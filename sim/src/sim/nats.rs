//! Translators of addresses, from outside.

use std::net::{IpAddr, SocketAddr};

use crate::nat::{NatConfig, NatId};
use crate::sim::Sim;

/// Translators. Those of another simulation may panic.
impl Sim {
    /// Puts hosts behind a translator. They reach each other without it, and what they send elsewhere is sent
    /// from its address and a port of its own. Links, partitions and uplinks of others know that address; uplinks
    /// of the hosts inside and ICMP errors for them work as without it.
    ///
    /// ```
    /// # use std::time::Duration;
    /// use shardgram_sim::{NatConfig, Sim};
    /// let mut sim = Sim::new(1);
    /// let (outside, inside) = ("203.0.113.1".parse().unwrap(), "192.168.0.2".parse().unwrap());
    /// let router = sim.nat(NatConfig::new(outside, &[inside]));
    /// let client = sim.socket("192.168.0.2:5000".parse().unwrap());
    /// let server = sim.socket("198.51.100.1:7".parse().unwrap());
    /// let mut seen = Vec::new();
    /// for _ in 0..2 {
    ///     sim.send(client, "198.51.100.1:7".parse().unwrap(), b"hello");
    ///     sim.run_for(Duration::from_secs(1));
    ///     let received = sim.receive(server).expect("it arrived");
    ///     assert_eq!(received.from.ip(), outside);
    ///     sim.send(server, received.from, b"welcome");
    ///     sim.run_for(Duration::from_secs(1));
    ///     assert!(sim.receive(client).is_some());
    ///     seen.push(received.from);
    ///     sim.nat_rebind(router);
    /// }
    /// assert_ne!(seen[0], seen[1]);
    /// ```
    ///
    /// # Panics
    /// If an address inside is behind another one, or the address outside is another one's.
    pub fn nat(&mut self, config: NatConfig) -> NatId {
        self.network.borrow_mut().nats.add(config)
    }

    /// A translator forgets all it knew: who writes again from inside has another port.
    pub fn nat_rebind(&mut self, nat: NatId) {
        self.network.borrow_mut().nats.forget(nat);
    }

    /// A translator forgets all it knew and gets another address: as when a phone goes from one network to another.
    ///
    /// # Panics
    /// If it is another translator's.
    pub fn nat_move(&mut self, nat: NatId, external: IpAddr) {
        self.network.borrow_mut().nats.move_to(nat, external);
    }

    /// Under which address a host inside is known to somebody outside, as far as it is. What a STUN server tells.
    pub fn nat_external(&self, nat: NatId, inside: SocketAddr, remote: SocketAddr) -> Option<SocketAddr> {
        let network = self.network.borrow();
        network.nats.external_of(nat, inside, remote, network.now_ns())
    }
}
