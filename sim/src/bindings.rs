//! From an address to the sockets bound to it.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::net::{IpAddr, SocketAddr};

use siphasher::sip::SipHasher13;

use crate::errno::{IN_USE, NOT_LOCAL};

/// Ports handed out where port 0 was asked for: those Linux hands out (`ip_local_port_range`, ip(7)).
const EPHEMERAL: std::ops::RangeInclusive<u16> = 32_768..=60_999;
/// In a group: the place of a shard whose socket is closed.
pub(crate) const VACANT: u32 = u32::MAX;

/// Only ever asked for single keys, never walked, so its order cannot reach the simulation.
type Table = HashMap<(IpAddr, u16), Vec<u32>, BuildHasherDefault<SipHasher13>>;

/// Why an address could not be bound.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum BindFault {
    InUse,
    NotLocal,
}

impl BindFault {
    /// The number Linux gives for it (bind(2)).
    pub(crate) fn errno(self) -> i32 {
        match self {
            Self::InUse => IN_USE,
            Self::NotLocal => NOT_LOCAL,
        }
    }
}

/// Where a socket is bound: one address, or all addresses of a node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    pub(crate) wildcard: bool,
    ipv4: bool,
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) port: u16,
}

impl Place {
    pub(crate) fn exact(address: SocketAddr) -> Self {
        let (ipv4, addresses) = (address.is_ipv4(), vec![address.ip()]);
        Self { wildcard: false, ipv4, addresses, port: address.port() }
    }

    /// Whether an address of its node is one of its own.
    pub(crate) fn takes(&self, ip: IpAddr) -> bool {
        if self.wildcard { self.ipv4 == ip.is_ipv4() } else { self.addresses.contains(&ip) }
    }
}

#[derive(Debug)]
pub(crate) struct Bindings {
    specific: Table,
    wildcard: Table,
    next_port: u16,
}

impl Bindings {
    pub(crate) fn new() -> Self {
        Self { specific: Table::default(), wildcard: Table::default(), next_port: *EPHEMERAL.start() }
    }

    /// Where a node with these addresses may bind `bind`; port 0 picks a free one.
    pub(crate) fn place(&mut self, bind: SocketAddr, own: &[IpAddr]) -> Result<Place, BindFault> {
        let wildcard = bind.ip().is_unspecified();
        let covered =
            |ip: &&IpAddr| if wildcard { ip.is_ipv4() == bind.is_ipv4() } else { **ip == bind.ip() };
        let addresses: Vec<IpAddr> = own.iter().filter(covered).copied().collect();
        if addresses.is_empty() {
            return Err(BindFault::NotLocal);
        }
        let mut place = Place { wildcard, ipv4: bind.is_ipv4(), addresses, port: bind.port() };
        if place.port == 0 {
            place.port = self.free_port(&place.addresses).ok_or(BindFault::InUse)?;
        } else {
            let table = if wildcard { &self.wildcard } else { &self.specific };
            if place.addresses.iter().any(|ip| table.contains_key(&(*ip, place.port))) {
                return Err(BindFault::InUse);
            }
        }
        Ok(place)
    }

    /// A port that no socket has on any of these addresses.
    fn free_port(&mut self, addresses: &[IpAddr]) -> Option<u16> {
        for _ in EPHEMERAL {
            let port = self.next_port;
            self.next_port = if port == *EPHEMERAL.end() { *EPHEMERAL.start() } else { port + 1 };
            let taken = |ip: &IpAddr| {
                self.specific.contains_key(&(*ip, port)) || self.wildcard.contains_key(&(*ip, port))
            };
            if !addresses.iter().any(taken) {
                return Some(port);
            }
        }
        None
    }

    /// Binds a group of sockets, one a shard.
    pub(crate) fn bind(&mut self, place: &Place, sockets: &[u32]) {
        let table = if place.wildcard { &mut self.wildcard } else { &mut self.specific };
        for ip in &place.addresses {
            table.insert((*ip, place.port), sockets.to_vec());
        }
    }

