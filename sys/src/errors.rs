//! What the system's error numbers mean for a send and for a peer: the one table of all drivers.
//!
//! Where the standard library has a name for an error ([`ErrorKind`]) it is used, since systems differ in their numbers;
//! the others are in [`errno`], one file a system.

use std::io::{self, ErrorKind};

use shardgram_core::PeerError;
use shardgram_core::driver::{Outcome, Refusal};

use crate::errno;

/// What came of a send that failed (sendmsg(2), udp(7), ip(7)). `named` says that it named its source address, or that
/// everything else about it is known to be right.
///
/// A path's MTU is for the caller to fill in, and what else a connected socket may tell of an earlier datagram.
///
/// ```
/// use std::io::{Error, ErrorKind};
/// use shardgram_core::driver::Outcome;
/// use shardgram_sys::errors::outcome;
/// assert_eq!(outcome(&Error::from(ErrorKind::WouldBlock), false, false), Outcome::Full);
/// ```
#[must_use]
pub fn outcome(error: &io::Error, named: bool, as_train: bool) -> Outcome {
    // EAGAIN, send(2): "the requested operation would block": the send buffer is full. The socket is shared by all its
    // peers, so this one is not to blame.
    if error.kind() == ErrorKind::WouldBlock {
        return Outcome::Full;
    }
    let as_train = as_train && error.raw_os_error().is_some_and(is_about_trains);
    // ECONNREFUSED and what Windows calls it: an ICMP error about an **earlier** datagram was waiting at the socket. Telling
    // it cleared it, and this datagram was not sent.
    let told = matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset);
    Outcome::Refused(Refusal { error: of_send(error, named), told, as_train })
}

/// Whether the kernel may say this of datagrams only because they were to leave as one: EINVAL or, since Linux 6.14, EMSGSIZE
/// where they are longer than the path's MTU, EINVAL of a socket that sends no checksums, EIO of a path through IPsec
/// (`udp_send_skb` in net/ipv4/udp.c).
///
/// ```
/// use shardgram_sys::{errno, errors::is_about_trains};
/// assert!(is_about_trains(errno::EMSGSIZE));
/// assert!(!is_about_trains(errno::ENOBUFS));
/// ```
#[must_use]
pub const fn is_about_trains(errno: i32) -> bool {
    matches!(errno, errno::EIO | errno::EINVAL | errno::EMSGSIZE)
}

fn of_send(error: &io::Error, named: bool) -> PeerError {
    let errno = error.raw_os_error().unwrap_or(errno::EIO);
    match error.kind() {
        // An ICMP port unreachable came for an earlier datagram.
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
        // EPERM: a firewall rule, a security module. EACCES: a broadcast address without SO_BROADCAST, or a route of
        // type "prohibit".
        ErrorKind::PermissionDenied => PeerError::Forbidden,
        // ENOMEM: the kernel had no memory for it.
        ErrorKind::OutOfMemory => PeerError::NoBuffers,
        _ => match errno {
            // ENOBUFS, send(2): "The output queue for a network interface was full".
            errno::ENOBUFS => PeerError::NoBuffers,
            // No neighbour answers, said by a route that knows it.
            errno::EHOSTDOWN => PeerError::Unreachable,
            // EMSGSIZE, send(2): "the size of the message to be sent made this impossible": longer than the path's MTU
            // with fragmentation forbidden, or than UDP can carry.
            errno::EMSGSIZE => PeerError::TooLong { mtu: None },
            // EINVAL: a blackhole route, as above. EAFNOSUPPORT, EDESTADDRREQ, EFAULT, ENOTSOCK: a fault of
            // this program. EIO and the like: a driver's.
            errno => PeerError::Other { errno },
        },
    }
}

/// What the network may have told a connected socket by this error number. `None` for an error of this host
/// alone. A path's MTU is for the caller to fill in.
///
/// The kernel's tables of what ICMP messages become are `icmp_err_convert` in `net/ipv4/icmp.c` and
/// `icmpv6_err_convert`.
///
/// ```
/// use shardgram_core::PeerError;
/// use shardgram_sys::errors::told_by_network;
/// assert_eq!(told_by_network(libc::ECONNREFUSED), Some(PeerError::Refused));
/// assert_eq!(told_by_network(libc::EAGAIN), None);
/// ```
#[cfg(target_os = "linux")]
#[must_use]
pub const fn told_by_network(errno: i32) -> Option<PeerError> {
    Some(match errno {
        // Port unreachable.
        libc::ECONNREFUSED => PeerError::Refused,
        // Host or network unreachable or unknown, time exceeded, and what a device that went down becomes.
        libc::EHOSTUNREACH | libc::ENETUNREACH | libc::EHOSTDOWN | libc::ENONET | libc::ENETDOWN => {
            PeerError::Unreachable
        }
        // Fragmentation needed, packet too big.
        libc::EMSGSIZE => PeerError::TooLong { mtu: None },
        // ICMPv6: communication administratively prohibited.
        libc::EACCES | libc::EPERM => PeerError::Forbidden,
        // Protocol unreachable, source route failed, parameter problem.
        libc::ENOPROTOOPT | libc::EOPNOTSUPP | libc::EPROTO => PeerError::Other { errno },
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_errno_has_its_meaning() {
        let of = |errno| of_send(&io::Error::from_raw_os_error(errno), false);
        assert_eq!(of(errno::ENOBUFS), PeerError::NoBuffers);
        assert_eq!(of(errno::EACCES), PeerError::Forbidden);
        assert_eq!(of(errno::EADDRNOTAVAIL), PeerError::Unreachable);
        assert_eq!(of(errno::EHOSTDOWN), PeerError::Unreachable);
        assert_eq!(of(errno::EMSGSIZE), PeerError::TooLong { mtu: None });
        assert_eq!(of(errno::EINVAL), PeerError::Other { errno: errno::EINVAL });
        let named = of_send(&io::Error::from_raw_os_error(errno::EINVAL), true);
        assert_eq!(named, PeerError::Unreachable);
    }

    #[test]
    fn each_kind_has_its_meaning() {
        let of = |kind: ErrorKind| outcome(&kind.into(), false, false);
        assert_eq!(of(ErrorKind::WouldBlock), Outcome::Full);
        let refused = |kind: ErrorKind| of_send(&kind.into(), false);
        for kind in [ErrorKind::ConnectionRefused, ErrorKind::ConnectionReset] {
            assert_eq!(refused(kind), PeerError::Refused);
        }
        for kind in [ErrorKind::NetworkUnreachable, ErrorKind::HostUnreachable, ErrorKind::NetworkDown] {
            assert_eq!(refused(kind), PeerError::Unreachable);
        }
        assert_eq!(refused(ErrorKind::PermissionDenied), PeerError::Forbidden);
        assert_eq!(refused(ErrorKind::OutOfMemory), PeerError::NoBuffers);
        assert_eq!(refused(ErrorKind::Other), PeerError::Other { errno: errno::EIO });
    }
}
