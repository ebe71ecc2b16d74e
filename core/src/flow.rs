//! Which shard a 4-tuple belongs to.

use std::net::{IpAddr, SocketAddr};

/// The shard that owns datagrams from `source`, among `shards` of them (at least one).
///
/// The formula is the one the kernel's steering program computes on Linux: the IPv4 address, or the
/// last 32 bits of the IPv6 address, exclusive-or the source port, times 0x9E3779B1, the upper 16 bits
/// of that, modulo the number of shards. Steering is a hint (address options, other steering programs
/// and other operating systems break it); this function decides, and a datagram that reached the wrong
/// shard is forwarded.
///
/// ```
/// use shardgram_core::flow::flow_shard;
/// let source = "192.0.2.7:5000".parse().unwrap();
/// assert_eq!(flow_shard(source, 1), 0);
/// assert!(flow_shard(source, 3) < 3);
/// ```
#[inline]
pub fn flow_shard(source: SocketAddr, shards: u16) -> u16 {
    let word = match source.ip() {
        IpAddr::V4(ip) => u32::from(ip),
        IpAddr::V6(ip) => u128::from(ip) as u32,
    };
    let mixed = (word ^ u32::from(source.port())).wrapping_mul(0x9E37_79B1) >> 16;
    (mixed % u32::from(shards.max(1))) as u16
}
