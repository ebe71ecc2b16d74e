//! What the system's error numbers mean for a peer.

use std::net::UdpSocket;

use shardgram_core::PeerError;
use shardgram_core::driver::SendFault;
use shardgram_sys::accept::path_mtu;

use crate::sockets::Socket;

/// Why a send by this socket failed (sendmsg(2), udp(7), ip(7)).
pub(crate) fn send_fault(errno: i32, socket: Option<&Socket>) -> SendFault {
    SendFault::Peer(match errno {
        // The socket's send buffer is full and the send was not to wait.
        libc::EAGAIN => return SendFault::SocketFull,
        // Where the source address is named, it says that this host has it no longer (ip(7)).
        libc::EINVAL if socket.is_some_and(|socket| socket.wildcard) => PeerError::Unreachable,
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

/// What the network told a connected socket, which ended its receive. `None` for an error of this host.
///
/// The kernel's table of what ICMP errors become is `icmp_err_convert` in `net/ipv4/icmp.c`, and
/// `icmpv6_err_convert`; a connected socket without IP_RECVERR hears of those that are final.
pub(crate) fn network_error(errno: i32, socket: &UdpSocket) -> Option<PeerError> {
    Some(match errno {
        // Port unreachable.
        libc::ECONNREFUSED => PeerError::Refused,
        // Host or network unreachable or unknown, and what a device that went down becomes.
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

/// The path's MTU, as far as it is known: only a connected socket has a path.
fn mtu(socket: &UdpSocket) -> Option<usize> {
    path_mtu(socket).ok()
}
