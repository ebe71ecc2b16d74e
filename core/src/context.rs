//! What a callback may ask for.
//!
//! Nothing here touches a socket: requests are queued and carried out by the next turn. That is why no
//! driver's type is visible to handlers, and why a borrowed payload, a peer's state and the outbox can be
//! held together.

use std::net::{SocketAddr, SocketAddrV6};
use std::sync::Arc;
use std::time::Instant;

use crate::backlog::Backlog;
use crate::clock::CoarseClock;
use crate::config::TierPolicy;
use crate::cookie::CookieJar;
use crate::datagram::{Path, SocketId};
use crate::dials::Dials;
use crate::driver::Capabilities;
use crate::endpoints::{Endpoint, EndpointId, Endpoints, Via};
use crate::error::{Full, OpenError, SendError};
use crate::flow::flow_shard;
use crate::groups::Groups;
use crate::handler::{Handler, Origin};
use crate::links::Links;
use crate::mailbox::Postbox;
use crate::outbox::Outbox;
use crate::peers::{PeerId, Peers};
use crate::promotion::Thrift;
use crate::refused::Refused;
use crate::routes::Routes;
use crate::stats::Stats;
use crate::timers::{TimerId, TimerWheel};

/// The two halves a callback works with, apart so that it may walk its peers and send at the same time.
///
/// ```
/// use shardgram_core::{Context, Handler};
/// fn tick<H: Handler>(cx: &mut Context<'_, H>, payload: &[u8]) {
///     let Ok(shared) = cx.io.share(payload) else { return };
///     for (id, _state) in cx.peers.iter_mut() {
///         if cx.io.send_shared(id, shared).is_err() {
///             cx.io.close(id);
///         }
///     }
/// }
/// ```
#[derive(Debug)]
pub struct Context<'a, H: Handler> {
    /// The states of this shard's peers.
    pub peers: &'a mut Peers<H::Peer>,
    /// Everything else.
    pub io: &'a mut Io<H>,
}

/// In which way the datagrams of a peer come and go.
///
/// ```
/// use shardgram_core::{Handler, Io, PeerId, Tier};
/// fn describe<H: Handler>(io: &Io<H>, peer: PeerId) -> &'static str {
///     match io.tier(peer) {
///         Some(Tier::Connected) => "a socket of its own",
///         Some(Tier::Listener) => "the listener's",
///         None => "gone",
///     }
/// }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tier {
    /// By the listener, which it shares. It costs nothing in the kernel.
    Listener,
    /// By a socket of its own: its flood fills only its own queue, and errors of the network reach
    /// [`Handler::on_peer_error`].
    Connected,
}

/// Sends, timers, messages, endpoints, and the time.
///
/// ```
/// use shardgram_core::{Full, Handler, Io, PeerId};
/// fn greet<H: Handler<Timer = PeerId>>(io: &mut Io<H>, peer: PeerId) -> Result<(), Full<PeerId>> {
///     let _ = io.send(peer, b"hello");
///     io.set_timer(io.now() + std::time::Duration::from_millis(200), peer).map(|_id| ())
/// }
/// ```
pub struct Io<H: Handler> {
    pub(crate) now: Instant,
    pub(crate) shard: u16,
    pub(crate) clock: CoarseClock,
    /// `now` in milliseconds, for what is kept per peer.
    pub(crate) stamp: u32,
    pub(crate) outbox: Outbox,
    /// What waits for room in a socket.
    pub(crate) backlog: Backlog,
    /// Peers that were refused a send for want of room.
    pub(crate) refused: Refused,
    pub(crate) links: Links,
    pub(crate) tier_policy: TierPolicy,
    pub(crate) routes: Routes,
    pub(crate) timers: TimerWheel<H::Timer>,
    pub(crate) endpoints: Endpoints,
    pub(crate) dials: Dials,
    pub(crate) groups: Box<Groups>,
    pub(crate) listeners: Arc<[SocketAddr]>,
    pub(crate) closing: Vec<PeerId>,
    pub(crate) postboxes: Arc<[Postbox<H::Message>]>,
    pub(crate) wakes: Vec<u16>,
    pub(crate) cookies: CookieJar,
    pub(crate) stats: Arc<Stats>,
    pub(crate) amplification_limit: u32,
    pub(crate) thrift: Thrift,
    pub(crate) capabilities: Capabilities,
    /// Bytes of a datagram that handlers are given, at most.
    pub(crate) max_datagram: usize,
    /// What may still be answered to the datagram that `accept` looks at, under the amplification limit.
    pub(crate) stranger: Option<(Path, u64)>,
    /// The shard closes its peers for the last time.
    pub(crate) ending: bool,
}

