//! A received datagram and the path it came by.

use std::net::{SocketAddr, SocketAddrV6};
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use crate::types::ecn::Ecn;
use crate::types::ids::PeerId;

/// The largest UDP payload IPv4 can carry: 65,535 less 20 bytes of IP and 8 of UDP header (RFC 768, RFC 791).
///
/// ```
/// use shardgram_core::datagram::{MAX_PAYLOAD_V4, MAX_PAYLOAD_V6};
/// assert!(MAX_PAYLOAD_V4 < MAX_PAYLOAD_V6); // IPv6 does not count its header
/// ```
pub const MAX_PAYLOAD_V4: usize = 65_507;
/// The largest UDP payload IPv6 carries without a jumbogram: 65,535 less 8 bytes of UDP header (RFC 8200).
///
/// ```
/// use shardgram_core::{Config, datagram::MAX_PAYLOAD_V6};
/// let config = Config::new().max_datagram(MAX_PAYLOAD_V6 as u32);
/// assert!(config.validate().is_ok());
/// ```
pub const MAX_PAYLOAD_V6: usize = 65_527;

/// Which socket of a shard: a listener, by its place in [`crate::Config::listen`], or an endpoint.
///
/// Listeners have the same number on every shard, so a path that was forwarded means the same there.
///
/// ```
/// use shardgram_core::datagram::SocketId;
/// assert_eq!(SocketId::listener(3).as_listener(), Some(3));
/// assert_eq!(SocketId::endpoint(3, 0).as_listener(), None);
/// assert_eq!(SocketId::endpoint(3, 0).as_endpoint(), Some(3));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SocketId(u32);

impl SocketId {
    const ENDPOINT: u32 = 1 << 31;
    const CONNECTED: u32 = 1 << 30;
    /// Bits of an endpoint's slot; those of its generation lie above. One more than [`crate::Config::max_endpoints`] takes,
    /// which leaves room for an endpoint that there is never.
    const SLOT_BITS: u32 = 21;
    const SLOT: u32 = (1 << Self::SLOT_BITS) - 1;
    /// An endpoint that is never open: there are fewer.
    pub(crate) const NOT_OPEN: Self = Self::endpoint(Self::SLOT, 0);

    /// The listener with this index.
    ///
    /// ```
    /// use shardgram_core::datagram::SocketId;
    /// let first = SocketId::listener(0); // of the addresses in Config::listen
    /// assert_eq!(first.as_listener(), Some(0));
    /// ```
    pub const fn listener(index: u16) -> Self {
        Self(index as u32)
    }

    /// The endpoint in this slot (below 2^21), and how many were there before it, of which the lowest 10 bits are kept: a
    /// [`Path`] is one word larger with more. So a path of an endpoint that was closed is none of the next one in its slot.
    ///
    /// ```
    /// use shardgram_core::datagram::SocketId;
    /// assert_ne!(SocketId::endpoint(0, 0), SocketId::listener(0));
    /// assert_ne!(SocketId::endpoint(0, 0), SocketId::endpoint(0, 1));
    /// ```
    pub const fn endpoint(slot: u32, generation: u32) -> Self {
        Self((slot & Self::SLOT) | (generation << Self::SLOT_BITS) | Self::ENDPOINT)
    }

    /// The socket of a peer's own in this slot (below 2^30). It never stands in a [`Path`]: a peer keeps its
    /// path when it gets a socket and when it loses it.
    ///
    /// ```
    /// use shardgram_core::datagram::SocketId;
    /// assert_eq!(SocketId::connected(3).as_connected(), Some(3));
    /// assert_eq!(SocketId::connected(3).as_endpoint(), None);
    /// ```
    pub const fn connected(slot: u32) -> Self {
        Self(slot | Self::CONNECTED)
    }

    /// The slot of a connected socket, or `None` for any other.
    ///
    /// ```
    /// use shardgram_core::driver::Arrival;
    /// fn by_a_socket_of_its_own(arrival: &Arrival<'_>) -> bool { arrival.socket.as_connected().is_some() }
    /// ```
    #[inline]
    pub const fn as_connected(self) -> Option<u32> {
        // A generation may have that bit, too.
        if self.0 & (Self::ENDPOINT | Self::CONNECTED) == Self::CONNECTED {
            Some(self.0 & !Self::CONNECTED)
        } else {
            None
        }
    }

