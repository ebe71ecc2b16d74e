//! What the system's error numbers mean for a peer.

use std::mem::discriminant;
use std::net::UdpSocket;

use shardgram_core::PeerError;
use shardgram_core::driver::SendFault;
use shardgram_sys::accept::{path_mtu, take_errors};
use shardgram_sys::{ErrorOrigin, NetworkError};

use crate::sockets::Socket;

/// Errors taken out of a socket's queue at once, at most. What is left says so with the next receive or send.
const HEARD_AT_ONCE: usize = 256;
/// The least MTU the kernel believes a router (`net.ipv4.route.min_pmtu`; RFC 8200 section 5).
const LEAST_MTU: usize = 552;
const LEAST_MTU_V6: usize = 1_280;

/// Why a send by this socket failed (sendmsg(2), udp(7), ip(7)).
pub(crate) fn send_fault(errno: i32, socket: Option<&Socket>) -> SendFault {
    SendFault::Peer(match errno {
        // The socket's send buffer is full and the send was not to wait.
        libc::EAGAIN => return SendFault::SocketFull,
        // A route of type "blackhole" (ip-route(8)), or this host has the source address no longer: everything
        // else about a send is known to be right.
        libc::EINVAL => PeerError::Unreachable,
        // No route, the device is down, or the local address to send from is gone.
        libc::ENETUNREACH | libc::EHOSTUNREACH | libc::ENETDOWN | libc::EHOSTDOWN | libc::EADDRNOTAVAIL => {
            PeerError::Unreachable
        }
        // An ICMP port unreachable came for an earlier datagram of a connected socket.
        libc::ECONNREFUSED => PeerError::Refused,
        // Longer than the path's MTU with fragmentation forbidden, or than UDP can carry.
        libc::EMSGSIZE => PeerError::TooLong { mtu: socket.and_then(|socket| mtu(&socket.socket)) },
        // The device's queue or the kernel's memory is full.
        libc::ENOBUFS | libc::ENOMEM => PeerError::NoBuffers,
        // A firewall, a security module, or a broadcast address without leave.
        libc::EPERM | libc::EACCES => PeerError::Forbidden,
        errno => PeerError::Other { errno },
    })
}

/// What the network may have told a connected socket by this error number. `None` for an error of this host
/// alone.
///
/// The kernel's tables of what ICMP messages become are `icmp_err_convert` in `net/ipv4/icmp.c` and
/// `icmpv6_err_convert`.
pub(crate) fn network_error(errno: i32, socket: &UdpSocket) -> Option<PeerError> {
    Some(match errno {
        // Port unreachable.
        libc::ECONNREFUSED => PeerError::Refused,
        // Host or network unreachable or unknown, time exceeded, and what a device that went down becomes.
        libc::EHOSTUNREACH | libc::ENETUNREACH | libc::EHOSTDOWN | libc::ENONET | libc::ENETDOWN => {
            PeerError::Unreachable
        }
        // Fragmentation needed, packet too big.
        libc::EMSGSIZE => PeerError::TooLong { mtu: mtu(socket) },
        // ICMPv6: communication administratively prohibited.
        libc::EACCES | libc::EPERM => PeerError::Forbidden,
        // Protocol unreachable, source route failed, parameter problem.
        libc::ENOPROTOOPT | libc::EOPNOTSUPP | libc::EPROTO => PeerError::Other { errno },
        _ => return None,
    })
}

/// What an entry of a connected socket's error queue means. `None` for one about a send that this host refused,
/// which said so itself.
fn meaning(said: &NetworkError, socket: &UdpSocket) -> Option<PeerError> {
    let least = match said.origin {
        ErrorOrigin::Local => return None,
        ErrorOrigin::Icmp => LEAST_MTU,
        ErrorOrigin::Icmpv6 => LEAST_MTU_V6,
    };
    Some(match (said.origin, said.kind, said.code) {
        // RFC 1812 section 5.2.7.1: net, host, and communication administratively prohibited. The kernel has
        // the same number for them as for a host that is unreachable.
        (ErrorOrigin::Icmp, 3, 9 | 10 | 13) => PeerError::Forbidden,
        _ => match network_error(said.errno, socket) {
            Some(PeerError::TooLong { mtu }) => {
                let said = (said.info as usize).max(least);
                PeerError::TooLong { mtu: Some(mtu.map_or(said, |mtu| mtu.min(said))) }
            }
            Some(error) => error,
            None => PeerError::Other { errno: said.errno },
        },
    })
}

/// Takes out what the network said of a connected socket's peer: each thing once, and the least of the MTUs.
pub(crate) fn hear(socket: &UdpSocket) -> Vec<PeerError> {
    let mut heard = Vec::new();
    for error in take_errors(socket, HEARD_AT_ONCE).iter().filter_map(|said| meaning(said, socket)) {
        let same = |other: &&mut PeerError| discriminant(*other) == discriminant(&error);
        match (heard.iter_mut().find(same), error) {
            (Some(PeerError::TooLong { mtu }), PeerError::TooLong { mtu: other }) => *mtu = (*mtu).min(other),
            (Some(_), _) => {}
            (None, error) => heard.push(error),
        }
    }
    heard
}

/// The path's MTU, as far as it is known: only a connected socket has a path.
fn mtu(socket: &UdpSocket) -> Option<usize> {
    path_mtu(socket).ok()
}