impl<H: Handler> std::fmt::Debug for Io<H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Io").field("shard", &self.shard).field("now", &self.now).finish_non_exhaustive()
    }
}

/// Time and place.
impl<H: Handler> Io<H> {
    /// When this turn began. Read once a turn.
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// use shardgram_core::{Handler, Io};
    /// fn in_a_second<H: Handler>(io: &Io<H>) -> Instant {
    ///     io.now() + Duration::from_secs(1)
    /// }
    /// ```
    pub fn now(&self) -> Instant {
        self.now
    }

    /// This shard's number.
    ///
    /// ```
    /// use shardgram_core::{Handler, Io, PeerId};
    /// fn is_mine<H: Handler>(io: &Io<H>, peer: PeerId) -> bool {
    ///     peer.shard() == io.shard()
    /// }
    /// ```
    pub fn shard(&self) -> u16 {
        self.shard
    }

    /// What the driver under this shard can do, on this system.
    ///
    /// ```
    /// use shardgram_core::{Capability, Handler, Io};
    /// fn paces<H: Handler>(io: &Io<H>) -> bool {
    ///     !io.capabilities().has(Capability::EcnIn) // without marks it has to guess
    /// }
    /// ```
    pub fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    /// How many shards the server has.
    ///
    /// ```
    /// use shardgram_core::{Handler, Io};
    /// fn tell_all<H: Handler<Message = u32>>(io: &mut Io<H>, round: u32) {
    ///     for shard in 0..io.shards() {
    ///         let _ = io.tell(shard, round);
    ///     }
    /// }
    /// ```
    pub fn shards(&self) -> u16 {
        self.postboxes.len() as u16
    }

    /// The addresses listened on, in the order of [`crate::Config::listen`].
    ///
    /// ```
    /// use shardgram_core::{Handler, Io};
    /// fn first_port<H: Handler>(io: &Io<H>) -> Option<u16> {
    ///     io.listeners().first().map(|address| address.port())
    /// }
    /// ```
    pub fn listeners(&self) -> &[SocketAddr] {
        &self.listeners
    }

    /// The path answers to this peer take; `None` if it is gone, or was dialed and has no address.
    ///
    /// ```
    /// use std::net::SocketAddr;
    /// use shardgram_core::{Handler, Io, PeerId};
    /// fn address_of<H: Handler>(io: &Io<H>, peer: PeerId) -> Option<SocketAddr> {
    ///     Some(io.path(peer)?.remote)
    /// }
    /// ```
    pub fn path(&self, peer: PeerId) -> Option<Path> {
        self.routes.active_path(peer)
    }
}

/// Peers.
impl<H: Handler> Io<H> {
    /// Closes a peer, after the callback: safe while iterating. What was queued for it still leaves.
    ///
    /// ```
    /// use shardgram_core::{Context, Handler};
    /// fn kick<H: Handler<Peer = u32>>(cx: &mut Context<'_, H>) {
    ///     for (peer, strikes) in cx.peers.iter() {
    ///         if *strikes > 2 { cx.io.close(peer); }
    ///     }
    /// }
    /// ```
    pub fn close(&mut self, peer: PeerId) {
        self.closing.push(peer);
    }

    /// Lifts the amplification limit from a peer: its address is proven.
    ///
    /// ```
    /// use shardgram_core::{Handler, Io, PeerId};
    /// fn prove<H: Handler>(io: &mut Io<H>, peer: PeerId, cookie: &[u8]) {
    ///     if io.path(peer).is_some_and(|path| io.verify(path, cookie)) {
    ///         io.validated(peer);
    ///     }
    /// }
    /// ```
    pub fn validated(&mut self, peer: PeerId) {
        if let Some(route) = self.routes.get_mut(peer) {
            route.validated = true;
        }
    }

