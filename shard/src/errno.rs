//! What the system's error numbers mean for a peer.

use shardgram_core::PeerError;
use shardgram_core::driver::SendFault;

/// Why a send failed (sendmsg(2), udp(7), ip(7)).
pub(crate) fn send_fault(errno: i32) -> SendFault {
    SendFault::Peer(match errno {
        // The socket's send buffer is full and the send was not to wait.
        libc::EAGAIN => return SendFault::SocketFull,
        // An ICMP port unreachable came for an earlier datagram of a connected socket.
        libc::ECONNREFUSED => PeerError::Refused,
        // No route, the device is down, or the local address to send from is gone.
        libc::ENETUNREACH | libc::EHOSTUNREACH | libc::ENETDOWN | libc::EHOSTDOWN | libc::EADDRNOTAVAIL => {
            PeerError::Unreachable
        }
        // Longer than the path's MTU with fragmentation forbidden, or than UDP can carry.
        libc::EMSGSIZE => PeerError::TooLong { mtu: None },
        // The device's queue or the kernel's memory is full.
        libc::ENOBUFS | libc::ENOMEM => PeerError::NoBuffers,
        // A firewall, a security module, or a broadcast address without leave.
        libc::EPERM | libc::EACCES => PeerError::Forbidden,
        errno => PeerError::Other { errno },
    })
}
