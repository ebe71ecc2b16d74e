//! What a datagram is on the wire.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use shardgram_core::datagram::{MAX_PAYLOAD_V4, MAX_PAYLOAD_V6};

/// Bytes of a UDP header (RFC 768).
const UDP_HEADER: usize = 8;
/// Bytes of an IPv4 header without options (RFC 791) and of an IPv6 header (RFC 8200).
const IP_HEADERS: (usize, usize) = (20, 40);

/// No address.
pub(crate) const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// Bytes of the headers of a datagram for this address.
pub(crate) fn headers(to: SocketAddr) -> usize {
    UDP_HEADER + if to.is_ipv4() { IP_HEADERS.0 } else { IP_HEADERS.1 }
}

/// Panics if UDP cannot carry so many bytes to this address.
pub(crate) fn check_length(to: SocketAddr, len: usize) {
    let max = if to.is_ipv4() { MAX_PAYLOAD_V4 } else { MAX_PAYLOAD_V6 };
    assert!(len <= max, "{len} bytes are more than the {max} that UDP can carry");
}
