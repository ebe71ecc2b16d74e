//! Trains on their way out, and what the system's errors mean.
//!
//! One system call a datagram. Sending a train in one call is a matter of [`send_train`] alone: its bytes
//! in one piece and `segment_size` set; what is sent and what is reported stays the same.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};

use quinn_udp::{Transmit, is_msg_size_err};
use shardgram_core::backlog::{Backlog, Waiting};
use shardgram_core::driver::{SendFailure, SendFault};
use shardgram_core::outbox::{Outbox, Source, Train};
use shardgram_core::{Path, PeerError};

use crate::buffers::Buffers;
use crate::sockets::{Socket, Sockets};
use shardgram_sys::errno;

/// An endpoint that was not opened: its peers were told, and may have queued something before.
const NOT_OPEN: SendFault = SendFault::Peer(PeerError::NotOpened { errno: errno::EBADF });

/// Sends everything, in order, and notes what failed. What a full socket refuses goes into the backlog, and
/// so does what follows to a peer of whom something waits there.
pub(crate) fn carry_out(
    outbox: &Outbox,
    backlog: &mut Backlog,
    sockets: &mut Sockets,
    buffers: &Buffers,
    failures: &mut Vec<SendFailure>,
) {
    for train in outbox.trains() {
        let Some(socket) = sockets.get(train.via) else {
            failures.push(SendFailure { peer: train.peer, datagrams: train.datagrams, fault: NOT_OPEN });
            continue;
        };
        let must_wait = socket.is_full() || train.peer.is_some_and(|peer| backlog.holds(peer));
        let (sent, outcome) = match must_wait {
            true => (0, Err(SendFault::SocketFull)),
            false => send_train(socket, outbox, buffers, train),
        };
        let Err(fault) = outcome else { continue };
        let mut datagrams = train.datagrams - sent;
        if fault == SendFault::SocketFull {
            sockets.is_now_full(train.via);
            let rest = outbox.sources(train).skip(sent as usize);
            for source in rest {
                let bytes = bytes_of(source, outbox, buffers);
                datagrams -= u32::from(backlog.defer(&train.one(bytes.len()), std::iter::once(bytes)));
            }
        }
        if datagrams > 0 {
            failures.push(SendFailure { peer: train.peer, datagrams, fault });
        }
    }
}

/// Sends what waits at sockets that have room again.
pub(crate) fn flush(backlog: &mut Backlog, sockets: &mut Sockets, failures: &mut Vec<SendFailure>) {
    for id in backlog.sockets() {
        while let Some(waiting) = backlog.front(id) {
            let outcome = match sockets.get(id) {
                Some(socket) if socket.is_full() => break,
                Some(socket) => send_waiting(socket, waiting),
                None => Err(NOT_OPEN),
            };
            match outcome {
                Ok(()) => {}
                Err(SendFault::SocketFull) => {
                    sockets.is_now_full(id);
                    break;
                }
                Err(fault) => {
                    let (peer, datagrams) = (Some(waiting.peer), waiting.datagrams);
                    failures.push(SendFailure { peer, datagrams, fault });
                }
            }
            backlog.advance(id);
        }
    }
}

fn send_waiting(socket: &Socket, waiting: &Waiting) -> Result<(), SendFault> {
    let from = source_of(socket, &waiting.path);
    send_datagram(socket, waiting.path.remote, from, &waiting.bytes).map_err(|e| fault(&e, from.is_some()))
}

/// The address a datagram has to name as its source: that of a path at a listener for every address.
fn source_of(socket: &Socket, path: &Path) -> Option<IpAddr> {
    (socket.wildcard && !path.local.ip().is_unspecified()).then(|| path.local.ip())
}

/// Sends the datagrams of a train until one fails; says how many left. The rest then fails with it, as it
/// does where a train leaves in one call: it has the same destination and was to follow.
fn send_train(
    socket: &Socket,
    outbox: &Outbox,
    buffers: &Buffers,
    train: &Train,
) -> (u32, Result<(), SendFault>) {
    let from = source_of(socket, &train.path);
    let mut sent = 0;
    for source in outbox.sources(train) {
        if let Err(error) = send_datagram(socket, train.path.remote, from, bytes_of(source, outbox, buffers))
        {
            return (sent, Err(fault(&error, from.is_some())));
        }
        sent += 1;
    }
    (sent, Ok(()))
}

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
