//! The sockets of a shard, and which of them is meant.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::contract::driver::Driver;
use crate::sockets::endpoints::Endpoints;
use crate::sockets::groups::{Groups, What};
use crate::types::datagram::{Path, SocketId};
use crate::types::endpoint::Via;
use crate::types::error::{JoinError, OpenError};
use crate::types::multicast::Membership;

/// Which socket is meant.
#[derive(Clone, Copy, Debug)]
struct Found {
    socket: SocketId,
    /// The address that it is, or is to be, bound to.
    bound: SocketAddr,
    /// The address that was named: under a wildcard that is bound it may be one of this host's.
    named: SocketAddr,
}

/// Listeners and endpoints, with the groups joined on them.
#[derive(Debug)]
pub(crate) struct Sockets {
    pub(crate) listeners: Arc<[SocketAddr]>,
    pub(crate) endpoints: Endpoints,
    pub(crate) groups: Box<Groups>,
}

impl Sockets {
    /// The socket by which a peer is opened, and the local address of its path.
    pub(crate) fn to_open_by(&self, via: Via) -> Result<(SocketAddr, SocketId), OpenError> {
        let found = find(&self.listeners, &self.endpoints, via);
        match via {
            Via::Endpoint(id) => {
                let local = self.endpoints.local(id).zip(found);
                local.map(|(local, at)| (local, at.socket)).ok_or(OpenError::NoSuchEndpoint)
            }
            // Under a wildcard the local address has to be said: it is part of the path.
            Via::Listener(local) => found
                .filter(|at| !at.named.ip().is_unspecified())
                .map(|at| (local, at.socket))
                .ok_or(OpenError::NoSuchListener(local)),
        }
    }

    /// Whether something may be sent along a path that was kept: not by an endpoint that came after the path's own in its
    /// slot, nor by one that has its number on this shard while the path is another shard's. Their addresses differ.
    pub(crate) fn are_of(&self, path: &Path) -> bool {
        let same = |bound: SocketAddr| {
            bound.port() == path.local.port()
                && (bound.ip().is_unspecified() || bound.ip() == path.local.ip())
        };
        path.socket.as_listener().is_some() || self.endpoints.bound_to(path.socket).is_some_and(same)
    }

    /// The socket that joins groups: it is named as it is bound.
    fn to_join_on(&self, via: Via) -> Option<Found> {
        find(&self.listeners, &self.endpoints, via).filter(|at| at.named == at.bound)
    }

    /// Has a group joined or left with the next turn.
    pub(crate) fn ask_for_group(
        &mut self,
        what: What,
        via: Via,
        membership: Membership,
        shards: u16,
    ) -> Result<(), JoinError> {
        let Found { socket, bound, .. } = self.to_join_on(via).ok_or(JoinError::NoSuchSocket)?;
        let group = membership.group();
        if !bound.ip().is_unspecified() || bound.is_ipv4() != group.is_ipv4() {
            return Err(JoinError::NoListener { group });
        }
        self.groups.ask(what, via, socket, membership, shards)?;
        self.endpoints.ask_for_group();
        Ok(())
    }

    /// Makes the slot of an endpoint usable again, once the driver has let go of it.
    pub(crate) fn vacate(&mut self, endpoint: SocketId) {
        self.endpoints.vacate(endpoint);
        self.groups.forget(endpoint);
    }

    /// Joins or leaves what was asked for next; whether that was done. What failed is noted.
    #[cold]
    pub(crate) fn carry_out_group(&mut self, driver: &mut impl Driver) -> bool {
        let Self { groups, listeners, endpoints } = self;
        groups.carry_out(|via| Some(find(listeners, endpoints, via)?.socket), driver)
    }
}

fn find(listeners: &[SocketAddr], endpoints: &Endpoints, via: Via) -> Option<Found> {
    let (index, named) = match via {
        Via::Endpoint(id) => {
            let bound = endpoints.get(id)?.bind_address();
            return Some(Found { socket: id.socket(), bound, named: bound });
        }
        Via::Listener(named) => {
            let covers = |l: &SocketAddr| {
                l.ip().is_unspecified() && l.port() == named.port() && l.is_ipv4() == named.is_ipv4()
            };
            let exact = listeners.iter().position(|l| *l == named);
            (exact.or_else(|| listeners.iter().position(covers))?, named)
        }
    };
    Some(Found { socket: SocketId::listener(index as u16), bound: listeners[index], named })
}
