//! What is said of a socket: which one to open, which one was opened, and by which one a peer is reached.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::types::datagram::SocketId;
use crate::types::interface::Interface;

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
    /// An interface that is made anew is another one: nothing comes by the endpoint any more, and its peers' sends fail. The
    /// handler closes it and opens another.
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

impl Endpoint {
    pub(crate) fn is_of_family(&self, remote: SocketAddr) -> bool {
        self.bind_address().is_ipv4() == remote.is_ipv4()
    }

    /// A wildcard for the other family too.
    pub(crate) fn towards_family_of(self, remote: SocketAddr) -> Self {
        let bind = self.bind_address();
        if !bind.ip().is_unspecified() || self.is_of_family(remote) {
            return self;
        }
        let any = if remote.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        self.rebound(SocketAddr::new(any, bind.port()))
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
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

impl EndpointId {
    /// As paths and drivers name its socket.
    pub(crate) fn socket(self) -> SocketId {
        SocketId::endpoint(self.slot, self.generation)
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