    /// Whether something is bound to this address, or by a wildcard has it.
    pub(crate) fn is_bound(&self, wildcard: bool, ip: IpAddr, port: u16) -> bool {
        let table = if wildcard { &self.wildcard } else { &self.specific };
        table.contains_key(&(ip, port))
    }

    /// A group has one more address.
    pub(crate) fn attach(&mut self, wildcard: bool, ip: IpAddr, port: u16, sockets: Vec<u32>) {
        let table = if wildcard { &mut self.wildcard } else { &mut self.specific };
        table.insert((ip, port), sockets);
    }

    /// A group has lost an address.
    pub(crate) fn detach(&mut self, wildcard: bool, ip: IpAddr, port: u16) {
        let table = if wildcard { &mut self.wildcard } else { &mut self.specific };
        table.remove(&(ip, port));
    }

    /// Takes a socket out of its group; the port is free once the group is empty.
    pub(crate) fn unbind(&mut self, place: &Place, socket: u32) {
        let table = if place.wildcard { &mut self.wildcard } else { &mut self.specific };
        for ip in &place.addresses {
            let key = (*ip, place.port);
            let Some(group) = table.get_mut(&key) else { continue };
            // Another node may have the address by now.
            if !group.contains(&socket) {
                continue;
            }
            // The others keep their places, since a shard is found by its place.
            group.iter_mut().filter(|s| **s == socket).for_each(|s| *s = VACANT);
            if group.iter().all(|s| *s == VACANT) {
                table.remove(&key);
            }
        }
    }

    /// How many sockets share the address a datagram was sent to; 0 if nobody has it.
    #[inline]
    pub(crate) fn group(&self, to: SocketAddr) -> Option<Group<'_>> {
        let key = (to.ip(), to.port());
        let sockets = self.specific.get(&key).or_else(|| self.wildcard.get(&key))?;
        Some(Group(sockets))
    }
}

/// The sockets of one address, one a shard.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Group<'a>(&'a [u32]);

impl Group<'_> {
    /// How many shards there are.
    pub(crate) fn shards(self) -> u16 {
        self.0.len() as u16
    }

    /// The socket of a shard, unless it is closed.
    pub(crate) fn socket(self, shard: u16) -> Option<u32> {
        self.0.get(usize::from(shard)).copied().filter(|s| *s != VACANT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn the_specific_binding_comes_first() {
        let own = [address("10.0.0.1:0").ip(), address("10.0.0.2:0").ip(), address("[fd00::1]:0").ip()];
        let mut bindings = Bindings::new();
        let any = bindings.place(address("0.0.0.0:53"), &own).expect("free");
        bindings.bind(&any, &[7, 8]);
        let one = bindings.place(address("10.0.0.2:53"), &own).expect("free");
        bindings.bind(&one, &[9]);
        let found = |to: &str| bindings.group(address(to)).and_then(|g| g.socket(0));
        assert_eq!(found("10.0.0.1:53"), Some(7));
        assert_eq!(found("10.0.0.2:53"), Some(9));
        assert_eq!(found("[fd00::1]:53"), None, "0.0.0.0 is IPv4 only");
        assert_eq!(bindings.place(address("0.0.0.0:53"), &own), Err(BindFault::InUse));
        assert_eq!(bindings.place(address("10.0.0.3:53"), &own), Err(BindFault::NotLocal));
        bindings.unbind(&any, 7);
        assert_eq!(bindings.group(address("10.0.0.1:53")).and_then(|g| g.socket(0)), None);
        assert_eq!(bindings.group(address("10.0.0.1:53")).and_then(|g| g.socket(1)), Some(8));
        bindings.unbind(&any, 8);
        assert!(bindings.place(address("0.0.0.0:53"), &own).is_ok());
    }

    #[test]
    fn ports_run_out() {
        let own = [address("10.0.0.1:0").ip()];
        let mut bindings = Bindings::new();
        for socket in 0..EPHEMERAL.len() as u32 {
            let place = bindings.place(address("10.0.0.1:0"), &own).expect("free");
            bindings.bind(&place, &[socket]);
        }
        assert_eq!(bindings.place(address("10.0.0.1:0"), &own), Err(BindFault::InUse));
    }
}
