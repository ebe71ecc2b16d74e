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
    Open(SocketAddr),
    Failed,
    /// Asked to be closed; what still arrives before it is belongs to it.
    Closing,
}

#[derive(Debug)]
struct Slot {
    generation: u32,
    state: State,
    endpoint: Endpoint,
    /// Paths of peers that stand on it, and the peer of the newest.
    paths: u32,
    newest: Option<PeerId>,
}

/// What the driver still has to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Request {
    Open(u32),
    Close(u32),
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
        let fresh = Slot { generation: 0, state: State::Asked, endpoint, paths: 0, newest: None };
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
        self.requests.push(Request::Open(slot));
        Ok(EndpointId { slot, generation: self.slots[slot as usize].generation })
    }

    pub(crate) fn has_room(&self) -> bool {
        !self.free.is_empty() || self.slots.len() < self.limit
    }

    /// Asks for closing. False if it is not open.
    pub(crate) fn close(&mut self, id: EndpointId) -> bool {
        let Some(slot) = self.live(id) else { return false };
        self.slots[slot].state = State::Closing;
        self.requests.push(Request::Close(id.slot));
        true
    }

    /// Forgets all requests and names every slot in use, for closing at once. With `keep_used`, only of endpoints that no
    /// peer has a path on.
    pub(crate) fn take_all(&mut self, keep_used: bool) -> Vec<u32> {
        let kept = |slot: &Slot| keep_used && slot.paths > 0;
        self.requests.retain(|request| match request {
            Request::Open(slot) | Request::Close(slot) => kept(&self.slots[*slot as usize]),
            Request::Group => false,
        });
        let all = self.slots.iter().enumerate();
        let gone = all.filter(|(_, slot)| slot.state != State::Vacant && !kept(slot));
        gone.map(|(slot, _)| slot as u32).collect()
    }

    /// Makes a slot usable again, once the driver has let go of it.
    pub(crate) fn vacate(&mut self, slot: u32) {
        let s = &mut self.slots[slot as usize];
        s.state = State::Vacant;
        s.paths = 0;
        s.newest = None;
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

    pub(crate) fn config(&self, slot: u32) -> &Endpoint {
        &self.slots[slot as usize].endpoint
    }

    pub(crate) fn opened(&mut self, slot: u32, outcome: Result<SocketAddr, i32>) {
        if let Some(s) = self.slots.get_mut(slot as usize)
            && s.state == State::Asked
        {
            s.state = outcome.map_or(State::Failed, State::Open);
        }
    }

    pub(crate) fn get(&self, id: EndpointId) -> Option<&Endpoint> {
        Some(&self.slots[self.live(id)?].endpoint)
    }

    /// The endpoint datagrams arrive at.
    #[inline]
    pub(crate) fn in_slot(&self, slot: u32) -> Option<&Endpoint> {
        let s = self.slots.get(slot as usize)?;
        matches!(s.state, State::Open(_) | State::Closing).then_some(&s.endpoint)
    }

    /// The address that the endpoint in a slot was bound to.
    pub(crate) fn bound_to(&self, slot: u32) -> Option<SocketAddr> {
        match self.slots.get(slot as usize)?.state {
            State::Open(address) => Some(address),
            _ => None,
        }
    }

    pub(crate) fn address(&self, id: EndpointId) -> Option<SocketAddr> {
        match self.slots[self.live(id)?].state {
            State::Open(address) => Some(address),
            _ => None,
        }
    }

    pub(crate) fn path_added(&mut self, slot: u32, peer: PeerId) {
        if let Some(s) = self.slots.get_mut(slot as usize) {
            s.paths += 1;
            s.newest = Some(peer);
        }
    }

    pub(crate) fn path_removed(&mut self, slot: u32) {
        if let Some(s) = self.slots.get_mut(slot as usize) {
            s.paths = s.paths.saturating_sub(1);
        }
    }

    /// As [`Endpoints::path_removed`], of a path that may be on anything.
    pub(crate) fn path_left(&mut self, socket: SocketId) {
        if let Some(slot) = socket.as_endpoint() {
            self.path_removed(slot);
        }
    }

    /// The peers with a path on it. Mostly there is one path, and its peer is known; else all peers are looked at.
    pub(crate) fn peers_on<I: Iterator<Item = PeerId>>(
        &self,
        slot: u32,
        has_path: impl Fn(PeerId) -> bool,
        all: impl FnOnce() -> I,
    ) -> Vec<PeerId> {
        match self.slots.get(slot as usize).map_or((0, None), |s| (s.paths, s.newest)) {
            (0, _) => Vec::new(),
            (1, Some(peer)) if has_path(peer) => vec![peer],
            _ => all().filter(|peer| has_path(*peer)).collect(),
        }
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
        assert_eq!(endpoints.peers_on(id.slot(), |_| true, nobody), []);
        endpoints.path_added(id.slot(), ids[7]);
        assert_eq!(endpoints.peers_on(id.slot(), |_| true, nobody), [ids[7]]);
        endpoints.path_added(id.slot(), ids[8]);
        let all = || ids.iter().copied();
        let has_path = |at: PeerId| at == ids[7] || at == ids[8];
        assert_eq!(endpoints.peers_on(id.slot(), has_path, all), [ids[7], ids[8]]);
        // The path of the newest is gone, and the other's is left.
        endpoints.path_removed(id.slot());
        assert_eq!(endpoints.peers_on(id.slot(), |at| at == ids[7], all), [ids[7]]);
        endpoints.path_removed(id.slot());
        assert_eq!(endpoints.peers_on(id.slot(), |_| true, nobody), []);
    }
}
