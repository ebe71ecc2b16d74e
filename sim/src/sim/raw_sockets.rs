//! Raw sockets: what they send and receive.

use std::net::{IpAddr, SocketAddr};

use shardgram_core::Ecn;

use crate::raw_socket::{Received, SocketKey};
use crate::sim::Sim;
use crate::wire::check_length;

/// Raw sockets, for tests that write datagrams by hand.
impl Sim {
    /// A socket bound to this address; port 0 takes a free one. It keeps all that arrives until
    /// [`Sim::receive`] takes it.
    ///
    /// # Panics
    /// If the address is in use or unspecified.
    pub fn socket(&mut self, address: SocketAddr) -> SocketKey {
        assert!(!address.ip().is_unspecified(), "a raw socket needs an address of its own, not {address}");
        let bound = self.network.borrow_mut().bind_raw(address);
        bound.unwrap_or_else(|_| panic!("{address} is in use"))
    }

    /// The address of a raw socket.
    pub fn socket_addr(&self, key: SocketKey) -> SocketAddr {
        self.network.borrow().raw_address(key)
    }

    /// Sends a datagram from a raw socket.
    ///
    /// # Panics
    /// If it is longer than UDP can carry.
    pub fn send(&mut self, key: SocketKey, to: SocketAddr, bytes: &[u8]) {
        let from = self.socket_addr(key);
        self.send_from(from, to, bytes);
    }

    /// Sends a datagram from a raw socket with this mark, which it keeps on its way.
    ///
    /// # Panics
    /// If it is longer than UDP can carry.
    pub fn send_marked(&mut self, key: SocketKey, to: SocketAddr, bytes: &[u8], ecn: Ecn) {
        check_length(to, bytes.len());
        let from = self.socket_addr(key);
        self.launch((from, to), bytes, 0, ecn);
    }

    /// Sends a datagram with any source address one likes, port 0 included.
    ///
    /// # Panics
    /// If it is longer than UDP can carry.
    pub fn send_from(&mut self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        check_length(to, bytes.len());
        self.launch((from, to), bytes, 0, Ecn::NotEct);
    }

    /// Sends datagrams of `segment` bytes each, the last perhaps shorter, as one train. It stays whole
    /// where [`crate::LinkConfig::trains`] says so.
    ///
    /// # Panics
    /// If `segment` is 0 or the train is longer than one send can carry.
    pub fn send_train(&mut self, key: SocketKey, to: SocketAddr, bytes: &[u8], segment: usize) {
        self.send_train_marked(key, to, bytes, segment, Ecn::NotEct);
    }

    /// The same with this mark on each datagram.
    ///
    /// # Panics
    /// If `segment` is 0 or the train is longer than one send can carry.
    pub fn send_train_marked(
        &mut self,
        key: SocketKey,
        to: SocketAddr,
        bytes: &[u8],
        segment: usize,
        ecn: Ecn,
    ) {
        assert!(segment > 0, "datagrams of a train are not empty");
        check_length(to, bytes.len());
        let from = self.socket_addr(key);
        let whole = self.network.borrow().carries_trains(from, to);
        if whole && bytes.len() > segment {
            self.launch((from, to), bytes, segment as u32, ecn);
        } else {
            bytes.chunks(segment).for_each(|datagram| self.launch((from, to), datagram, 0, ecn));
        }
    }

    /// Whether trains come to a raw socket as they are, from now on. Default: no, each of their datagrams comes by itself.
    pub fn receive_trains(&mut self, key: SocketKey, yes: bool) {
        self.network.borrow_mut().receive_trains_raw(key, yes);
    }

    /// A socket as [`Sim::socket`] makes it, or `None` if the address is in use.
    pub fn try_socket(&mut self, address: SocketAddr) -> Option<SocketKey> {
        let bound = self.network.borrow_mut().bind_raw(address);
        bound.ok()
    }

    /// Closes a raw socket. Its address is free, what waits in it is discarded, and what comes for it later meets nobody:
    /// the host answers with an ICMP error. The key is good for nothing more.
    pub fn close(&mut self, key: SocketKey) {
        self.network.borrow_mut().close_raw(key);
    }

    /// Has a raw socket hear what is sent to a multicast group and its port; of 255.255.255.255, broadcasts. False if it
    /// hears that already. Nodes join by their configuration and by [`shardgram_core::Io::join`].
    ///
    /// ```
    /// let mut sim = shardgram_sim::Sim::new(1);
    /// let [one, two] = ["10.0.0.2:5353", "10.0.0.3:5353"].map(|at| sim.socket(at.parse().unwrap()));
    /// assert!(sim.join(two, "224.0.0.251".parse().unwrap()));
    /// sim.send(one, "224.0.0.251:5353".parse().unwrap(), b"anyone?");
    /// sim.run_until_quiet(std::time::Duration::from_secs(1));
    /// assert_eq!(sim.receive(two).map(|got| got.bytes), Some(b"anyone?".to_vec()));
    /// ```
    pub fn join(&mut self, key: SocketKey, group: IpAddr) -> bool {
        self.network.borrow_mut().join_raw(key, group)
    }

    /// Has it hear that no more. False if it does not.
    pub fn leave(&mut self, key: SocketKey, group: IpAddr) -> bool {
        self.network.borrow_mut().leave_raw(key, group)
    }

    /// The next datagram that waits in a raw socket. Of a train each datagram comes by itself, unless
    /// [`Sim::receive_trains`] said otherwise.
    pub fn receive(&mut self, key: SocketKey) -> Option<Received> {
        self.network.borrow_mut().receive_raw(key)
    }

    /// Sends something as if a raw socket did.
    pub(super) fn launch(&mut self, way: (SocketAddr, SocketAddr), bytes: &[u8], segment: u32, ecn: Ecn) {
        let mut network = self.network.borrow_mut();
        let flight = network.draft();
        network.write(flight, bytes);
        network.launch(flight, way, segment, ecn);
    }
}
