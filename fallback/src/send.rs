//! Trains on their way out, and what the system's errors mean.
//!
//! One system call for a train on Linux, and for a datagram elsewhere.

use std::io::{self, ErrorKind};
use std::net::IpAddr;

use quinn_udp::is_msg_size_err;
use shardgram_core::backlog::{Backlog, Waiting};
use shardgram_core::driver::{SendFailure, SendFault};
use shardgram_core::outbox::{Outbox, Source, Train};
use shardgram_core::{Ecn, Path, PeerError, PeerId};

use crate::buffers::Buffers;
use crate::sockets::{Socket, Sockets};
use shardgram_sys::errno;

/// An endpoint that was not opened: its peers were told, and may have queued something before.
const NOT_OPEN: SendFault = SendFault::Peer(PeerError::NotOpened { errno: errno::EBADF });

/// What became of sends that did not leave as they were to.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    /// What failed.
    pub(crate) failures: Vec<SendFailure>,
    /// Trains that were refused as such: whose, and how long their datagrams were.
    pub(crate) refusals: Vec<(Option<PeerId>, u32)>,
}

impl Reports {
    fn failed(&mut self, peer: Option<PeerId>, datagrams: u32, fault: SendFault) {
        self.failures.push(SendFailure { peer, datagrams, fault });
    }
}

/// Sends everything, in order, and notes what failed. What a full socket refuses goes into the backlog, and
/// so does what follows to a peer of whom something waits there.
pub(crate) fn carry_out(
    outbox: &Outbox,
    backlog: &mut Backlog,
    sockets: &mut Sockets,
    buffers: &Buffers,
    reports: &mut Reports,
) {
    for train in outbox.trains() {
        let Some(socket) = sockets.get(train.via) else {
            reports.failed(train.peer, train.datagrams, NOT_OPEN);
            continue;
        };
        let pieces = || outbox.sources(train).map(|source| bytes_of(source, outbox, buffers));
        let must_wait = socket.is_full() || train.peer.is_some_and(|peer| backlog.holds(peer));
        let outcome = match must_wait {
            true => Err(Unsent::Failed(SendFault::SocketFull)),
            false => {
                let way = Way { socket, path: &train.path, ecn: train.ecn };
                send_train(way, train.segment, train.datagrams, pieces())
            }
        };
        match outcome {
            Ok(()) => {}
            Err(Unsent::NotAsTrain) => {
                reports.refusals.push((train.peer, train.segment));
                send_singly(train, &pieces().collect::<Vec<_>>().concat(), backlog, sockets, reports);
            }
            Err(Unsent::Failed(fault)) => not_sent(train, pieces(), fault, backlog, sockets, reports),
        }
    }
}

/// Sends the datagrams of a train that cannot leave as one.
fn send_singly(
    train: &Train,
    bytes: &[u8],
    backlog: &mut Backlog,
    sockets: &mut Sockets,
    reports: &mut Reports,
) {
    for datagram in bytes.chunks(train.segment.max(1) as usize) {
        let Some(socket) = sockets.get(train.via) else { return };
        let outcome = match socket.is_full() {
            true => Err(SendFault::SocketFull),
            false => send_one(Way { socket, path: &train.path, ecn: train.ecn }, datagram),
        };
        let Err(fault) = outcome else { continue };
        let one = train.one(datagram.len());
        not_sent(&one, std::iter::once(datagram), fault, backlog, sockets, reports);
    }
}

/// What a full socket refused waits, if it may; everything else has failed.
fn not_sent<'a>(
    train: &Train,
    pieces: impl Iterator<Item = &'a [u8]>,
    fault: SendFault,
    backlog: &mut Backlog,
    sockets: &mut Sockets,
    reports: &mut Reports,
) {
    let full = fault == SendFault::SocketFull;
    if full {
        sockets.is_now_full(train.via);
    }
    if !(full && backlog.defer(train, pieces)) {
        reports.failed(train.peer, train.datagrams, fault);
    }
}

/// Sends what waits at sockets that have room again.
pub(crate) fn flush(backlog: &mut Backlog, sockets: &mut Sockets, reports: &mut Reports) {
    for id in backlog.sockets() {
        while let Some(waiting) = backlog.front(id) {
            let outcome = match sockets.get(id) {
                Some(socket) if socket.is_full() => break,
                Some(socket) => send_waiting(socket, waiting),
                None => Err(Unsent::Failed(NOT_OPEN)),
            };
            let (peer, datagrams) = (Some(waiting.peer), waiting.datagrams);
            match outcome {
                Ok(()) => {}
                Err(Unsent::NotAsTrain) => {
                    reports.refusals.push((peer, waiting.segment));
                    backlog.split(id);
                    continue;
                }
                Err(Unsent::Failed(SendFault::SocketFull)) => {
                    sockets.is_now_full(id);
                    break;
                }
                Err(Unsent::Failed(fault)) => reports.failed(peer, datagrams, fault),
            }
            backlog.advance(id);
        }
    }
}

