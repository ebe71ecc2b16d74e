//! What a driver hands over, and to whom.

use std::net::{IpAddr, SocketAddr};

use crate::send::policy::SendFault;
use crate::types::datagram::{Meta, SocketId};
use crate::types::error::PeerError;
use crate::types::ids::PeerId;

/// A datagram, or a train of them, as it came from the network.
///
/// ```
/// use std::net::SocketAddr;
/// use shardgram_core::{Meta, datagram::SocketId, driver::Arrival};
/// fn single(remote: SocketAddr, bytes: &mut [u8]) -> Arrival<'_> {
///     let (socket, meta) = (SocketId::listener(0), Meta::default());
///     Arrival { socket, remote, local: None, meta, segment: 0, bytes, buffer: 0, start: 0 }
/// }
/// assert_eq!(single(([127, 0, 0, 1], 9).into(), &mut [1, 2, 3]).bytes.len(), 3);
/// ```
#[derive(Debug)]
pub struct Arrival<'a> {
    /// The socket it came by.
    pub socket: SocketId,
    /// Who sent it.
    pub remote: SocketAddr,
    /// The local address it was sent to, if the socket is bound to a wildcard and answers must leave
    /// from it. `None`: the socket's own address.
    pub local: Option<IpAddr>,
    /// What else the kernel said.
    pub meta: Meta,
    /// Size of each datagram but the last, in bytes; 0 if it is a single one.
    pub segment: usize,
    /// The bytes.
    pub bytes: &'a mut [u8],
    /// The driver's number of the buffer they lie in, and where in it they begin.
    pub buffer: u32,
    /// Offset of `bytes` in that buffer.
    pub start: u32,
}

/// What is to become of the buffer of an [`Arrival`].
///
/// ```
/// use shardgram_core::driver::Fate;
/// fn take_back(fate: Fate, buffer: u32, free: &mut Vec<u32>, kept: &mut [u32]) -> bool {
///     match fate.kept {
///         0 => free.push(buffer),
///         sends => kept[buffer as usize] = sends,
///     }
///     !fate.stop
/// }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fate {
    /// How many queued sends refer to the buffer. With 0 it may be used again at once; otherwise after
    /// that many sends of the next turn.
    pub kept: u32,
    /// Hand over nothing more in this call of [`Driver::receive`](crate::driver::Driver::receive), but for what cannot be kept: the outbox may have no room
    /// for what it causes, the time is to be looked at first, or the handler has failed. What is not handed over comes
    /// with the next call, maybe in the next turn, and is told by [`Driver::has_more`](crate::driver::Driver::has_more).
    pub stop: bool,
}

/// A train that could not be sent.
///
/// ```
/// use shardgram_core::driver::{SendFailure, SendFault};
/// use shardgram_core::{PeerError, outbox::Train};
/// fn refused(train: &Train) -> SendFailure {
///     let fault = SendFault::Peer(PeerError::Refused);
///     SendFailure { peer: train.peer, datagrams: train.datagrams, fault }
/// }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SendFailure {
    /// Whose it was, `None` for a stateless answer.
    pub peer: Option<PeerId>,
    /// How many datagrams were not sent.
    pub datagrams: u32,
    /// Why.
    pub fault: SendFault,
}