    /// The listener's index, or `None` for any other socket.
    ///
    /// ```
    /// use shardgram_core::Path;
    /// fn came_by_listener(path: &Path) -> bool { path.socket.as_listener().is_some() }
    /// ```
    pub const fn as_listener(self) -> Option<u16> {
        if self.0 & (Self::ENDPOINT | Self::CONNECTED) == 0 { Some(self.0 as u16) } else { None }
    }

    /// The endpoint's slot, or `None` for any other socket.
    ///
    /// ```
    /// use shardgram_core::datagram::SocketId;
    /// fn of_endpoint<S>(sockets: &[Option<S>], id: SocketId) -> Option<&S> {
    ///     sockets.get(id.as_endpoint()? as usize)?.as_ref()
    /// }
    /// ```
    pub const fn as_endpoint(self) -> Option<u32> {
        if self.0 & Self::ENDPOINT == 0 { None } else { Some(self.0 & Self::SLOT) }
    }

    pub(crate) const fn bits(self) -> u32 {
        self.0
    }

    pub(crate) const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }
}

/// A 4-tuple and the socket it belongs to: where a datagram came from, and where an answer goes.
///
/// `local` is the address the datagram was sent to, so an answer along this path leaves from it, as
/// RFC 1122 section 4.1.3.5 asks. Where that stands for many hosts ([`Meta::to_many`]) it is this host's address on the
/// interface the datagram came by; with IPv6, where none suits the sender, it is `[::]`, and the kernel picks. For an endpoint bound to a wildcard address it is that wildcard: the
/// kernel picks the source address of each send. Its port is the one that the endpoint got: of a peer that was opened before its
/// endpoint was, the one asked for until then.
///
/// For a listener `socket` is the number of its address in the configuration, whichever of its sockets the datagram came by:
/// so a peer stays the same when its address gets sockets of its own under a wildcard.
///
/// The interface is not part of a path's identity (a conversation survives a change of route), except
/// for link-local IPv6 addresses, where it stands in the scope id of `remote`.
///
/// ```
/// fn peer_name(datagram: &shardgram_core::Datagram<'_>) -> String {
///     format!("{} at {}", datagram.path().remote, datagram.path().local)
/// }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Path {
    /// The address on this host.
    pub local: SocketAddr,
    /// The peer's address.
    pub remote: SocketAddr,
    /// The socket on this shard.
    pub socket: SocketId,
}

impl Path {
    /// The longest payload this path's address family can carry, in bytes.
    ///
    /// ```
    /// use shardgram_core::{Path, datagram::SocketId};
    /// let (local, remote) = ("[::1]:53".parse().unwrap(), "[::1]:4000".parse().unwrap());
    /// let path = Path { local, remote, socket: SocketId::listener(0) };
    /// assert_eq!(path.max_payload(), 65_527);
    /// ```
    pub fn max_payload(&self) -> usize {
        if self.remote.is_ipv4() { MAX_PAYLOAD_V4 } else { MAX_PAYLOAD_V6 }
    }

    /// Whether what goes along one goes along the other. The local port follows from the socket, and before that is open it is
    /// not known.
    #[inline]
    pub(crate) fn is_the_way_of(&self, other: &Self) -> bool {
        self.socket == other.socket && self.remote == other.remote && self.local.ip() == other.local.ip()
    }
}

/// What the kernel said about a datagram beside its bytes.
///
/// ```
/// fn whole(datagram: &shardgram_core::Datagram<'_>) -> bool {
///     datagram.meta().truncated_from.is_none()
/// }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[non_exhaustive]
pub struct Meta {
    /// Its congestion bits; [`Ecn::NotEct`] where they are not reported ([`crate::Config::ecn`]).
    pub ecn: Ecn,
    /// The datagram's true length in bytes, if it was longer than the receive buffer
    /// ([`crate::Config::max_datagram`]) and only its beginning is here.
    pub truncated_from: Option<usize>,
    /// When the kernel received it, by the real-time clock since the Unix epoch, where that is reported
    /// ([`crate::Config::receive_timestamps`]). In the simulator: the virtual time since it began.
    pub kernel_time: Option<Duration>,
    /// The interface it came in by, 0 where the driver does not report it.
    pub interface: u32,
    /// How many datagrams of the same train follow this one.
    pub rest_of_train: u16,
    /// Whether it was sent to a multicast group or a broadcast address, and not to an address of this host alone:
    /// [`crate::Io::group`] says to which. Told of what comes by wildcard listeners ([`crate::Config::join`]), and by
    /// endpoints that are bound to a wildcard address and take any source ([`crate::Io::join`]).
    pub to_many: bool,
}

