//! Which shard owns a 4-tuple, computed from its remote half.

use std::net::{IpAddr, SocketAddr};

/// 2^32 divided by the golden ratio: multiplying by it spreads neighbouring ports and addresses
/// over the upper half of the word (Knuth, The Art of Computer Programming, volume 3, 6.4).
///
/// ```
/// use shardgram_core::flow::{MULTIPLIER, SHIFT, flow_shard};
/// let word = u32::from_be_bytes([192, 0, 2, 7]) ^ 4000;
/// let shard = (word.wrapping_mul(MULTIPLIER) >> SHIFT) % 4;
/// assert_eq!(shard, u32::from(flow_shard(([192, 0, 2, 7], 4000).into(), 4)));
/// ```
#[doc(hidden)]
pub const MULTIPLIER: u32 = 0x9E37_79B1;

/// Bits that are shifted out after the multiplication; what stays is the well mixed upper half.
///
/// ```
/// use shardgram_core::flow::{MULTIPLIER, SHIFT};
/// let mixed = 1_u32.wrapping_mul(MULTIPLIER) >> SHIFT;
/// assert!(mixed <= u32::from(u16::MAX)); // see MULTIPLIER for the whole sum
/// ```
#[doc(hidden)]
pub const SHIFT: u32 = 16;

/// The shard that a datagram from `source` belongs to, in `0..shards`.
///
/// ```text
/// word  = the IPv4 address, or the last 32 bits of the IPv6 address, as a big-endian number
/// shard = (((word XOR source port) * 0x9E3779B1) mod 2^32 >> 16) mod shards
/// ```
///
/// The steering program of a listener group computes the same in the kernel, so on Linux a
/// datagram normally arrives on the shard that owns it. Where it does not (another steering
/// program, IPv6 extension headers, a kernel that refuses programs) this function decides and
/// the datagram is forwarded. It is a load balancer and not a defence: whoever forges sources
/// can aim at one shard.
///
/// `shards` of 0 counts as 1.
///
/// ```
/// use shardgram_core::flow::flow_shard;
///
/// let source = "192.0.2.7:4000".parse().unwrap();
/// assert!(flow_shard(source, 4) < 4);
/// assert_eq!(flow_shard(source, 1), 0);
/// ```
#[inline]
#[must_use]
pub fn flow_shard(source: SocketAddr, shards: u16) -> u16 {
    let word = match source.ip() {
        IpAddr::V4(ip) => ip.to_bits(),
        // The lower 32 bits: a truncating cast on purpose.
        IpAddr::V6(ip) => ip.to_bits() as u32,
    };
    let hash = (word ^ u32::from(source.port())).wrapping_mul(MULTIPLIER) >> SHIFT;
    // Below `shards`, so it fits into 16 bits.
    (hash % u32::from(shards.max(1))) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computed apart from this code; the kernel's steering program computes the same. Whoever
    /// changes one of them changes the owner of every flow.
    #[test]
    fn known_flows_have_known_shards() {
        for (source, shards, shard) in [
            ("192.0.2.7:4000", 4, 2),
            ("192.0.2.7:4001", 4, 2),
            ("127.0.0.1:50000", 3, 2),
            ("255.255.255.255:65535", 65535, 34383),
            ("[2001:db8::7]:4433", 5, 1),
            ("[fe80::1:2:3:4]:9", 7, 3),
            ("192.0.2.7:4000", 1, 0),
            ("192.0.2.7:4000", 0, 0),
        ] {
            assert_eq!(flow_shard(source.parse().expect(source), shards), shard, "{source} over {shards}");
        }
    }
}
