//! Errors of the network as anybody may forge them: ICMP messages about a datagram that a server sent.

use std::net::{IpAddr, SocketAddr};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// What an ICMP message says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Says {
    PortUnreachable,
    HostUnreachable,
    Prohibited,
    /// With the MTU.
    TooBig(u16),
}

/// Sends ICMP messages about datagrams from `server` to `peer`. A raw socket: it takes CAP_NET_RAW, which
/// root of a namespace has.
pub struct Forger {
    raw: Socket,
    server: SocketAddr,
    peer: SocketAddr,
}

impl Forger {
    pub fn new(server: SocketAddr, peer: SocketAddr) -> Self {
        let raw = match server {
            SocketAddr::V4(_) => Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4)),
            // The kernel sees to the checksum (RFC 3542 section 3.1).
            SocketAddr::V6(_) => Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6)),
        };
        Self { raw: raw.unwrap(), server, peer }
    }

    pub fn send(&self, says: Says) {
        let bytes = self.message(says);
        let to = SockAddr::from(SocketAddr::new(self.server.ip(), 0));
        self.raw.send_to(&bytes, &to).unwrap();
    }

    /// RFC 792 and RFC 4443: type, code, checksum, a word, and the head of the datagram it is about.
    fn message(&self, says: Says) -> Vec<u8> {
        let (kind, code, word) = match (says, self.server.is_ipv4()) {
            (Says::PortUnreachable, true) => (3, 3, 0),
            (Says::HostUnreachable, true) => (3, 1, 0),
            (Says::Prohibited, true) => (3, 13, 0),
            (Says::TooBig(mtu), true) => (3, 4, mtu),
            (Says::PortUnreachable, false) => (1, 4, 0),
            (Says::HostUnreachable, false) => (1, 3, 0),
            (Says::Prohibited, false) => (1, 1, 0),
            (Says::TooBig(mtu), false) => (2, 0, mtu),
        };
        let mut bytes = vec![kind, code, 0, 0, 0, 0];
        bytes.extend(word.to_be_bytes());
        bytes.extend(self.about());
        if self.server.is_ipv4() {
            let sum: u32 = bytes.chunks(2).map(|two| u32::from(u16::from_be_bytes([two[0], two[1]]))).sum();
            let folded = (sum & 0xffff) + (sum >> 16);
            let checksum = !((folded & 0xffff) + (folded >> 16)) as u16;
            bytes[2..4].copy_from_slice(&checksum.to_be_bytes());
        }
        bytes
    }

    /// The IP header and the UDP header of a datagram of eight bytes.
    fn about(&self) -> Vec<u8> {
        let mut head = match (self.server.ip(), self.peer.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let mut head = vec![0x45, 0, 0, 36, 0, 0, 0x40, 0, 64, 17, 0, 0];
                head.extend(from.octets());
                head.extend(to.octets());
                head
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                let mut head = vec![0x60, 0, 0, 0, 0, 16, 17, 64];
                head.extend(from.octets());
                head.extend(to.octets());
                head
            }
            _ => unreachable!("one family"),
        };
        for word in [self.server.port(), self.peer.port(), 16, 0] {
            head.extend(word.to_be_bytes());
        }
        head.extend([0; 8]);
        head
    }
}
