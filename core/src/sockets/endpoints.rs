//! Client sockets: asked for by handlers, opened by the driver in the next turn.

use std::net::SocketAddr;

use crate::types::datagram::SocketId;
use crate::types::endpoint::{Endpoint, EndpointId};
use crate::types::error::Full;
use crate::types::ids::PeerId;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Vacant,
    Asked,
    Open,
    Failed,
    /// Asked to be closed; what still arrives before it is belongs to it.
    Closing,
}

#[derive(Debug)]
struct Slot {
    generation: u32,
    state: State,
    endpoint: Endpoint,
    /// Where its socket is, while there is one: until it is closed, though that was asked for.
    bound: Option<SocketAddr>,
    /// Paths of peers that stand on it, and the peer of the newest.
    paths: u32,
    newest: Option<PeerId>,
}

/// What the driver still has to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Request {
    Open(SocketId),
    Close(SocketId),
    /// The next group that was asked for ([`crate::groups`]).
    Group,
}

#[derive(Debug)]
pub(crate) struct Endpoints {
    slots: Vec<Slot>,
    free: Vec<u32>,
    limit: usize,
    requests: Vec<Request>,
}

impl Endpoints {
    pub(crate) fn new(limit: usize) -> Self {
        Self { slots: Vec::new(), free: Vec::new(), limit, requests: Vec::new() }
    }

    pub(crate) fn ask(&mut self, endpoint: Endpoint) -> Result<EndpointId, Full<Endpoint>> {
        let fresh =
            Slot { generation: 0, state: State::Asked, endpoint, bound: None, paths: 0, newest: None };
        let slot = match self.free.pop() {
            Some(slot) => {
                let generation = self.slots[slot as usize].generation;
                self.slots[slot as usize] = Slot { generation, ..fresh };
                slot
            }
            None if self.slots.len() < self.limit => {
                self.slots.push(fresh);
                self.slots.len() as u32 - 1
            }
            None => return Err(Full(endpoint)),
        };
        let id = EndpointId { slot, generation: self.slots[slot as usize].generation };
        self.requests.push(Request::Open(id.socket()));
        Ok(id)
    }

    pub(crate) fn has_room(&self) -> bool {
        !self.free.is_empty() || self.slots.len() < self.limit
    }

    /// Asks for closing. False if it is not open.
    pub(crate) fn close(&mut self, id: EndpointId) -> bool {
        let Some(slot) = self.live(id) else { return false };
        self.slots[slot].state = State::Closing;
        self.requests.push(Request::Close(id.socket()));
        true
    }

    /// Forgets all requests and names every endpoint, for closing at once. With `keep_used`, only those that no peer has a
    /// path on.
    pub(crate) fn take_all(&mut self, keep_used: bool) -> Vec<SocketId> {
        let kept = |slot: &Slot| keep_used && slot.paths > 0;
        self.requests.retain(|request| match request {
            Request::Open(socket) | Request::Close(socket) => {
                socket.as_endpoint().is_some_and(|slot| kept(&self.slots[slot as usize]))
            }
            Request::Group => false,
        });
        let all = (0..).zip(&self.slots).filter(|(_, slot)| slot.state != State::Vacant && !kept(slot));
        all.map(|(slot, s)| SocketId::endpoint(slot, s.generation)).collect()
    }

    /// Makes a slot usable again, once the driver has let go of it.
    pub(crate) fn vacate(&mut self, socket: SocketId) {
        let Some(slot) = socket.as_endpoint() else { return };
        let s = &mut self.slots[slot as usize];
        (s.state, s.bound) = (State::Vacant, None);
        (s.paths, s.newest) = (0, None);
        if let Some(generation) = s.generation.checked_add(1) {
            s.generation = generation;
            self.free.push(slot);
        }
    }

    /// What to do now: everything asked for so far, in order.
    pub(crate) fn take_requests(&mut self) -> Vec<Request> {
        std::mem::take(&mut self.requests)
    }

    /// A group was asked for. It is joined in order with what becomes of endpoints.
    pub(crate) fn ask_for_group(&mut self) {
        self.requests.push(Request::Group);
    }

    pub(crate) fn has_requests(&self) -> bool {
        !self.requests.is_empty()
    }

    pub(crate) fn config(&self, socket: SocketId) -> Option<Endpoint> {
        Some(self.slot(socket)?.endpoint)
    }

    pub(crate) fn opened(&mut self, socket: SocketId, outcome: Result<SocketAddr, i32>) {
        let Some(s) = self.slot_mut(socket) else { return };
        s.bound = outcome.ok();
        if s.state == State::Asked {
            s.state = if s.bound.is_some() { State::Open } else { State::Failed };
        }
    }

    pub(crate) fn get(&self, id: EndpointId) -> Option<&Endpoint> {
        Some(&self.slots[self.live(id)?].endpoint)
    }

    /// Whether what comes from strangers to an endpoint is welcome.
    pub(crate) fn takes_any_source(&self, socket: SocketId) -> bool {
        self.slot(socket).is_some_and(|s| s.endpoint.takes_any_source())
    }

