//! Trains on their way out, and what the system's errors mean.
//!
//! One system call for a train on Linux, and for a datagram elsewhere.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};

use quinn_udp::{Transmit, is_msg_size_err};
use shardgram_core::backlog::{Backlog, Waiting};
use shardgram_core::driver::{SendFailure, SendFault};
use shardgram_core::outbox::{Outbox, Source, Train, TrainLimits};
use shardgram_core::{Path, PeerError, PeerId};

use crate::buffers::Buffers;
use crate::sockets::{Socket, Sockets};
use shardgram_sys::errno;
#[cfg(target_os = "linux")]
use shardgram_sys::send_train as send_train_on_linux;

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
            false => send_train(socket, &train.path, train.segment, train.datagrams, pieces()),
        };
        match outcome {
            Ok(()) => {}
            Err(Unsent::NotAsTrain) => {
                reports.refusals.push((train.peer, train.segment));
                send_singly(train, &pieces().collect::<Vec<_>>().concat(), backlog, sockets, reports);
            }
            Err(Unsent::Failed(fault)) => {
                let waits = fault == SendFault::SocketFull && {
                    sockets.is_now_full(train.via);
                    backlog.defer(train, pieces())
                };
                if !waits {
                    reports.failed(train.peer, train.datagrams, fault);
                }
            }
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
            false => send_one(socket, &train.path, datagram),
        };
        let Err(fault) = outcome else { continue };
        let waits = fault == SendFault::SocketFull && {
            sockets.is_now_full(train.via);
            backlog.defer(&train.one(datagram.len()), std::iter::once(datagram))
        };
        if !waits {
            reports.failed(train.peer, 1, fault);
        }
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
    send_train(socket, &waiting.path, waiting.segment, waiting.datagrams, pieces)
}

/// The address a datagram has to name as its source: that of a path at a listener for every address.
fn source_of(socket: &Socket, path: &Path) -> Option<IpAddr> {
    (socket.wildcard && !path.local.ip().is_unspecified()).then(|| path.local.ip())
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
    socket: &Socket,
    path: &Path,
    segment: u32,
    datagrams: u32,
    mut pieces: impl Iterator<Item = &'a [u8]>,
) -> Result<(), Unsent> {
    if datagrams > 1 {
        return trains::send(socket, path, source_of(socket, path), segment as u16, pieces);
    }
    send_one(socket, path, pieces.next().unwrap_or_default()).map_err(Unsent::Failed)
}

fn send_one(socket: &Socket, path: &Path, bytes: &[u8]) -> Result<(), SendFault> {
    let from = source_of(socket, path);
    send_datagram(socket, path.remote, from, bytes).map_err(|error| fault(&error, from.is_some()))
}

/// Trains by one system call. Without quinn-udp, which wants them in one piece, and gives trains up for all peers of
/// a socket when one path refuses them.
#[cfg(target_os = "linux")]
mod trains {
    use std::io::IoSlice;

    use super::*;

    /// What the kernel takes as one: 64 segments (UDP_SEGMENT, udp(7); 128 on newer kernels), and no more bytes than
    /// it cuts apart in one go, which for IPv6 is 65,473 (seen on Linux 6.18).
    pub(crate) const LIMITS: TrainLimits = TrainLimits { datagrams: 64, bytes: 65_473 };

    pub(super) fn send<'a>(
        socket: &Socket,
        path: &Path,
        from: Option<IpAddr>,
        segment: u16,
        pieces: impl Iterator<Item = &'a [u8]>,
    ) -> Result<(), Unsent> {
        let mut slices = [IoSlice::new(&[]); LIMITS.datagrams as usize];
        let mut used = 0;
        for (slice, piece) in slices.iter_mut().zip(pieces) {
            *slice = IoSlice::new(piece);
            used += 1;
        }
        let send = || send_train_on_linux(&socket.io, path.remote, from, segment, &slices[..used]);
        again(send).map_err(|error| match error.raw_os_error() {
            // EINVAL, EMSGSIZE: datagrams longer than the path's MTU. EIO: a path that cannot cut trains apart.
            Some(errno::EIO | errno::EINVAL | errno::EMSGSIZE) => Unsent::NotAsTrain,
            _ => Unsent::Failed(fault(&error, from.is_some())),
        })
    }
}

#[cfg(not(target_os = "linux"))]
mod trains {
    use super::*;

    pub(crate) const LIMITS: TrainLimits = TrainLimits::SINGLE;

    pub(super) fn send<'a>(
        _: &Socket,
        _: &Path,
        _: Option<IpAddr>,
        _: u16,
        _: impl Iterator<Item = &'a [u8]>,
    ) -> Result<(), Unsent> {
        Err(Unsent::NotAsTrain)
    }
}

pub(crate) use trains::LIMITS;

fn bytes_of<'a>(source: Source, outbox: &'a Outbox, buffers: &'a Buffers) -> &'a [u8] {
    match source {
        Source::Outbox { start, len } => outbox.bytes(start, len),
        Source::Buffer(at) => &buffers.bytes(at.buffer)[at.start as usize..][..at.len as usize],
    }
}

/// Sends one datagram, leaving from `from` if that is named.
fn send_datagram(socket: &Socket, to: SocketAddr, from: Option<IpAddr>, bytes: &[u8]) -> io::Result<()> {
    let send = || match from {
        // Plain sendto(2), and not quinn-udp, which adds a control message with the ECN bits to every
        // datagram: that overrides the DSCP the owner of the socket may have set (IP_TOS in ip(7)).
        None => socket.io.send_to(bytes, to).map(drop),
        Some(_) => {
            let transmit =
                Transmit { destination: to, ecn: None, contents: bytes, segment_size: None, src_ip: from };
            socket.state.try_send((&socket.io).into(), &transmit)
        }
    };
    again(send)
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