/// Where a driver hands over what arrived. The shard loop implements it.
///
/// See the [documentation of drivers](crate::driver) for its use. One for a driver's own tests:
///
/// ```
/// use std::net::IpAddr;
/// use shardgram_core::{PeerError, datagram::SocketId};
/// use shardgram_core::driver::{Arrival, Fate, SendFailure, Sink};
/// #[derive(Default)]
/// struct Count { datagrams: u32, failed: u32 }
/// impl Sink for Count {
///     fn datagram(&mut self, _: Arrival<'_>) -> Fate {
///         self.datagrams += 1;
///         Fate { kept: 0, stop: false }
///     }
///     fn send_failed(&mut self, failure: SendFailure) { self.failed += failure.datagrams; }
///     fn malformed(&mut self) {}
///     fn control_cut(&mut self) {}
///     fn too_late(&mut self, _: u32) {}
///     fn rearmed(&mut self, _: bool) {}
///     fn train_refused(&mut self, _: Option<shardgram_core::PeerId>, _: u32) {}
///     fn retired(&mut self, _: SocketId) {}
///     fn demote(&mut self, _: SocketId) {}
///     fn peer_error(&mut self, _: SocketId, _: PeerError) {}
///     fn address_gone(&mut self, _: SocketId, _: IpAddr) {}
///     fn handover_timed_out(&mut self) {}
/// }
/// let mut sink = Count::default();
/// sink.malformed();
/// assert_eq!((sink.datagrams, sink.failed), (0, 0));
/// ```
pub trait Sink {
    /// A datagram or a train.
    ///
    /// ```
    /// use shardgram_core::driver::{Arrival, Sink};
    /// fn hand_over(sink: &mut impl Sink, arrival: Arrival<'_>, free: &mut Vec<u32>) -> bool {
    ///     let buffer = arrival.buffer;
    ///     let fate = sink.datagram(arrival);
    ///     if fate.kept == 0 { free.push(buffer); }
    ///     !fate.stop
    /// }
    /// ```
    fn datagram(&mut self, arrival: Arrival<'_>) -> Fate;

    /// The next datagram, of which [`Meta::to_many`] is set, was sent to this multicast group or broadcast address.
    ///
    /// ```
    /// use std::net::IpAddr;
    /// use shardgram_core::driver::{Arrival, Fate, Sink};
    /// fn to_group(sink: &mut impl Sink, group: IpAddr, mut arrival: Arrival<'_>) -> Fate {
    ///     arrival.meta.to_many = true;
    ///     sink.sent_to(group);
    ///     sink.datagram(arrival)
    /// }
    /// ```
    fn sent_to(&mut self, group: IpAddr) {
        let _ = group;
    }

    /// Something was received that has no usable source address or impossible control data.
    ///
    /// ```
    /// use std::net::SocketAddr;
    /// use shardgram_core::driver::Sink;
    /// fn check(sink: &mut impl Sink, source: Option<SocketAddr>) -> Option<SocketAddr> {
    ///     if source.is_none() { sink.malformed(); }
    ///     source
    /// }
    /// ```
    fn malformed(&mut self);

    /// Something was received of which the system reported more than there is room for: it may be a train of which nobody
    /// can say how long its datagrams are, or nobody can say where it was sent to.
    ///
    /// ```
    /// use shardgram_core::driver::Sink;
    /// fn check(sink: &mut impl Sink, flags: i32) -> bool {
    ///     const CONTROL_CUT: i32 = 8; // MSG_CTRUNC on Linux
    ///     let cut = flags & CONTROL_CUT != 0;
    ///     if cut { sink.control_cut(); }
    ///     cut
    /// }
    /// ```
    fn control_cut(&mut self);

    /// So many datagrams had come to an endpoint, or to the listener of an address that the host has lost, when it was
    /// closed.
    ///
    /// ```
    /// fn drop_queue(sink: &mut impl shardgram_core::driver::Sink, closed: &mut Vec<Vec<u8>>) {
    ///     sink.too_late(closed.drain(..).count() as u32);
    /// }
    /// ```
    fn too_late(&mut self, datagrams: u32);

    /// A train could not be sent.
    ///
    /// ```
    /// use shardgram_core::driver::{SendFailure, Sink};
    /// fn report(sink: &mut impl Sink, failures: &mut Vec<SendFailure>) {
    ///     failures.drain(..).for_each(|failure| sink.send_failed(failure));
    /// }
    /// ```
    fn send_failed(&mut self, failure: SendFailure);

    /// The system refused a train of datagrams of `segment` bytes, which the driver then sent one by one. None so
    /// long is to be built for this peer again.
    ///
    /// ```
    /// use shardgram_core::{driver::Sink, outbox::Train};
    /// fn refused(sink: &mut impl Sink, train: &Train) { sink.train_refused(train.peer, train.segment); }
    /// ```
    fn train_refused(&mut self, peer: Option<PeerId>, segment: u32);

    /// A receive ended and was armed again; `exhausted` if the receive buffers had run out.
    ///
    /// ```
    /// fn receive_ended(sink: &mut impl shardgram_core::driver::Sink, errno: i32) {
    ///     const NO_BUFFERS: i32 = 105; // ENOBUFS
    ///     sink.rearmed(errno == NO_BUFFERS);
    /// }
    /// ```
    fn rearmed(&mut self, exhausted: bool);

    /// A connected socket that was retired is empty and closed: its number may be used anew.
    ///
    /// ```
    /// use shardgram_core::{datagram::SocketId, driver::Sink};
    /// fn closed(sink: &mut impl Sink, slots: &mut Vec<u32>) {
    ///     slots.drain(..).for_each(|slot| sink.retired(SocketId::connected(slot)));
    /// }
    /// ```
    fn retired(&mut self, socket: SocketId);

    /// A connected socket is in the way of something else: its peer is to have none, and
    /// [`Driver::retire`](crate::driver::Driver::retire) follows. Nothing comes of it for one that retires already.
    ///
    /// ```
    /// use shardgram_core::{datagram::SocketId, driver::Sink};
    /// fn clear(sink: &mut impl Sink, in_the_way: &mut Vec<SocketId>) {
    ///     in_the_way.drain(..).for_each(|socket| sink.demote(socket));
    /// }
    /// ```
    fn demote(&mut self, socket: SocketId);

    /// The network told a connected socket that its peer cannot be reached as it is written to.
    ///
    /// ```
    /// use shardgram_core::{PeerError, datagram::SocketId, driver::Sink};
    /// fn receive_ended(sink: &mut impl Sink, slot: u32, errno: i32) {
    ///     const REFUSED: i32 = 111; // ECONNREFUSED
    ///     if errno == REFUSED { sink.peer_error(SocketId::connected(slot), PeerError::Refused); }
    /// }
    /// ```
    fn peer_error(&mut self, socket: SocketId, error: PeerError);

    /// A local address of a listener that takes every address is this host's no longer.
    ///
    /// ```
    /// use std::net::IpAddr;
    /// use shardgram_core::{datagram::SocketId, driver::Sink};
    /// fn interface_went(sink: &mut impl Sink, addresses: &[IpAddr]) {
    ///     addresses.iter().for_each(|ip| sink.address_gone(SocketId::listener(0), *ip));
    /// }
    /// ```
    fn address_gone(&mut self, socket: SocketId, ip: IpAddr);

    /// A peer that moved to a socket of its own was handed over before it was certain that nothing of it was
    /// left at the listener: its datagrams may be out of order.
    ///
    /// ```
    /// use std::time::Duration;
    /// use shardgram_core::driver::Sink;
    /// fn waited(sink: &mut impl Sink, so_long: Duration) {
    ///     if so_long > Duration::from_secs(1) { sink.handover_timed_out(); }
    /// }
    /// ```
    fn handover_timed_out(&mut self);
}