    /// The address of an endpoint's socket, as long as there is one: it may be about to be closed.
    #[inline]
    pub(crate) fn bound_to(&self, socket: SocketId) -> Option<SocketAddr> {
        self.slot(socket)?.bound
    }

    pub(crate) fn address(&self, id: EndpointId) -> Option<SocketAddr> {
        self.slots[self.live(id)?].bound
    }

    /// The local address of paths on an endpoint: what it is bound to, or is to be.
    pub(crate) fn local(&self, id: EndpointId) -> Option<SocketAddr> {
        let slot = &self.slots[self.live(id)?];
        Some(slot.bound.unwrap_or(slot.endpoint.bind_address()))
    }

    /// A peer has one more path on this socket; nothing if that is no endpoint's.
    pub(crate) fn path_added(&mut self, socket: SocketId, peer: PeerId) {
        if let Some(s) = self.slot_mut(socket) {
            s.paths += 1;
            s.newest = Some(peer);
        }
    }

    /// A path on this socket is gone; nothing if that is no endpoint's.
    pub(crate) fn path_left(&mut self, socket: SocketId) {
        if let Some(s) = self.slot_mut(socket) {
            s.paths = s.paths.saturating_sub(1);
        }
    }

    /// The peers with a path on it. Mostly there is one path, and its peer is known; else all peers are looked at.
    pub(crate) fn peers_on<I: Iterator<Item = PeerId>>(
        &self,
        socket: SocketId,
        has_path: impl Fn(PeerId) -> bool,
        all: impl FnOnce() -> I,
    ) -> Vec<PeerId> {
        match self.slot(socket).map_or((0, None), |s| (s.paths, s.newest)) {
            (0, _) => Vec::new(),
            (1, Some(peer)) if has_path(peer) => vec![peer],
            _ => all().filter(|peer| has_path(*peer)).collect(),
        }
    }

    /// The endpoint of this socket, and none that came after it in its slot.
    #[inline]
    fn slot(&self, socket: SocketId) -> Option<&Slot> {
        let slot = socket.as_endpoint()?;
        self.slots.get(slot as usize).filter(|s| SocketId::endpoint(slot, s.generation) == socket)
    }

    fn slot_mut(&mut self, socket: SocketId) -> Option<&mut Slot> {
        let slot = socket.as_endpoint()?;
        self.slots.get_mut(slot as usize).filter(|s| SocketId::endpoint(slot, s.generation) == socket)
    }

    fn live(&self, id: EndpointId) -> Option<usize> {
        let slot = self.slots.get(id.slot as usize)?;
        let open = !matches!(slot.state, State::Vacant | State::Closing);
        (slot.generation == id.generation && open).then_some(id.slot as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_only_peer_of_an_endpoint_is_found_without_a_look_at_all() {
        let mut peers = crate::Peers::new(0, 20);
        let ids: Vec<PeerId> = (0..20).map(|_| peers.insert(()).expect("room")).collect();
        let mut endpoints = Endpoints::new(1);
        let id = endpoints.ask(Endpoint::bound(([0, 0, 0, 0], 0).into())).expect("room");
        let nobody = || -> std::iter::Empty<PeerId> { panic!("all are looked at") };
        assert_eq!(endpoints.peers_on(id.socket(), |_| true, nobody), []);
        endpoints.path_added(id.socket(), ids[7]);
        assert_eq!(endpoints.peers_on(id.socket(), |_| true, nobody), [ids[7]]);
        endpoints.path_added(id.socket(), ids[8]);
        let all = || ids.iter().copied();
        let has_path = |at: PeerId| at == ids[7] || at == ids[8];
        assert_eq!(endpoints.peers_on(id.socket(), has_path, all), [ids[7], ids[8]]);
        // The path of the newest is gone, and the other's is left.
        endpoints.path_left(id.socket());
        assert_eq!(endpoints.peers_on(id.socket(), |at| at == ids[7], all), [ids[7]]);
        endpoints.path_left(id.socket());
        assert_eq!(endpoints.peers_on(id.socket(), |_| true, nobody), []);
    }
    #[test]
    fn a_socket_names_no_endpoint_that_came_after_it_in_its_slot() {
        let mut endpoints = Endpoints::new(1);
        let any = Endpoint::bound(([0, 0, 0, 0], 0).into());
        let at = |port: u16| SocketAddr::from(([0, 0, 0, 0], port));
        let mut before = Vec::new();
        for port in 1..100 {
            let id = endpoints.ask(any).expect("room");
            assert_eq!((endpoints.bound_to(id.socket()), endpoints.local(id)), (None, Some(at(0))));
            endpoints.opened(id.socket(), Ok(at(port)));
            assert_eq!(
                (endpoints.bound_to(id.socket()), endpoints.local(id)),
                (Some(at(port)), Some(at(port)))
            );
            assert!(endpoints.close(id));
            assert_eq!((endpoints.bound_to(id.socket()), endpoints.address(id)), (Some(at(port)), None));
            assert!(before.iter().all(|old| endpoints.bound_to(*old).is_none()));
            endpoints.vacate(id.socket());
            before.push(id.socket());
        }
    }
}
