//! Sockets of tests: they keep what arrives until it is asked for.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use crate::bindings::BindFault;
use crate::network::Network;
use crate::raw_socket::{Received, SocketKey};
use crate::socket::Owner;

impl Network {
    /// A socket of a test.
    pub(crate) fn bind_raw(&mut self, bind: SocketAddr) -> Result<SocketKey, BindFault> {
        let owner = std::iter::once(Owner::Raw { waiting: VecDeque::new(), trains: false });
        let (_, sockets) = self.bind(bind, &[bind.ip()], (u64::MAX, u64::MAX), owner)?;
        self.hosts.insert(bind.ip());
        Ok(SocketKey(sockets[0]))
    }

    /// The address of a test's socket.
    pub(crate) fn raw_address(&self, key: SocketKey) -> SocketAddr {
        let place = &self.sockets[key.0 as usize].place;
        SocketAddr::new(place.addresses[0], place.port)
    }

    /// Closes a test's socket.
    pub(crate) fn close_raw(&mut self, key: SocketKey) {
        let socket = &mut self.sockets[key.0 as usize];
        let Owner::Raw { waiting, .. } = &mut socket.owner else { return };
        for flight in std::mem::take(waiting) {
            self.counts.discarded += self.flights.get(flight).datagrams();
            self.flights.free(flight);
        }
        socket.owner = Owner::Closed;
        self.bindings.unbind(&socket.place, key.0);
        self.groups.forget(key.0);
        self.free_sockets.push(key.0);
    }

    /// Whether trains come to a test's socket as they are.
    pub(crate) fn receive_trains_raw(&mut self, key: SocketKey, yes: bool) {
        if let Owner::Raw { trains, .. } = &mut self.sockets[key.0 as usize].owner {
            *trains = yes;
        }
    }

    pub(crate) fn join_raw(&mut self, key: SocketKey, group: IpAddr) -> bool {
        self.groups.add(key.0, group, None).is_ok()
    }

    pub(crate) fn leave_raw(&mut self, key: SocketKey, group: IpAddr) -> bool {
        self.groups.leave(key.0, group, None).is_ok()
    }

    /// The next datagram that waits in a test's socket.
    pub(crate) fn receive_raw(&mut self, key: SocketKey) -> Option<Received> {
        let Owner::Raw { waiting, .. } = &mut self.sockets[key.0 as usize].owner else { return None };
        let at = waiting.pop_front()?;
        let flight = self.flights.get_mut(at);
        let bytes = std::mem::take(&mut flight.bytes);
        let segment = (flight.segment as usize > 0 && bytes.len() > flight.segment as usize)
            .then_some(flight.segment as usize);
        let received = Received { from: flight.from, to: flight.to, ecn: flight.ecn, segment, bytes };
        self.flights.free(at);
        Some(received)
    }
}
