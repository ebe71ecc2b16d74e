//! How something arrives: whose socket it is for, and whether that takes it.

use std::net::{IpAddr, SocketAddr};

use shardgram_core::PeerError;
use shardgram_core::flow::flow_shard;

use crate::event_log::{Kind, NO_SHARD, digest};
use crate::groups::{is_broadcast, is_for_many};
use crate::network::Network;
use crate::notice::Notice;
use crate::socket::{Owner, Socket};

impl Network {
    pub(super) fn arrive(&mut self, flight: u32, at_ns: u64) {
        let arrived = self.flights.get(flight);
        let (count, sent_to) = (arrived.datagrams(), arrived.to);
        self.counts.in_flight -= count;
        if self.nats.any() && !self.translate_in(flight, at_ns) {
            self.counts.filtered += count;
            self.note(Kind::Filtered, flight, at_ns, NO_SHARD);
            self.flights.free(flight);
            return;
        }
        let arrived = self.flights.get(flight);
        let (from, to) = (arrived.from, arrived.to);
        if is_for_many(to.ip()) {
            return self.arrive_at_many(flight, at_ns);
        }
        match self.steer(from, to) {
            Some(socket) => self.hand_over(flight, socket, at_ns),
            None => self.unclaimed(flight, at_ns, sent_to),
        }
    }

    /// Nobody listens where it arrived. The host says so, if there is one; `sent_to` is the address its sender knows.
    fn unclaimed(&mut self, flight: u32, at_ns: u64, sent_to: SocketAddr) {
        let arrived = self.flights.get(flight);
        let (from, to, count) = (arrived.from, arrived.to, arrived.datagrams());
        self.counts.unclaimed += count;
        self.note(Kind::Unclaimed, flight, at_ns, NO_SHARD);
        self.flights.free(flight);
        if self.hosts.contains(&to.ip()) && from.port() != 0 {
            let error = PeerError::Refused;
            self.host_tells(Notice { to: from, about: sent_to, error }, at_ns);
        }
    }

    /// A copy for each socket that hears it.
    fn arrive_at_many(&mut self, flight: u32, at_ns: u64) {
        let (from, to, count) = {
            let arrived = self.flights.get(flight);
            (arrived.from, arrived.to, arrived.datagrams())
        };
        let mut hearers: Vec<u32> = self.groups.hearers(to.ip(), from.ip()).collect();
        hearers.retain(|at| {
            let place = &self.sockets[*at as usize].place;
            place.port == to.port() && !place.addresses.is_empty()
        });
        if is_broadcast(to.ip()) {
            let hears = |socket: &Socket| {
                let own = matches!(socket.owner, Owner::Shard { .. });
                let place = &socket.place;
                own && place.wildcard
                    && place.port == to.port()
                    && place.addresses.iter().any(IpAddr::is_ipv4)
            };
            let listening = (0..).zip(&self.sockets).filter(|(_, socket)| hears(socket));
            hearers.extend(listening.map(|(at, _): (u32, _)| at));
        }
        let Some(last) = hearers.pop() else { return self.unclaimed(flight, at_ns, to) };
        for socket in hearers {
            self.counts.duplicated += count;
            self.note(Kind::Duplicated, flight, at_ns, NO_SHARD);
            let copy = self.flights.copy(flight);
            self.hand_over(copy, socket, at_ns);
        }
        self.hand_over(flight, last, at_ns);
    }

    /// The socket for a datagram: among the shards that share an address the owner's, or, as it happens
    /// with real steering too, another one's.
    fn steer(&mut self, from: SocketAddr, to: SocketAddr) -> Option<u32> {
        if !self.own.is_empty()
            && let Some(&own) = self.own.get(&(to, from))
        {
            return Some(own);
        }
        let group = self.bindings.group(to)?;
        let shards = group.shards();
        let mut shard = flow_shard(from, shards);
        if shards > 1 && self.steering.happens(self.mis_steer) {
            let further = 1 + self.steering.below(u64::from(shards) - 1);
            shard = ((u64::from(shard) + further) % u64::from(shards)) as u16;
        }
        let socket = group.socket(shard)?;
        Some(self.stray(to).unwrap_or(socket))
    }

    fn hand_over(&mut self, flight: u32, at: u32, at_ns: u64) {
        let Self { flights, sockets, inboxes, .. } = self;
        let arrived = flights.get_mut(flight);
        let (len, count) = (arrived.bytes.len(), arrived.datagrams());
        (arrived.socket, arrived.arrived_ns) = (at, at_ns);
        let socket = &mut sockets[at as usize];
        arrived.answers_from = match is_for_many(arrived.to.ip()) {
            true => socket.place.addresses.first().copied(),
            false => Some(arrived.to.ip()),
        };
        match &mut socket.owner {
            Owner::Raw { trains: false, .. } if count > 1 => self.cut(flight, at, at_ns),
            Owner::Raw { waiting, .. } => {
                waiting.push_back(flight);
                self.counts.delivered += count;
                self.note(Kind::Delivered, flight, at_ns, NO_SHARD);
            }
            Owner::Shard { .. } | Owner::Own(_) => {
                let shard = match socket.owner {
                    Owner::Own(ref own) => own.shard,
                    Owner::Shard { shard, .. } => shard,
                    Owner::Raw { .. } | Owner::Closed => return,
                };
                let inbox = &mut inboxes[shard as usize];
                if count > 1 && !inbox.trains {
                    self.cut(flight, at, at_ns);
                } else if socket.charge(len) {
                    match &mut socket.owner {
                        Owner::Own(own) => own.put(at, flight, inbox),
                        _ => inbox.waiting.push_back(flight),
                    }
                    self.counts.delivered += count;
                    self.note(Kind::Delivered, flight, at_ns, shard);
                    self.schedule.run(shard);
                } else {
                    inbox.overflowed += count;
                    self.counts.overflowed += count;
                    self.note(Kind::Overflowed, flight, at_ns, shard);
                    self.flights.free(flight);
                }
            }
            Owner::Closed => debug_assert!(false, "a closed socket is not bound"),
        }
    }

    /// Hands over the datagrams of a train one by one.
    fn cut(&mut self, flight: u32, socket: u32, at_ns: u64) {
        let train = self.flights.get(flight);
        let (len, segment) = (train.bytes.len(), train.segment as usize);
        for start in (0..len).step_by(segment) {
            let part = self.flights.copy_part(flight, start..len.min(start + segment));
            let datagram = self.flights.get_mut(part);
            datagram.segment = 0;
            datagram.digest = digest(&datagram.bytes);
            self.hand_over(part, socket, at_ns);
        }
        self.flights.free(flight);
    }
}
