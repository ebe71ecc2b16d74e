//! The two halves of what a callback works with.

use std::net::SocketAddr;

use crate::api::handler::Handler;
use crate::api::io::Io;
use crate::dial::dials::Dialed;
use crate::dial::request::{Dial, Host, Origin};
use crate::peers::standing::Standing;
use crate::peers::states::Peers;
use crate::types::datagram::{Path, canonical};
use crate::types::endpoint::{EndpointId, Via};
use crate::types::error::{DialError, OpenError};
use crate::types::flow::flow_shard;
use crate::types::ids::PeerId;

/// The two halves a callback works with, apart so that it may walk its peers and send at the same time.
///
/// ```
/// use shardgram_core::{Context, Handler};
/// fn tick<H: Handler>(cx: &mut Context<'_, H>, payload: &[u8]) {
///     let Ok(shared) = cx.io.share(payload) else { return };
///     for (id, _state) in cx.peers.iter_mut() {
///         let _ = cx.io.send_shared(id, shared); // whoever has no room for it misses one tick
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
        let (local, socket) = self.io.sockets.to_open_by(via)?;
        if local.is_ipv4() != remote.is_ipv4() {
            return Err(OpenError::FamilyMismatch);
        }
        if socket.as_listener().is_some() && self.io.own.is_own(remote, self.io.time.now) {
            return Err(OpenError::OwnAddress);
        }
        let owner = flow_shard(remote, self.io.shards());
        if socket.as_listener().is_some() && owner != self.io.shard {
            return Err(OpenError::NotHere { shard: owner });
        }
        let path = Path { local: SocketAddr::new(local.ip(), local.port()), remote, socket };
        if let Some(peer) = self.io.routes.find(&path).and_then(|slot| self.peers.in_slot(slot)) {
            return Err(OpenError::InUse(peer));
        }
        self.admit(path, state, Standing::Own).ok_or(OpenError::TableFull)
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
        self.io.sockets.endpoints.close(id);
    }

    /// Makes a peer of a host that is known by its name. The name is looked up off the shards; then each of its
    /// addresses is tried in turn, those of both families alternating (RFC 8305 section 4, without its races), until
    /// something comes from one of them. The id is good at once and stays the same.
    ///
    /// - [`Handler::on_attempt`] says when an address is tried: that is when to say hello to it. Before the first
    ///   one, sends are refused as [`crate::SendError::NoAddress`].
    /// - An address that does not answer within [`Dial::try_for`], or of which a send fails, is given up for the
    ///   next. The first datagram from the address that is tried settles it. What comes from any other, a forged one
    ///   or one that was given up, is dropped and counted ([`crate::Snapshot::dropped_foreign`]).
    /// - When no address is left, or the host has none that can be written to, the peer hears [`crate::PeerError::NoAnswer`] or
    ///   [`crate::PeerError::Unresolved`] and stays open, with the last address if there was one: [`Io::redial`] it, or close
    ///   it.
    ///
    /// It costs an endpoint while the peer is open (unless [`Dial::via`] names one), 300 bytes, and 500 more until it
    /// is settled; nothing for each datagram. Between addresses of different families it has two endpoints for a moment.
    /// Where [`crate::Config::max_endpoints`] leaves no room for the second, it has none for a turn, and no address:
    /// sends are refused as before the first. [`crate::Config::max_lookups`] bounds the lookups under way.
    /// [`crate::Config::idle_timeout`] holds for it from the first moment on, as for every peer.
    ///
    /// # Errors
    /// See [`DialError`].
    ///
    /// ```
    /// use shardgram_core::{Accept, Context, Datagram, Dial, Handler, PeerError, PeerId};
    ///
    /// struct Client;
    ///
    /// impl Handler for Client {
    ///     type Peer = ();
    ///     type Timer = PeerId;
    ///     type Message = ();
    ///
    ///     fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
    ///         Accept::Done
    ///     }
    ///
    ///     fn on_start(&mut self, cx: &mut Context<'_, Self>) {
    ///         let dial = Dial::to("game.example.net", 9000).expect("a name");
    ///         cx.dial(dial, ()).expect("room for a peer");
    ///     }
    ///
    ///     fn on_attempt(&mut self, cx: &mut Context<'_, Self>, peer: PeerId, _: std::net::SocketAddr) {
    ///         let _ = cx.io.send(peer, b"hello"); // to the address that is tried now
    ///     }
    ///
    ///     fn on_peer_error(&mut self, cx: &mut Context<'_, Self>, peer: PeerId, error: PeerError) {
    ///         if matches!(error, PeerError::Unresolved { .. } | PeerError::NoAnswer { .. }) {
    ///             let later = cx.io.now() + std::time::Duration::from_secs(5);
    ///             let _ = cx.io.set_peer_timer(peer, later, peer);
    ///         }
    ///     }
    ///
    ///     fn on_timer(&mut self, cx: &mut Context<'_, Self>, peer: PeerId) {
    ///         let _ = cx.io.redial(peer); // the name is looked up again: it may have moved
    ///     }
    /// }
    /// ```
    pub fn dial(&mut self, dial: Dial, state: H::Peer) -> Result<PeerId, DialError> {
        if self.io.ending {
            return Err(DialError::Ending);
        }
        if let Origin::Shared(endpoint) = dial.from
            && self.io.sockets.endpoints.get(endpoint).is_none()
        {
            return Err(DialError::NoSuchEndpoint);
        }
        let named = matches!(dial.host(), Host::Name(_));
        if named && !self.io.dials.has_room() {
            self.io.stats.lookups_refused.add(1);
            return Err(DialError::LookupsFull);
        }
        if self.io.routes.is_full() {
            return Err(DialError::TableFull);
        }
        let peer = self.peers.insert(state).map_err(|_| DialError::TableFull)?;
        let entry = self.io.dials.entries.insert(Dialed::new(peer, dial)) as u32;
        self.io.routes.insert_without_path(peer, self.io.time.stamp, entry);
        self.io.stats.peers_opened.add(1);
        self.io.dials.begin(&self.io.sockets.endpoints, entry, self.io.time.now);
        Ok(peer)
    }

    /// Makes a peer of a path that has none, if there is room.
    pub(crate) fn admit(&mut self, path: Path, state: H::Peer, standing: Standing) -> Option<PeerId> {
        if self.io.routes.is_full() {
            return None;
        }
        let peer = self.peers.insert(state).ok()?;
        // A proof may find no room in the reserve, which is seen to when the peer is there.
        let first = if standing == Standing::Proven { Standing::New } else { standing };
        let time = self.io.time;
        self.io.routes.insert(peer, path, time.stamp, first);
        self.io.sockets.endpoints.path_added(path.socket, peer);
        self.io.stats.peers_opened.add(1);
        match standing {
            Standing::Proven => drop(self.io.crowd.validate(&mut self.io.routes, peer, &path, time)),
            Standing::New => self.io.crowd.count_newcomer(path.remote.ip(), time),
            _ => {}
        }
        Some(peer)
    }
}