fn send_waiting(socket: &Socket, waiting: &Waiting) -> Result<(), Unsent> {
    let pieces = std::iter::once(&waiting.bytes[..]);
    let way = Way { socket, path: &waiting.path, ecn: waiting.ecn };
    send_train(way, waiting.segment, waiting.datagrams, pieces)
}

/// By what something leaves, whence and whither, and how it is marked.
#[derive(Clone, Copy)]
struct Way<'a> {
    socket: &'a Socket,
    path: &'a Path,
    ecn: Ecn,
}

impl Way<'_> {
    /// The address a datagram has to name as its source: that of a path at a listener for every address.
    fn source(&self) -> Option<IpAddr> {
        let ip = self.path.local.ip();
        (self.socket.wildcard && !ip.is_unspecified()).then_some(ip)
    }
}

/// Why a train did not leave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Unsent {
    /// Its datagrams cannot leave as one.
    NotAsTrain,
    Failed(SendFault),
}

/// Sends a train, all of it or nothing.
fn send_train<'a>(
    way: Way<'_>,
    segment: u32,
    datagrams: u32,
    mut pieces: impl Iterator<Item = &'a [u8]>,
) -> Result<(), Unsent> {
    if datagrams > 1 {
        return system::send_train(way, segment as u16, pieces);
    }
    send_one(way, pieces.next().unwrap_or_default()).map_err(Unsent::Failed)
}

fn send_one(way: Way<'_>, bytes: &[u8]) -> Result<(), SendFault> {
    let send = || match (way.source(), way.ecn) {
        (None, Ecn::NotEct) => way.socket.io.send_to(bytes, way.path.remote).map(drop),
        _ => system::send_with_control(way, bytes),
    };
    again(send).map_err(|error| fault(&error, way.source().is_some()))
}

/// Sends with control data, and trains by one system call. Without quinn-udp, which wants trains in one piece, gives
/// them up for all peers of a socket when one path refuses them, and adds a control message with the congestion bits
/// to every datagram: that overrides the DSCP the owner of the socket may have set (IP_TOS in ip(7)).
#[cfg(target_os = "linux")]
mod system {
    use std::io::IoSlice;

    pub(crate) use shardgram_sys::TRAIN_LIMITS as LIMITS;
    use shardgram_sys::{Heading, is_about_trains, send_message, socket::traffic_class};

    use super::*;

    impl Way<'_> {
        fn heading(&self, segment: Option<u16>) -> Heading {
            let to = self.path.remote;
            // The whole byte is replaced, and the DSCP is to stay.
            let own = || *self.socket.class.get_or_init(|| self.own_class(to.is_ipv6()));
            let traffic_class = (self.ecn != Ecn::NotEct).then(|| self.ecn.on(own()));
            Heading { to, from: self.source(), segment, traffic_class }
        }

        #[cold]
        fn own_class(&self, ipv6: bool) -> u8 {
            traffic_class(&self.socket.io, ipv6).unwrap_or(0)
        }
    }

    pub(super) fn send_with_control(way: Way<'_>, bytes: &[u8]) -> io::Result<()> {
        send_message(&way.socket.io, &way.heading(None), &[IoSlice::new(bytes)])
    }

    pub(super) fn send_train<'a>(
        way: Way<'_>,
        segment: u16,
        pieces: impl Iterator<Item = &'a [u8]>,
    ) -> Result<(), Unsent> {
        let heading = way.heading(Some(segment));
        let mut slices = [IoSlice::new(&[]); LIMITS.datagrams as usize];
        let mut used = 0;
        for (slice, piece) in slices.iter_mut().zip(pieces) {
            *slice = IoSlice::new(piece);
            used += 1;
        }
        let send = || send_message(&way.socket.io, &heading, &slices[..used]);
        again(send).map_err(|error| match error.raw_os_error() {
            Some(errno) if is_about_trains(errno) => Unsent::NotAsTrain,
            _ => Unsent::Failed(fault(&error, heading.from.is_some())),
        })
    }
}

/// As quinn-udp does it, with the congestion bits in every message that it writes.
#[cfg(not(target_os = "linux"))]
mod system {
    use quinn_udp::{EcnCodepoint, Transmit};
    use shardgram_core::outbox::TrainLimits;

    use super::*;

    pub(crate) const LIMITS: TrainLimits = TrainLimits::SINGLE;

    pub(super) fn send_with_control(way: Way<'_>, bytes: &[u8]) -> io::Result<()> {
        let Some(state) = &way.socket.state else {
            // Nothing can be said beside the payload; a source would be named for a wildcard's path alone, and
            // without control messages those have none.
            return way.socket.io.send_to(bytes, way.path.remote).map(drop);
        };
        let transmit = Transmit {
            destination: way.path.remote,
            ecn: EcnCodepoint::from_bits(way.ecn.bits()),
            contents: bytes,
            segment_size: None,
            src_ip: way.source(),
        };
        // try_io, because mio must see WouldBlock on Windows to watch the socket again.
        way.socket.io.try_io(|| state.try_send((&way.socket.io).into(), &transmit))
    }

