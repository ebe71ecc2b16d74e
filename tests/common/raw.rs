//! What no UDP socket would send, from raw sockets (raw(7)), which need root.

use std::net::{IpAddr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};

/// Whether this process may open raw sockets; if not, that is recorded as a skip.
pub fn allowed() -> bool {
    let allowed = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::UDP)).is_ok();
    if !allowed {
        super::skip::record("raw sockets need root");
    }
    allowed
}

fn send(protocol: Protocol, to: SocketAddr, bytes: &[u8]) {
    let raw = Socket::new(Domain::for_address(to), Type::RAW, Some(protocol)).expect("a raw socket");
    // With IPv6 the port of a raw socket's address is a protocol, or nought (ipv6(7)).
    let host = SocketAddr::new(to.ip(), 0);
    assert_eq!(raw.send_to(bytes, &host.into()).expect("sent"), bytes.len());
}

/// The header of a UDP datagram (RFC 768), as wrong as one likes, before its payload.
#[derive(Clone, Copy)]
pub struct Udp {
    pub source_port: u16,
    /// Of header and payload; `None` is what it should be.
    pub len: Option<u16>,
    /// Whether the checksum is a wrong one.
    pub spoilt: bool,
}

impl Udp {
    pub fn from_port(source_port: u16) -> Self {
        Self { source_port, len: None, spoilt: false }
    }

    /// To an address of this host, and from that address.
    pub fn send(self, to: SocketAddr, payload: &[u8]) {
        let len = (8 + payload.len()) as u16;
        let mut bytes = Vec::new();
        for word in [self.source_port, to.port(), self.len.unwrap_or(len), 0] {
            bytes.extend(word.to_be_bytes());
        }
        bytes.extend(payload);
        let right = checksum(&[&pseudo_header(to.ip(), len), &bytes]);
        // Never nought, which says that there is none.
        let sum = if self.spoilt { (right ^ 0x5555).max(1) } else { right };
        bytes[6..8].copy_from_slice(&sum.to_be_bytes());
        send(Protocol::UDP, to, &bytes);
    }
}

/// Sends a datagram to an address of this host that says it is from another, with headers of its own (IP_HDRINCL in raw(7),
/// IPPROTO_RAW). With IPv4 the kernel fills in what is nought: length, checksum, and the source if that is.
pub fn forge(from: SocketAddr, to: SocketAddr, payload: &[u8]) {
    let len = (8 + payload.len()) as u16;
    let mut bytes = Vec::new();
    match (from.ip(), to.ip()) {
        (IpAddr::V4(source), IpAddr::V4(target)) => {
            bytes.extend([0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0]);
            bytes.extend(source.octets());
            bytes.extend(target.octets());
        }
        (IpAddr::V6(source), IpAddr::V6(target)) => {
            bytes.extend([0x60, 0, 0, 0]);
            bytes.extend(len.to_be_bytes());
            bytes.extend([17, 64]);
            bytes.extend(source.octets());
            bytes.extend(target.octets());
        }
        _ => panic!("{from} and {to} are of two families"),
    }
    let mut datagram = Vec::new();
    for word in [from.port(), to.port(), len, 0] {
        datagram.extend(word.to_be_bytes());
    }
    datagram.extend(payload);
    let sum = checksum(&[&pseudo_header_of(from.ip(), to.ip(), len), &datagram]);
    datagram[6..8].copy_from_slice(&sum.to_be_bytes());
    bytes.extend(datagram);
    // IPPROTO_RAW.
    send(Protocol::from(255), to, &bytes);
}

/// What a UDP checksum covers beside the datagram (RFC 768, RFC 8200 section 8.1).
fn pseudo_header(ip: IpAddr, len: u16) -> Vec<u8> {
    pseudo_header_of(ip, ip, len)
}

fn pseudo_header_of(from: IpAddr, to: IpAddr, len: u16) -> Vec<u8> {
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            [&from.octets()[..], &to.octets(), &[0, 17], &len.to_be_bytes()].concat()
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            [&from.octets()[..], &to.octets(), &u32::from(len).to_be_bytes(), &[0, 0, 0, 17]].concat()
        }
        _ => panic!("{from} and {to} are of two families"),
    }
}

/// RFC 1071. A sum of nought is sent as all ones, since nought means that there is none (RFC 768).
fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0_u32;
    for part in parts {
        for pair in part.chunks(2) {
            sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    match !(sum as u16) {
        0 => 0xffff,
        sum => sum,
    }
}

/// An ICMP error about a datagram that `from`, an address of this host, is said to have sent to `to`.
pub fn icmp_error(kind: u8, code: u8, from: SocketAddr, to: SocketAddr) {
    let mut bytes = vec![kind, code, 0, 0, 0, 0, 0, 0];
    match (from.ip(), to.ip()) {
        (IpAddr::V4(source), IpAddr::V4(target)) => {
            // The quoted header (RFC 791): 20 bytes, 28 in all, time to live 64, protocol 17.
            bytes.extend([0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0]);
            bytes.extend(source.octets());
            bytes.extend(target.octets());
        }
        (IpAddr::V6(source), IpAddr::V6(target)) => {
            // The quoted header (RFC 8200): 8 bytes of payload, next header 17, hop limit 64.
            bytes.extend([0x60, 0, 0, 0, 0, 8, 17, 64]);
            bytes.extend(source.octets());
            bytes.extend(target.octets());
        }
        _ => panic!("{from} and {to} are of two families"),
    }
    for word in [from.port(), to.port(), 8, 0] {
        bytes.extend(word.to_be_bytes());
    }
    if from.is_ipv4() {
        let sum = checksum(&[&bytes]);
        bytes[2..4].copy_from_slice(&sum.to_be_bytes());
        send(Protocol::ICMPV4, from, &bytes);
    } else {
        // The kernel fills in the checksum (RFC 3542 section 3.1).
        send(Protocol::ICMPV6, from, &bytes);
    }
}
