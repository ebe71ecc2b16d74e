//! Sockets of one's own, groups, and dialing.

use std::net::{IpAddr, SocketAddr};

use crate::api::handler::Handler;
use crate::api::io::Io;
use crate::sockets::groups::What;
use crate::types::datagram::Meta;
use crate::types::endpoint::{Endpoint, EndpointId, Via};
use crate::types::error::{DialError, Full, JoinError};
use crate::types::ids::PeerId;
use crate::types::multicast::Membership;

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
        self.sockets.endpoints.ask(endpoint)
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
        self.sockets.endpoints.address(id)
    }

    /// Joins a group, on an endpoint or on this shard's socket of a listener ([`Via::Listener`] with the address
    /// listened on, as [`Io::listeners`] has it), which has to be bound to a wildcard address. It is joined with the next
    /// turn, before what is queued meanwhile leaves. Should the system refuse, [`Handler::on_group_error`] says so.
    ///
    /// An endpoint lets what comes to a group through if it takes any source ([`crate::Endpoint::any_source`]). With it
    /// a feed is handled where it is received. A listener's hands each datagram to the shard that owns its sender, unless
    /// the membership is one of [`Membership::every_shard`].
    ///
    /// A membership goes with its interface. Where that is made anew the handler joins the group again; what was lost counts
    /// against the system's limit until the socket is closed.
    ///
    /// What a handler that panicked had joined is left when another takes over, and what it had left is joined again.
    ///
    /// On listeners a group is heard either by every shard or by one: [`JoinError::MixedHearers`] compares with the
    /// configuration, whether or not its groups were left meanwhile, and with what this shard has joined. That other shards
    /// join it in the same way is the handlers' to see to.
    ///
    /// # Errors
    /// See [`JoinError`]: what can be told at once.
    ///
    /// ```
    /// use shardgram_core::{Context, Endpoint, EndpointId, Handler, Interface, Membership, Via};
    /// fn listen_for_printers<H: Handler>(cx: &mut Context<'_, H>) -> Option<EndpointId> {
    ///     let mdns = Endpoint::bound(([0, 0, 0, 0], 5353).into()).any_source(true);
    ///     let socket = cx.io.endpoint(mdns).ok()?;
    ///     let group = Membership::any_source([224, 0, 0, 251]).on(Interface::named("eth0").ok()?);
    ///     cx.io.join(Via::Endpoint(socket), group).ok()?;
    ///     Some(socket)
    /// }
    /// ```
    pub fn join(&mut self, via: Via, membership: Membership) -> Result<(), JoinError> {
        membership.check()?;
        self.sockets.ask_for_group(What::Join, via, membership, self.post.shards())
    }

    /// Leaves a group that was joined in this very way: same group, source and interface. With the next turn; what has
    /// come by then is still handed over. Closing an endpoint leaves all its groups. A group of the configuration that was left
    /// stays so until it is joined again, or until another handler takes over from one that panicked.
    ///
    /// # Errors
    /// See [`JoinError`]: what can be told at once.
    ///
    /// ```
    /// use shardgram_core::{EndpointId, Handler, Interface, Io, JoinError, Membership, Via};
    /// fn enough<H: Handler>(io: &mut Io<H>, socket: EndpointId, by: Interface) -> Result<(), JoinError> {
    ///     io.leave(Via::Endpoint(socket), Membership::any_source([224, 0, 0, 251]).on(by))
    /// }
    /// ```
    pub fn leave(&mut self, via: Via, membership: Membership) -> Result<(), JoinError> {
        self.sockets.ask_for_group(What::Leave, via, membership, self.post.shards())
    }

    /// The multicast group or the broadcast address that the datagram or train at hand was sent to; `None` if that was an
    /// address of this host alone. For the [`Meta`] of what the callback was given.
    ///
    /// ```
    /// use shardgram_core::{Datagram, Handler, Io};
    /// fn is_a_search<H: Handler>(io: &Io<H>, datagram: &Datagram<'_>) -> bool {
    ///     io.group(datagram.meta()) == Some([239, 255, 255, 250].into()) && datagram.starts_with(b"M-SEARCH")
    /// }
    /// ```
    pub fn group(&self, meta: Meta) -> Option<IpAddr> {
        self.sockets.groups.of(meta)
    }

    /// Dials a peer anew, which [`crate::Context::dial`] made: its name is looked up again, and its addresses are tried from
    /// the first on, whether or not one had answered before. Until the first attempt it keeps the address it has, or
    /// until the turn before where that attempt takes the place of its endpoint.
    /// While the name is being looked up it does nothing.
    ///
    /// # Errors
    /// See [`DialError`]; nothing has changed then.
    ///
    /// ```
    /// use shardgram_core::{DialError, Handler, Io, PeerId};
    /// /// When it has been silent for too long: perhaps its service has moved to another host.
    /// fn reconnect<H: Handler>(io: &mut Io<H>, peer: PeerId) {
    ///     match io.redial(peer) {
    ///         Ok(()) => {}
    ///         Err(DialError::LookupsFull) => {} // try again later
    ///         Err(_) => io.close(peer),
    ///     }
    /// }
    /// ```
    pub fn redial(&mut self, peer: PeerId) -> Result<(), DialError> {
        self.dials.redial(&self.routes, &self.sockets.endpoints, peer, self.time.now)
    }
}
