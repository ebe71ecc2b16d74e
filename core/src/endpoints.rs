//! Client sockets: asked for by handlers, opened by the driver in the next turn.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::datagram::SocketId;
use crate::error::Full;
use crate::interface::Interface;
use crate::peers::PeerId;

/// A socket of one's own to ask for with [`crate::Io::endpoint`].
///
/// It stays unconnected, so the kernel picks source address and route for each send and a change of
/// network needs nothing. Datagrams from addresses it has no peer for are dropped and counted, unless
/// [`Endpoint::any_source`] lets them reach [`crate::Handler::accept`].
///
/// ```
/// use shardgram_core::Endpoint;
/// let server = "[::1]:53".parse().unwrap();
/// assert!(Endpoint::towards(server).bind_address().is_ipv6());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Endpoint {
    bind: SocketAddr,
    any_source: bool,
    interface: Option<Interface>,
}

impl Endpoint {
    /// On a free port, with addresses of the family of `remote`.
    ///
    /// ```
    /// use shardgram_core::Endpoint;
    /// let endpoint = Endpoint::towards("192.0.2.1:53".parse().unwrap());
    /// assert_eq!(endpoint.bind_address(), "0.0.0.0:0".parse().unwrap());
    /// ```
    pub fn towards(remote: SocketAddr) -> Self {
        let any = if remote.is_ipv4() {
            SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))
        } else {
            SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0))
        };
        Self::bound(any)
    }

    /// On this address; port 0 takes a free one.
    ///
    /// ```
    /// use shardgram_core::Endpoint;
    /// let endpoint = Endpoint::bound("127.0.0.1:0".parse().unwrap());
    /// assert!(endpoint.bind_address().ip().is_loopback());
    /// ```
    pub fn bound(bind: SocketAddr) -> Self {
        Self { bind, any_source: false, interface: None }
    }

    /// Whether datagrams from any address are welcome. Default: no.
    ///
    /// ```
    /// use shardgram_core::{Endpoint, EndpointId, Full, Handler, Io};
    /// fn discover<H: Handler>(io: &mut Io<H>) -> Result<EndpointId, Full<Endpoint>> {
    ///     let endpoint = Endpoint::bound(([0, 0, 0, 0], 5353).into());
    ///     io.endpoint(endpoint.any_source(true)) // strangers' answers go to Handler::accept
    /// }
    /// ```
    #[must_use]
    pub fn any_source(mut self, yes: bool) -> Self {
        self.any_source = yes;
        self
    }

    /// By this interface alone: datagrams leave by it whatever the routes say, and those that come by another
    /// are not received. Default: by any. It costs one system call when the socket is opened, and
    /// nothing later; one named by an address ([`Interface::of`]) costs a list of this host's addresses beside.
    ///
    /// Linux (SO_BINDTODEVICE and SO_BINDTOIFINDEX in socket(7); no privilege is needed from Linux 5.7 on) and macOS
    /// (IP_BOUND_IF, IPV6_BOUND_IF). The peers of an endpoint that cannot be bound so get
    /// [`crate::PeerError::NotOpened`] with the system's error number: ENODEV (on macOS ENXIO) where there is no such interface,
    /// EOPNOTSUPP (WSAEOPNOTSUPP) where the system cannot bind sockets to one.
    ///
    /// ```
    /// use shardgram_core::{Endpoint, EndpointId, Full, Handler, Interface, Io};
    /// fn through_the_tunnel<H: Handler>(io: &mut Io<H>, to: std::net::SocketAddr) -> Option<EndpointId> {
    ///     let tunnel = Interface::named("wg0").ok()?;
    ///     io.endpoint(Endpoint::towards(to).on_interface(tunnel)).ok()
    /// }
    /// ```
    #[must_use]
    pub fn on_interface(mut self, interface: Interface) -> Self {
        self.interface = Some(interface);
        self
    }

    /// The interface asked for.
    ///
    /// ```
    /// use shardgram_core::{Endpoint, Interface};
    /// let lo = Interface::named("lo").unwrap();
    /// let endpoint = Endpoint::bound("127.0.0.1:0".parse().unwrap());
    /// assert_eq!((endpoint.interface(), endpoint.on_interface(lo).interface()), (None, Some(lo)));
    /// ```
    pub fn interface(&self) -> Option<Interface> {
        self.interface
    }

    /// The same on another address.
    pub(crate) fn rebound(mut self, bind: SocketAddr) -> Self {
        self.bind = bind;
        self
    }

    /// The address asked for.
    ///
    /// ```
    /// use shardgram_core::{Endpoint, Full};
    /// fn refused(Full(endpoint): Full<Endpoint>) -> String {
    ///     format!("no more endpoints for {}", endpoint.bind_address())
    /// }
    /// ```
    pub fn bind_address(&self) -> SocketAddr {
        self.bind
    }

    /// Whether datagrams from any address are welcome.
    ///
    /// ```
    /// use shardgram_core::Endpoint;
    /// assert!(!Endpoint::bound(([0, 0, 0, 0], 5353).into()).takes_any_source());
    /// ```
    pub fn takes_any_source(&self) -> bool {
        self.any_source
    }
}

/// Names an endpoint of this shard. Good at once, before the socket is open.
///
/// ```
/// use shardgram_core::{Context, EndpointId, Handler, Via};
/// fn call<H: Handler<Peer = ()>>(cx: &mut Context<'_, H>, from: EndpointId, to: std::net::SocketAddr) {
///     if let Ok(peer) = cx.open(Via::Endpoint(from), to, ()) {
///         let _ = cx.io.send(peer, b"hello");
///     }
/// }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct EndpointId {
    slot: u32,
    generation: u32,
}

impl EndpointId {
    pub(crate) fn slot(self) -> u32 {
        self.slot
    }
}

/// From where a peer is opened.
///
/// ```
/// use shardgram_core::Via;
/// let listener = Via::Listener("192.0.2.1:5060".parse().unwrap()); // hole punching, NOTIFY
/// # let _ = listener;
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Via {
    /// From an endpoint of this shard.
    Endpoint(EndpointId),
    /// From a listener's own port: its address, with the local address to use where it is a wildcard.
    ///
    /// A listener's port is shared by all shards, and answers come to the one that owns the 4-tuple
    /// ([`crate::flow::flow_shard`] of the remote address). So that one has to open the peer; on every other
    /// [`crate::Context::open`] says [`crate::OpenError::NotHere`] with its number, and the handler can
    /// [`crate::Io::tell`] it to.
    Listener(SocketAddr),
}

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

    /// Forgets all requests and names every slot in use, for closing at once.
    pub(crate) fn take_all(&mut self) -> Vec<u32> {
        self.requests.clear();
        let in_use = |slot: &u32| self.slots[*slot as usize].state != State::Vacant;
        (0..self.slots.len() as u32).filter(in_use).collect()
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