    /// Makes answers to a peer go along another of its paths, after the handler validated that path.
    ///
    /// # Errors
    /// [`SendError::Gone`] if the peer is closed or the path is not one of its own.
    ///
    /// ```
    /// use shardgram_core::{Datagram, Handler, Io, PeerId};
    /// fn path_response<H: Handler>(io: &mut Io<H>, peer: PeerId, asked: [u8; 8], datagram: &Datagram<'_>) {
    ///     if **datagram == asked {
    ///         let _ = io.use_path(peer, datagram.path());
    ///     }
    /// }
    /// ```
    pub fn use_path(&mut self, peer: PeerId, path: Path) -> Result<(), SendError> {
        let before = self.routes.active_path(peer);
        if !self.routes.use_path(peer, &path) {
            return Err(SendError::Gone);
        }
        if before != Some(path) {
            self.cool_down(peer, 0); // its own socket serves the old path
        }
        Ok(())
    }

    /// Sixteen bytes that only someone who receives at this path can know. Good for one to two minutes, on
    /// every shard of the server.
    ///
    /// ```
    /// use shardgram_core::{Accept, Datagram, Handler, Io};
    /// fn challenge<H: Handler>(io: &mut Io<H>, first: &Datagram<'_>) -> Accept<H::Peer> {
    ///     let cookie = io.cookie(first.path());
    ///     let _ = io.answer(first.path(), &cookie);
    ///     Accept::Done
    /// }
    /// ```
    pub fn cookie(&self, path: Path) -> [u8; 16] {
        self.cookies.bake(&path, self.now)
    }

    /// Whether a cookie was made for this path not long ago.
    ///
    /// ```
    /// use shardgram_core::{Accept, Datagram, Handler, Io};
    /// fn admit<H: Handler<Peer = ()>>(io: &Io<H>, first: &Datagram<'_>) -> Accept<()> {
    ///     if io.verify(first.path(), first) { Accept::Peer(()) } else { Accept::Drop("no cookie") }
    /// }
    /// ```
    pub fn verify(&self, path: Path, cookie: &[u8]) -> bool {
        self.cookies.verify(&path, cookie, self.now)
    }
}

/// Timers.
impl<H: Handler> Io<H> {
    /// Sets a timer. It fires in the first turn at or after `at`, never before, and never in the turn in
    /// which it is set: a time that has passed asks for the next turn.
    ///
    /// # Errors
    /// Gives the value back when [`crate::Config::max_timers`] are set.
    ///
    /// ```
    /// use shardgram_core::{Full, Handler, Io, TimerId};
    /// fn save_soon<H: Handler<Timer = u32>>(io: &mut Io<H>, what: u32) -> Option<TimerId> {
    ///     let at = io.now() + std::time::Duration::from_millis(100);
    ///     io.set_timer(at, what).inspect_err(|Full(what)| eprintln!("{what} will not be saved")).ok()
    /// }
    /// ```
    pub fn set_timer(&mut self, at: Instant, timer: H::Timer) -> Result<TimerId, Full<H::Timer>> {
        self.timers.set(self.now, at, timer, None).map_err(Full)
    }

    /// Sets a timer that goes with a peer: it is dropped when the peer is closed. It fires as one of
    /// [`Io::set_timer`] does, never in the turn in which it is set.
    ///
    /// # Errors
    /// Gives the value back when the peer is gone or [`crate::Config::max_timers`] are set.
    ///
    /// ```
    /// use shardgram_core::{Handler, Io, PeerId, TimerId};
    /// enum Wake { Resend(PeerId) }
    /// fn resend_later<H: Handler<Timer = Wake>>(io: &mut Io<H>, peer: PeerId) -> Option<TimerId> {
    ///     let at = io.now() + std::time::Duration::from_millis(200);
    ///     io.set_peer_timer(peer, at, Wake::Resend(peer)).ok()
    /// }
    /// ```
    pub fn set_peer_timer(
        &mut self,
        peer: PeerId,
        at: Instant,
        timer: H::Timer,
    ) -> Result<TimerId, Full<H::Timer>> {
        let Some(route) = self.routes.get_mut(peer) else { return Err(Full(timer)) };
        self.timers.set(self.now, at, timer, Some((peer.slot(), &mut route.timers))).map_err(Full)
    }