/// A place in a receive buffer of the driver.
///
/// ```
/// use shardgram_core::datagram::RxSlice;
/// fn bytes(buffers: &[Vec<u8>], at: RxSlice) -> &[u8] {
///     &buffers[at.buffer as usize][at.start as usize..][..at.len as usize]
/// }
/// let at = RxSlice { buffer: 0, start: 1, len: 2 };
/// assert_eq!(bytes(&[b"abcd".to_vec()], at), b"bc");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RxSlice {
    /// The driver's number of the buffer.
    pub buffer: u32,
    /// First byte, counted from the buffer's beginning.
    pub start: u32,
    /// Length in bytes.
    pub len: u32,
}

/// A received datagram. Owns its bytes exclusively until it is dropped, or until
/// [`crate::Io::reply`] takes it together with its receive buffer, without a copy.
///
/// It dereferences to its payload, which may be changed in place.
///
/// ```
/// use shardgram_core::{Datagram, Handler, Io};
/// fn mirror<H: Handler>(io: &mut Io<H>, mut datagram: Datagram<'_>) {
///     datagram.reverse();
///     let len = datagram.len();
///     let _ = io.reply(datagram, len);
/// }
/// ```
#[derive(Debug)]
pub struct Datagram<'b> {
    pub(crate) path: &'b Path,
    pub(crate) meta: Meta,
    pub(crate) peer: Option<PeerId>,
    pub(crate) bytes: &'b mut [u8],
    /// Where the driver keeps these bytes; `None` if they came from another shard.
    pub(crate) at: Option<RxSlice>,
}

impl Datagram<'_> {
    /// The 4-tuple it came by.
    ///
    /// ```
    /// use shardgram_core::Datagram;
    /// fn is_local(datagram: &Datagram<'_>) -> bool {
    ///     datagram.path().remote.ip().is_loopback()
    /// }
    /// ```
    #[inline]
    pub fn path(&self) -> Path {
        *self.path
    }

    /// What the kernel said about it.
    ///
    /// ```
    /// use shardgram_core::{Datagram, Ecn};
    /// fn congestion_experienced(datagram: &Datagram<'_>) -> bool {
    ///     datagram.meta().ecn == Ecn::Ce
    /// }
    /// ```
    #[inline]
    pub fn meta(&self) -> Meta {
        self.meta
    }

    /// Keeps the first `len` bytes and says so.
    #[cold]
    pub(crate) fn cut(&mut self, len: usize) {
        self.meta.truncated_from = self.meta.truncated_from.or(Some(self.bytes.len()));
        self.bytes = &mut std::mem::take(&mut self.bytes)[..len];
        if let Some(at) = &mut self.at {
            at.len = len as u32;
        }
    }
}

impl Deref for Datagram<'_> {
    type Target = [u8];
    #[inline]
    fn deref(&self) -> &[u8] {
        self.bytes
    }
}

impl DerefMut for Datagram<'_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        self.bytes
    }
}

/// Datagrams of one peer that the kernel received as one (UDP_GRO, Linux 5.0, udp(7)), for a handler that takes
/// them whole: [`crate::Handler::WHOLE_TRAINS`].
///
/// It dereferences to all their bytes, one datagram after another. Taken apart it gives them one by one.
///
/// ```
/// use shardgram_core::ReceivedTrain;
/// fn sizes(train: ReceivedTrain<'_>) -> Vec<usize> {
///     train.into_iter().map(|datagram| datagram.len()).collect()
/// }
/// ```
#[derive(Debug)]
pub struct ReceivedTrain<'b> {
    pub(crate) path: &'b Path,
    pub(crate) meta: Meta,
    pub(crate) peer: Option<PeerId>,
    pub(crate) segment: usize,
    pub(crate) bytes: &'b mut [u8],
    pub(crate) at: Option<RxSlice>,
}