    pub(super) fn send_train<'a>(
        _: Way<'_>,
        _: u16,
        _: impl Iterator<Item = &'a [u8]>,
    ) -> Result<(), Unsent> {
        Err(Unsent::NotAsTrain)
    }
}

pub(crate) use system::LIMITS;

fn bytes_of<'a>(source: Source, outbox: &'a Outbox, buffers: &'a Buffers) -> &'a [u8] {
    match source {
        Source::Outbox { start, len } => outbox.bytes(start, len),
        Source::Buffer(at) => &buffers.bytes(at.buffer)[at.start as usize..][..at.len as usize],
    }
}

/// Sends, and once more where the first time told of something else.
fn again(send: impl Fn() -> io::Result<()>) -> io::Result<()> {
    loop {
        let error = match send() {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        match error.kind() {
            // EINTR, sendto(2): "A signal occurred before any data was transmitted". Bounded by the
            // signals there are.
            ErrorKind::Interrupted => {}
            // ECONNREFUSED and what Windows calls it: an ICMP error about an **earlier** datagram was
            // waiting at the socket. Telling it cleared it, and this datagram was not sent.
            ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset => return send(),
            _ => return Err(error),
        }
    }
}

/// What an error of a send means. `named` if the source address was named.
fn fault(error: &io::Error, named: bool) -> SendFault {
    let errno = error.raw_os_error().unwrap_or(errno::EIO);
    SendFault::Peer(match error.kind() {
        // EAGAIN, send(2): "the requested operation would block": the send buffer is full. The socket is
        // shared by all its peers, so this one is not to blame.
        ErrorKind::WouldBlock => return SendFault::SocketFull,
        // Twice in a row, see above.
        ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset => PeerError::Refused,
        // ENETUNREACH: no route, or one of type "throw". EHOSTUNREACH: a route of type "unreachable", or
        // no neighbour answered. ENETDOWN: the interface is down. EADDRNOTAVAIL: the socket's own address
        // is gone, or no port is free.
        ErrorKind::NetworkUnreachable
        | ErrorKind::HostUnreachable
        | ErrorKind::NetworkDown
        | ErrorKind::AddrNotAvailable => PeerError::Unreachable,
        // EINVAL where everything else is known to be right: Linux says so of a source address that this
        // host does not have (any more), and of a route of type "blackhole" (ip-route(8)).
        ErrorKind::InvalidInput if named => PeerError::Unreachable,
        // EPERM: a firewall rule. EACCES: a broadcast address without SO_BROADCAST, or a route of type
        // "prohibit".
        ErrorKind::PermissionDenied => PeerError::Forbidden,
        // ENOMEM: the kernel had no memory for it.
        ErrorKind::OutOfMemory => PeerError::NoBuffers,
        // ENOBUFS, send(2): "The output queue for a network interface was full".
        _ if errno == errno::ENOBUFS => PeerError::NoBuffers,
        // EMSGSIZE, send(2): "the size of the message to be sent made this impossible".
        _ if is_msg_size_err(error) => PeerError::TooLong { mtu: None },
        // EINVAL: a blackhole route, as above. EAFNOSUPPORT, EDESTADDRREQ, EFAULT, ENOTSOCK: a fault of
        // this program. EIO and the like: a driver's.
        _ => PeerError::Other { errno },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_errno_has_its_meaning() {
        let of = |errno| fault(&io::Error::from_raw_os_error(errno), false);
        assert_eq!(of(errno::ENOBUFS), SendFault::Peer(PeerError::NoBuffers));
        assert_eq!(of(errno::EACCES), SendFault::Peer(PeerError::Forbidden));
        assert_eq!(of(errno::EADDRNOTAVAIL), SendFault::Peer(PeerError::Unreachable));
        assert_eq!(of(errno::EINVAL), SendFault::Peer(PeerError::Other { errno: errno::EINVAL }));
        let named = fault(&io::Error::from_raw_os_error(errno::EINVAL), true);
        assert_eq!(named, SendFault::Peer(PeerError::Unreachable));
    }

    #[test]
    fn each_kind_has_its_meaning() {
        let of = |kind: ErrorKind| fault(&kind.into(), false);
        assert_eq!(of(ErrorKind::WouldBlock), SendFault::SocketFull);
        for kind in [ErrorKind::ConnectionRefused, ErrorKind::ConnectionReset] {
            assert_eq!(of(kind), SendFault::Peer(PeerError::Refused));
        }
        for kind in [ErrorKind::NetworkUnreachable, ErrorKind::HostUnreachable, ErrorKind::NetworkDown] {
            assert_eq!(of(kind), SendFault::Peer(PeerError::Unreachable));
        }
        assert_eq!(of(ErrorKind::PermissionDenied), SendFault::Peer(PeerError::Forbidden));
        assert_eq!(of(ErrorKind::OutOfMemory), SendFault::Peer(PeerError::NoBuffers));
        assert_eq!(of(ErrorKind::Other), SendFault::Peer(PeerError::Other { errno: errno::EIO }));
    }
}