    /// Takes a timer back. `None` if it fired, was cancelled, or went with its peer.
    ///
    /// ```
    /// use shardgram_core::{Handler, Io, TimerId};
    /// fn acknowledged<H: Handler>(io: &mut Io<H>, resend: TimerId) {
    ///     if io.cancel(resend).is_none() {
    ///         println!("it was sent again, and need not have been");
    ///     }
    /// }
    /// ```
    pub fn cancel(&mut self, timer: TimerId) -> Option<H::Timer> {
        let owner = self.timers.owner(timer).and_then(|slot| self.routes.in_slot_mut(slot));
        self.timers.cancel(timer, owner.map(|route| &mut route.timers))
    }
}

/// Other shards.
impl<H: Handler> Io<H> {
    /// Sends a message to a shard, this one included. It arrives after this callback, never within it, and
    /// in order with this shard's other messages to that one.
    ///
    /// # Errors
    /// Gives the message back if that mailbox is full or there is no such shard.
    ///
    /// ```
    /// use shardgram_core::{Full, Handler, Io, PeerId};
    /// fn score<H: Handler<Message = (PeerId, u32)>>(io: &mut Io<H>, whose: PeerId, points: u32) {
    ///     if let Err(Full((whose, points))) = io.tell(whose.shard(), (whose, points)) {
    ///         eprintln!("{points} points of {whose} are lost");
    ///     }
    /// }
    /// ```
    pub fn tell(&mut self, shard: u16, message: H::Message) -> Result<(), Full<H::Message>> {
        let Some(postbox) = self.postboxes.get(usize::from(shard)) else { return Err(Full(message)) };
        let put = postbox.put_message(Origin::Shard(self.shard), message);
        match put {
            Ok(()) => self.wake(shard),
            Err(_) => self.stats.messages_refused.add(1),
        }
        put
    }

    /// Has the driver wake a shard with the next turn, if it sleeps and nobody else wakes it.
    pub(crate) fn wake(&mut self, shard: u16) {
        if shard != self.shard && self.postboxes[usize::from(shard)].bell().claim() {
            self.wakes.push(shard);
        }
    }
}

/// Endpoints.
impl<H: Handler> Io<H> {
    /// A socket of one's own. Its id is good at once; if the socket cannot be opened, its peers get
    /// [`crate::PeerError::NotOpened`].
    ///
    /// # Errors
    /// Gives the request back when [`crate::Config::max_endpoints`] are open.
    ///
    /// ```
    /// use std::net::SocketAddr;
    /// use shardgram_core::{Context, Endpoint, Handler, PeerId, Via};
    /// fn dial<H: Handler>(cx: &mut Context<'_, H>, server: SocketAddr, state: H::Peer) -> Option<PeerId> {
    ///     let socket = cx.io.endpoint(Endpoint::towards(server)).ok()?;
    ///     cx.open(Via::Endpoint(socket), server, state).ok()
    /// }
    /// ```
    pub fn endpoint(&mut self, endpoint: Endpoint) -> Result<EndpointId, Full<Endpoint>> {
        self.endpoints.ask(endpoint)
    }

    /// The address an endpoint was bound to, once it is open.
    ///
    /// ```
    /// use shardgram_core::{EndpointId, Handler, Io};
    /// fn port<H: Handler>(io: &Io<H>, socket: EndpointId) -> Option<u16> {
    ///     Some(io.endpoint_address(socket)?.port())
    /// }
    /// ```
    pub fn endpoint_address(&self, id: EndpointId) -> Option<SocketAddr> {
        self.endpoints.address(id)
    }
}