impl<'b> ReceivedTrain<'b> {
    /// The 4-tuple all of them came by.
    ///
    /// ```
    /// fn from(train: &shardgram_core::ReceivedTrain<'_>) -> std::net::SocketAddr { train.path().remote }
    /// ```
    #[inline]
    pub fn path(&self) -> Path {
        *self.path
    }

    /// What the kernel said, which holds for each of them.
    ///
    /// ```
    /// use shardgram_core::{Ecn, ReceivedTrain};
    /// fn congested(train: &ReceivedTrain<'_>) -> bool { train.meta().ecn == Ecn::Ce }
    /// ```
    #[inline]
    pub fn meta(&self) -> Meta {
        self.meta
    }

    /// Bytes of each datagram but the last, which may be shorter; at least 1.
    ///
    /// ```
    /// fn equal(train: &shardgram_core::ReceivedTrain<'_>) -> bool { train.len() % train.segment() == 0 }
    /// ```
    #[inline]
    pub fn segment(&self) -> usize {
        self.segment
    }

    /// How many datagrams.
    ///
    /// ```
    /// fn mean(train: &shardgram_core::ReceivedTrain<'_>) -> usize { train.len() / train.datagrams() }
    /// ```
    #[inline]
    pub fn datagrams(&self) -> usize {
        datagrams_in(self.bytes.len(), self.segment)
    }

    /// Takes the first datagram off, if at least one other follows.
    #[inline]
    pub(crate) fn take_first(&mut self) -> Option<Datagram<'b>> {
        if self.segment == 0 || self.bytes.len() <= self.segment {
            return None;
        }
        let rest_of_train = (self.datagrams() - 1).min(usize::from(u16::MAX)) as u16;
        let (first, rest) = std::mem::take(&mut self.bytes).split_at_mut(self.segment);
        self.bytes = rest;
        let len = first.len() as u32;
        let at = self.at.map(|at| RxSlice { len, ..at });
        if let Some(at) = &mut self.at {
            at.start += len;
            at.len -= len;
        }
        let meta = Meta { rest_of_train, ..self.meta };
        Some(Datagram { path: self.path, meta, peer: self.peer, bytes: first, at })
    }

    /// The last datagram.
    #[inline]
    pub(crate) fn into_last(self) -> Datagram<'b> {
        let Self { path, meta, peer, bytes, at, .. } = self;
        Datagram { path, meta: Meta { rest_of_train: 0, ..meta }, peer, bytes, at }
    }
}

impl Deref for ReceivedTrain<'_> {
    type Target = [u8];
    #[inline]
    fn deref(&self) -> &[u8] {
        self.bytes
    }
}

impl DerefMut for ReceivedTrain<'_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        self.bytes
    }
}

impl<'b> IntoIterator for ReceivedTrain<'b> {
    type Item = Datagram<'b>;
    type IntoIter = TrainDatagrams<'b>;

    #[inline]
    fn into_iter(self) -> TrainDatagrams<'b> {
        TrainDatagrams(Some(self))
    }
}

/// The datagrams of a [`ReceivedTrain`], one by one.
///
/// ```
/// use shardgram_core::{ReceivedTrain, datagram::TrainDatagrams};
/// fn without_the_first(train: ReceivedTrain<'_>) -> TrainDatagrams<'_> {
///     let mut datagrams = train.into_iter();
///     datagrams.next();
///     datagrams
/// }
/// ```
#[derive(Debug)]
pub struct TrainDatagrams<'b>(Option<ReceivedTrain<'b>>);

impl<'b> Iterator for TrainDatagrams<'b> {
    type Item = Datagram<'b>;

    #[inline]
    fn next(&mut self) -> Option<Datagram<'b>> {
        self.0.as_mut()?.take_first().or_else(|| Some(self.0.take()?.into_last()))
    }
}

/// How many datagrams so many bytes are, of `segment` each but the last; 0 says that they are one. An empty
/// datagram is one.
///
/// ```
/// use shardgram_core::datagram::datagrams_in;
/// assert_eq!((datagrams_in(2500, 1200), datagrams_in(2500, 0), datagrams_in(0, 1200)), (3, 1, 1));
/// ```
#[inline]
pub fn datagrams_in(bytes: usize, segment: usize) -> usize {
    if segment == 0 || segment >= bytes { 1 } else { bytes.div_ceil(segment) }
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
