//! Sockets of peers' own, as the network has them: an exact match of both addresses comes before every listener.

use std::collections::VecDeque;
use std::net::SocketAddr;

use shardgram_core::Path;
use shardgram_core::datagram::SocketId;

use crate::bindings::Place;
use crate::network::Network;
use crate::socket::{Own, Owner};

impl Network {
    /// A socket for what comes along a path from now on. What waits for the shard of that path already is counted:
    /// it is handed over before anything of this socket. `None` if these addresses have one.
    pub(crate) fn connect(
        &mut self,
        shard: u32,
        id: SocketId,
        path: &Path,
        bytes: (u64, u64),
    ) -> Option<u32> {
        let (local, remote) = (path.local, path.remote);
        if self.own.contains_key(&(local, remote)) {
            return None;
        }
        let waiting = self.inboxes[shard as usize].waiting.iter();
        let held = waiting.filter(|at| {
            let flight = self.flights.get(**at);
            (flight.to, flight.from) == (local, remote)
        });
        let held = held.count() as u32;
        self.inboxes[shard as usize].held += u32::from(held > 0);
        let waiting = VecDeque::new();
        let (ready, turned_away) = (false, false);
        let owner = Own { shard, id, local, remote, waiting, held, ready, turned_away };
        let place = Place::exact(local);
        let at = self.add_socket(Owner::Own(owner), place, bytes);
        self.own.insert((local, remote), at);
        Some(at)
    }

    /// A socket of a peer's own that catches what was sent to this address by somebody else, if it comes to that.
    #[inline]
    pub(super) fn stray(&mut self, to: SocketAddr) -> Option<u32> {
        if self.own.is_empty() || !self.steering.happens(self.strays) {
            return None;
        }
        let is_there =
            |owner: &Owner| matches!(owner, Owner::Own(own) if own.local == to && !own.turned_away);
        let there = self.sockets.iter().enumerate().filter(|(_, socket)| is_there(&socket.owner));
        let there: Vec<usize> = there.map(|(at, _)| at).collect();
        let chosen = self.steering.below(there.len() as u64) as usize;
        there.get(chosen).map(|at| *at as u32)
    }

    /// Nothing more comes by this socket: the listener has the path again. What it holds is older than what comes by the
    /// listener from now on, and is handed over before that.
    pub(crate) fn turn_away(&mut self, at: u32) {
        let Owner::Own(own) = &mut self.sockets[at as usize].owner else { return };
        let way = (own.local, own.remote);
        own.turned_away = true;
        if self.own.get(&way) == Some(&at) {
            self.own.remove(&way);
        }
    }

    /// Whether a socket of a peer's own holds nothing.
    pub(crate) fn is_drained(&self, at: u32) -> bool {
        match &self.sockets[at as usize].owner {
            Owner::Own(own) => own.waiting.is_empty(),
            _ => true,
        }
    }

    /// Closes a socket of a peer's own. What it holds is discarded.
    pub(crate) fn close_own(&mut self, at: u32) {
        self.turn_away(at);
        let owner = std::mem::replace(&mut self.sockets[at as usize].owner, Owner::Closed);
        let Owner::Own(own) = owner else { return };
        for flight in own.waiting {
            self.counts.discarded += self.flights.get(flight).datagrams();
            self.flights.free(flight);
        }
        let inbox = &mut self.inboxes[own.shard as usize];
        inbox.held -= u32::from(own.held > 0);
        if own.ready {
            inbox.ready.retain(|ready| *ready != at);
            inbox.others -= 1;
        }
        self.free_sockets.push(at);
    }

    /// The next arrival of a shard that has several sockets with something in them: of one that was turned away, or where
    /// chance says.
    pub(super) fn next_of_several(&mut self, shard: u32) -> Option<u32> {
        let Self { inboxes, sockets, .. } = self;
        let inbox = &mut inboxes[shard as usize];
        let hurries = |at: &u32| matches!(&sockets[*at as usize].owner, Owner::Own(own) if own.turned_away);
        if let Some(place) = inbox.ready.iter().position(hurries) {
            inbox.ready.swap(0, place);
            return self.next_of_own(shard);
        }
        let own = match (inbox.waiting.is_empty(), inbox.ready.is_empty()) {
            (false, false) => self.order.below(2) == 0,
            (none, _) => none,
        };
        if !own {
            let flight = inbox.waiting.pop_front()?;
            if inbox.held > 0 {
                self.one_less_held(shard, flight);
            }
            return Some(flight);
        }
        self.next_of_own(shard)
    }

    /// The next arrival of the peer's own socket whose turn it is.
    fn next_of_own(&mut self, shard: u32) -> Option<u32> {
        let inbox = &mut self.inboxes[shard as usize];
        let at = inbox.ready.pop_front()?;
        inbox.others -= 1;
        let Owner::Own(own) = &mut self.sockets[at as usize].owner else { return None };
        let flight = own.waiting.pop_front();
        own.ready = !own.waiting.is_empty();
        if own.ready {
            inbox.make_ready(at);
        }
        flight
    }

    /// A listener gave something out: it may be the last a socket waits for.
    pub(super) fn one_less_held(&mut self, shard: u32, flight: u32) {
        let flight = self.flights.get(flight);
        let way: (SocketAddr, SocketAddr) = (flight.to, flight.from);
        // Of a socket whose address is gone nothing new comes, but what it holds is still to be handed over.
        let waits = |owner: &Owner| matches!(owner, Owner::Own(own) if (own.local, own.remote) == way && own.held > 0);
        let lost = || self.sockets.iter().position(|socket| waits(&socket.owner)).map(|at| at as u32);
        let Some(at) = self.own.get(&way).copied().or_else(lost) else { return };
        let Owner::Own(own) = &mut self.sockets[at as usize].owner else { return };
        if own.shard != shard || own.held == 0 {
            return;
        }
        own.held -= 1;
        if own.held == 0 {
            own.is_let_in(at, &mut self.inboxes[shard as usize]);
        }
    }

    /// Whether some socket of this shard waits for what a listener holds.
    pub(crate) fn is_held(&self, shard: u32) -> bool {
        self.inboxes[shard as usize].held > 0
    }
}