impl<H: Handler> Context<'_, H> {
    /// Makes a peer this side speaks to first. The amplification limit does not hold for it.
    ///
    /// # Errors
    /// See [`OpenError`].
    ///
    /// ```
    /// use std::net::SocketAddr;
    /// use shardgram_core::{Context, Handler, OpenError, PeerId, Via};
    /// fn reach<H: Handler<Peer = ()>>(cx: &mut Context<'_, H>, to: SocketAddr) -> Option<PeerId> {
    ///     match cx.open(Via::Listener(*cx.io.listeners().first()?), to, ()) {
    ///         Err(OpenError::InUse(peer)) => Some(peer), // it spoke first
    ///         outcome => outcome.ok(),
    ///     }
    /// }
    /// ```
    ///
    /// With several shards a peer of a listener is opened by the one that will hear it:
    ///
    /// ```
    /// use std::net::SocketAddr;
    /// use shardgram_core::{Context, Handler, OpenError, Via};
    /// /// Called with what `on_message` brings as well as where the wish arises.
    /// fn notify<H>(cx: &mut Context<'_, H>, via: Via, to: SocketAddr)
    /// where
    ///     H: Handler<Peer = (), Message = (Via, SocketAddr)>,
    /// {
    ///     match cx.open(via, to, ()) {
    ///         Ok(peer) => drop(cx.io.send(peer, b"NOTIFY")),
    ///         Err(OpenError::NotHere { shard }) => drop(cx.io.tell(shard, (via, to))),
    ///         Err(error) => eprintln!("{to} is not notified: {error}"),
    ///     }
    /// }
    /// ```
    pub fn open(&mut self, via: Via, remote: SocketAddr, state: H::Peer) -> Result<PeerId, OpenError> {
        if self.io.ending {
            return Err(OpenError::Ending);
        }
        if remote.port() == 0 {
            return Err(OpenError::PortZero);
        }
        let remote = canonical(remote);
        let (local, socket) = self.resolve(via)?;
        if local.is_ipv4() != remote.is_ipv4() {
            return Err(OpenError::FamilyMismatch);
        }
        let owner = flow_shard(remote, self.io.shards());
        if socket.as_listener().is_some() && owner != self.io.shard {
            return Err(OpenError::NotHere { shard: owner });
        }
        let path = Path { local: SocketAddr::new(local.ip(), local.port()), remote, socket };
        if let Some(peer) = self.io.routes.find(&path).and_then(|slot| self.peers.in_slot(slot)) {
            return Err(OpenError::InUse(peer));
        }
        let peer = self.admit(path, state).ok_or(OpenError::TableFull)?;
        self.io.validated(peer);
        Ok(peer)
    }

    /// Closes an endpoint after this turn's sends. Peers that are answered along it are closed as
    /// [`crate::CloseReason::EndpointClosed`], others lose their paths on it. Its place is free before
    /// handlers hear of that, so [`Handler::on_closed`] may ask for another endpoint at once.
    ///
    /// ```
    /// use shardgram_core::{Context, EndpointId, Handler, PeerId};
    /// fn hang_up<H: Handler>(cx: &mut Context<'_, H>, peer: PeerId, socket: EndpointId) {
    ///     let _ = cx.io.send(peer, b"bye"); // leaves before the socket is closed
    ///     cx.close_endpoint(socket);
    /// }
    /// ```
    pub fn close_endpoint(&mut self, id: EndpointId) {
        self.io.endpoints.close(id);
    }

    /// Makes a peer of a path that has none, if there is room.
    pub(crate) fn admit(&mut self, path: Path, state: H::Peer) -> Option<PeerId> {
        if self.io.routes.is_full() {
            return None;
        }
        let peer = self.peers.insert(state).ok()?;
        let stamp = self.io.stamp;
        self.io.routes.insert(peer, path, stamp);
        if let Some(slot) = path.socket.as_endpoint() {
            self.io.endpoints.path_added(slot, peer);
        }
        self.io.stats.peers_opened.add(1);
        Some(peer)
    }

    fn resolve(&self, via: Via) -> Result<(SocketAddr, SocketId), OpenError> {
        match via {
            Via::Endpoint(id) => {
                let endpoint = self.io.endpoints.get(id).ok_or(OpenError::NoSuchEndpoint)?;
                Ok((endpoint.bind_address(), SocketId::endpoint(id.slot())))
            }
            Via::Listener(local) => {
                let exact = self.io.listeners.iter().position(|l| *l == local && !l.ip().is_unspecified());
                let covers = |l: &SocketAddr| {
                    l.ip().is_unspecified() && l.port() == local.port() && l.is_ipv4() == local.is_ipv4()
                };
                let wildcard =
                    || self.io.listeners.iter().position(covers).filter(|_| !local.ip().is_unspecified());
                let index = exact.or_else(wildcard).ok_or(OpenError::NoSuchListener(local))?;
                Ok((local, SocketId::listener(index as u16)))
            }
        }
    }
}

/// As received datagrams name it: without a flow label, and with a scope only where it means something.
pub(crate) fn canonical(remote: SocketAddr) -> SocketAddr {
    match remote {
        SocketAddr::V6(v6) => {
            let scope = if v6.ip().is_unicast_link_local() { v6.scope_id() } else { 0 };
            SocketAddrV6::new(*v6.ip(), v6.port(), 0, scope).into()
        }
        v4 => v4,
    }
}
