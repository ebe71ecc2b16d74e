//! What is kept of a path.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use crate::types::datagram::{Path, SocketId};

/// What identifies a path, in words: socket and remote port; then for IPv4 both addresses, for IPv6 the
/// remote one, the local one, and the remote scope. The socket tells the families apart.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key(pub(super) [u64; 6]);

impl PartialEq for Key {
    /// Word by word without a branch: for so few words that is less than the call that a comparison of
    /// arrays becomes.
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
    }
}

impl Key {
    #[inline]
    pub(super) fn of(path: &Path) -> Self {
        let first = u64::from(path.socket.bits()) << 32 | u64::from(path.remote.port());
        match (&path.remote, &path.local) {
            (SocketAddr::V4(remote), SocketAddr::V4(local)) => {
                let addresses = u64::from(remote.ip().to_bits()) << 32 | u64::from(local.ip().to_bits());
                Self([first, addresses, 0, 0, 0, 0])
            }
            (SocketAddr::V6(remote), SocketAddr::V6(local)) => {
                let halves = |ip: &Ipv6Addr| [(ip.to_bits() >> 64) as u64, ip.to_bits() as u64];
                let ([r1, r2], [l1, l2]) = (halves(remote.ip()), halves(local.ip()));
                Self([first, r1, r2, l1, l2, u64::from(remote.scope_id())])
            }
            // Both ends of a path are of the socket's family.
            _ => Self([first, 0, 0, 0, 0, 0]),
        }
    }

    pub(super) fn socket(&self) -> SocketId {
        SocketId::from_bits((self.0[0] >> 32) as u32)
    }

    /// The remote and the local address; the local port is not part of the key.
    pub(super) fn addresses(&self, ipv6: bool, local_port: u16) -> (SocketAddr, SocketAddr) {
        let [first, w1, w2, w3, w4, scope] = self.0;
        let port = first as u16;
        if ipv6 {
            let ip = |high: u64, low: u64| Ipv6Addr::from_bits(u128::from(high) << 64 | u128::from(low));
            (
                SocketAddrV6::new(ip(w1, w2), port, 0, scope as u32).into(),
                SocketAddrV6::new(ip(w3, w4), local_port, 0, 0).into(),
            )
        } else {
            (
                SocketAddrV4::new(Ipv4Addr::from_bits((w1 >> 32) as u32), port).into(),
                SocketAddrV4::new(Ipv4Addr::from_bits(w1 as u32), local_port).into(),
            )
        }
    }
}

/// One path of a peer, in one line of cache.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(super) struct PathRecord {
    pub(super) key: Key,
    pub(super) local_port: u16,
    pub(super) ipv6: bool,
    pub(super) slot: u32,
    pub(super) next: u32,
    /// Its remote address is proven.
    pub(super) validated: bool,
    /// Bytes that may still be sent along it before it is.
    pub(super) allowance: u32,
}

impl PathRecord {
    pub(super) fn new(path: &Path, slot: u32, next: u32) -> Self {
        let (local_port, ipv6) = (path.local.port(), path.remote.is_ipv6());
        Self { key: Key::of(path), local_port, ipv6, slot, next, validated: false, allowance: 0 }
    }

    pub(super) fn path(&self) -> Path {
        let (remote, local) = self.key.addresses(self.ipv6, self.local_port);
        Path { local, remote, socket: self.key.socket() }
    }
}
