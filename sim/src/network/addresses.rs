//! Addresses that nodes get and lose: which sockets are reached by them.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use crate::bindings::VACANT;
use crate::error::SimError;
use crate::network::Network;
use crate::socket::{News, Owner};

impl Network {
    /// A node has one more address.
    pub(crate) fn add_address(&mut self, shards: Range<u32>, ip: IpAddr) -> Result<(), SimError> {
        let groups = self.groups_at(&shards, ip);
        for &(wildcard, port) in groups.keys() {
            if self.bindings.is_bound(wildcard, ip, port) {
                return Err(SimError::InUse(SocketAddr::new(ip, port)));
            }
        }
        for ((wildcard, port), sockets) in groups {
            for socket in sockets.iter().filter(|socket| **socket != VACANT) {
                let place = &mut self.sockets[*socket as usize].place;
                if place.wildcard {
                    place.addresses.push(ip);
                }
            }
            self.bindings.attach(wildcard, ip, port, sockets);
        }
        self.hosts.insert(ip);
        for (at, socket) in self.sockets.iter().enumerate() {
            if let Owner::Own(own) = &socket.owner
                && own.local.ip() == ip
                && shards.contains(&own.shard)
                && !own.turned_away
            {
                self.own.entry((own.local, own.remote)).or_insert(at as u32);
            }
        }
        Ok(())
    }

    /// The sockets of a node that an address is for, by where they are bound, as groups of a socket a shard.
    fn groups_at(&self, shards: &Range<u32>, ip: IpAddr) -> BTreeMap<(bool, u16), Vec<u32>> {
        let mut groups: BTreeMap<(bool, u16), Vec<u32>> = BTreeMap::new();
        for (at, socket) in self.sockets.iter().enumerate() {
            let &Owner::Shard { shard, id, .. } = &socket.owner else { continue };
            if !shards.contains(&shard) || !socket.place.takes(ip) {
                continue;
            }
            let group = groups.entry((socket.place.wildcard, socket.place.port)).or_default();
            // An endpoint is a group by itself.
            let (len, place) = match id.as_listener() {
                Some(_) => (shards.len(), (shard - shards.start) as usize),
                None => (1, 0),
            };
            group.resize(len, VACANT);
            group[place] = at as u32;
        }
        groups
    }

    /// A node has an address no longer.
    pub(crate) fn remove_address(&mut self, shards: Range<u32>, ip: IpAddr) {
        self.hosts.remove(&ip);
        for ((wildcard, port), sockets) in self.groups_at(&shards, ip) {
            self.bindings.detach(wildcard, ip, port);
            for socket in sockets.into_iter().filter(|socket| *socket != VACANT) {
                let socket = &mut self.sockets[socket as usize];
                if !wildcard {
                    continue;
                }
                socket.place.addresses.retain(|own| *own != ip);
                if let Owner::Shard { shard, id, .. } = socket.owner
                    && id.as_listener().is_some()
                {
                    self.bring_news(shard, News::AddressGone(id, ip));
                }
            }
        }
        let of_node = |at: u32| match &self.sockets[at as usize].owner {
            Owner::Own(own) => shards.contains(&own.shard),
            _ => false,
        };
        // Which ones go does not depend on the order in which they are looked at.
        self.own.retain(|(local, _), at| local.ip() != ip || !of_node(*at));
    }
}
