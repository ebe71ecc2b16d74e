//! What goes wrong beside links: partitions, slow uplinks, ICMP errors, systems without descriptors.

use std::net::{IpAddr, SocketAddr};

use shardgram_core::PeerError;

use crate::error::RangeError;
use crate::notice::Notice;
use crate::partition::PartitionId;
use crate::raw_socket::SocketKey;
use crate::seed::Probability;
use crate::sim::Sim;

/// Faults beside those of links.
impl Sim {
    /// From now on nothing that is sent from one of these addresses to one of those arrives, nor the other way
    /// round. Nobody is told: it is lost without a word, as where a route leads nowhere. What is on its way arrives.
    ///
    /// ```
    /// # use shardgram_sim::Sim;
    /// # use std::time::Duration;
    /// let mut sim = Sim::new(1);
    /// let here = sim.socket("10.0.0.1:5000".parse().unwrap());
    /// let there = sim.socket("10.0.0.2:5000".parse().unwrap());
    /// let (from, to) = (sim.socket_addr(here), sim.socket_addr(there));
    /// let split = sim.partition(&[from.ip()], &[to.ip()]);
    /// sim.send(here, to, b"lost");
    /// sim.run_for(Duration::from_secs(1));
    /// assert!(sim.heal(split));
    /// sim.send(here, to, b"arrives");
    /// sim.run_for(Duration::from_secs(1));
    /// assert_eq!(sim.receive(there).map(|r| r.bytes), Some(b"arrives".to_vec()));
    /// ```
    pub fn partition(&mut self, these: &[IpAddr], those: &[IpAddr]) -> PartitionId {
        self.network.borrow_mut().partitions.add(these, those, true)
    }

    /// Like [`Sim::partition`], in this direction only.
    pub fn partition_towards(&mut self, from: &[IpAddr], to: &[IpAddr]) -> PartitionId {
        self.network.borrow_mut().partitions.add(from, to, false)
    }

    /// Ends a partition; false if it had ended.
    pub fn heal(&mut self, partition: PartitionId) -> bool {
        self.network.borrow_mut().partitions.heal(partition)
    }

    /// Ends all partitions.
    pub fn heal_all(&mut self) {
        self.network.borrow_mut().partitions.heal_all();
    }

    /// How many bytes the interface with this address sends in a second, IP and UDP headers included. `None`, the
    /// default: any number. Range one byte and more.
    ///
    /// What a socket sends fills its send buffer ([`shardgram_core::Config::send_socket_bytes`]) until the
    /// interface has sent it; a datagram counts 512 bytes beside its own there. What a full one refuses waits in
    /// the shard, and [`shardgram_core::SendError::Full`] and [`shardgram_core::Handler::on_writable`] follow from
    /// that. Raw sockets have send buffers without end.
    ///
    /// # Errors
    /// If it is 0.
    pub fn uplink(&mut self, address: IpAddr, bytes_per_second: Option<u64>) -> Result<(), RangeError> {
        if bytes_per_second == Some(0) {
            return Err(RangeError { field: "uplink", range: "one byte a second and more" });
        }
        self.network.borrow_mut().uplinks.set(address, bytes_per_second);
        Ok(())
    }

    /// The probability that a peer is refused a socket of its own, as where a process has no descriptor left
    /// (EMFILE). Default 0, range 0 to 1.
    ///
    /// # Errors
    /// If it is out of range.
    pub fn refuse_sockets(&mut self, probability: f64) -> Result<(), RangeError> {
        self.network.borrow_mut().refused_sockets = Probability::new("refuse_sockets", probability)?;
        Ok(())
    }

    /// The probability that a datagram for a listener comes by another peer's own socket at the same address, as it
    /// may between the bind and the connect of such a socket. Default 0, range 0 to 1.
    ///
    /// # Errors
    /// If it is out of range.
    pub fn stray(&mut self, probability: f64) -> Result<(), RangeError> {
        self.network.borrow_mut().strays = Probability::new("stray", probability)?;
        Ok(())
    }

    /// The next ICMP error a raw socket was told of, and of whom it speaks. It keeps 1,024.
    ///
    /// ```
    /// # use shardgram_core::PeerError;
    /// # use std::time::Duration;
    /// let mut sim = shardgram_sim::Sim::new(1);
    /// let here = sim.socket("10.0.0.1:5000".parse().unwrap());
    /// sim.socket("10.0.0.2:5000".parse().unwrap());
    /// let nobody = "10.0.0.2:6000".parse().unwrap();
    /// sim.send(here, nobody, b"anybody?");
    /// sim.run_for(Duration::from_secs(1));
    /// assert_eq!(sim.receive_error(here), Some((nobody, PeerError::Refused)));
    /// ```
    pub fn receive_error(&mut self, key: SocketKey) -> Option<(SocketAddr, PeerError)> {
        self.network.borrow_mut().notices.raw_error(key.0)
    }

    /// Sends the host of `to` an ICMP error about what it sent from there to `about`, whether it did or not: an
    /// attacker who guesses both may do so. It arrives at once.
    pub fn forge_error(&mut self, to: SocketAddr, about: SocketAddr, error: PeerError) {
        let mut network = self.network.borrow_mut();
        let now_ns = network.now_ns();
        network.tell(Notice { to, about, error }, now_ns);
    }
}
