//! The networks that a source address belongs to, and a bounded count of what comes from each.

use std::net::IpAddr;

use siphasher::sip::SipHasher13;

/// A network that addresses are counted by: its length in bits above its leading bits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Prefix(u64);

impl Prefix {
    fn new(length: u64, leading: u64) -> Self {
        Self(length << 56 | leading)
    }

    /// What one customer has: a /24 of IPv4, a /56 of IPv6 (RFC 6177 section 2).
    pub(crate) fn narrow(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(ip) => Self::new(24, u64::from(ip.to_bits() >> 8)),
            IpAddr::V6(ip) => Self::new(56, (ip.to_bits() >> 72) as u64),
        }
    }

    /// What one provider or site has: a /16 of IPv4, a /48 of IPv6.
    pub(crate) fn wide(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(ip) => Self::new(16, u64::from(ip.to_bits() >> 16)),
            IpAddr::V6(ip) => Self::new(48, (ip.to_bits() >> 80) as u64),
        }
    }
}

/// Rows of the sketch, each hashed by other bits, and counters in a row: a power of two.
const ROWS: usize = 4;
const WIDTH: usize = 1 << 12;

/// How many newcomers each prefix had of late: a count-min sketch (Cormode and Muthukrishnan 2005), which never counts too
/// few and, keyed, cannot be made to count too many for a chosen prefix but by a flood that is spread over all of them.
/// 64 KiB, however many prefixes there are. Counts are halved every second, so that they come to between one and
/// two times what a second brings.
pub(crate) struct Sketch {
    hasher: SipHasher13,
    rows: Box<[[u32; WIDTH]; ROWS]>,
    second: u32,
}

impl Sketch {
    pub(crate) fn new(key: (u64, u64)) -> Self {
        let hasher = SipHasher13::new_with_keys(key.0, key.1);
        Self { hasher, rows: Box::new([[0; WIDTH]; ROWS]), second: 0 }
    }

    /// Halves the counts for each second that has passed.
    pub(crate) fn age(&mut self, second: u32) {
        let passed = second.wrapping_sub(self.second);
        if passed == 0 {
            return;
        }
        self.second = second;
        let by = passed.min(u32::BITS - 1);
        self.rows.as_flattened_mut().iter_mut().for_each(|count| *count >>= by);
    }

    /// Counts one more.
    pub(crate) fn count(&mut self, prefix: Prefix) {
        for (row, at) in self.rows.iter_mut().zip(places(self.hasher.hash(&prefix.0.to_le_bytes()))) {
            row[at] = row[at].saturating_add(1);
        }
    }

    /// How many newcomers it had in about a second.
    pub(crate) fn lately(&self, prefix: Prefix) -> u32 {
        let places = places(self.hasher.hash(&prefix.0.to_le_bytes()));
        self.rows.iter().zip(places).map(|(row, at)| row[at]).min().unwrap_or(0) / 2
    }
}

/// A place in each row, from bits that the others do not use.
fn places(hash: u64) -> [usize; ROWS] {
    std::array::from_fn(|row| (hash >> (16 * row)) as usize % WIDTH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_those_of_the_address() {
        let [a, b, c] = ["192.0.2.1", "192.0.2.200", "192.0.3.1"].map(|ip| ip.parse().expect(ip));
        assert_eq!(Prefix::narrow(a), Prefix::narrow(b));
        assert_ne!(Prefix::narrow(a), Prefix::narrow(c));
        assert_eq!(Prefix::wide(a), Prefix::wide(c));
        let [a, b, c] = ["2001:db8:1:2300::1", "2001:db8:1:23ff::2", "2001:db8:1:2400::1"]
            .map(|ip| ip.parse().expect(ip));
        assert_eq!(Prefix::narrow(a), Prefix::narrow(b));
        assert_ne!(Prefix::narrow(a), Prefix::narrow(c));
        assert_eq!(Prefix::wide(a), Prefix::wide(c));
        assert_ne!(Prefix::wide(a), Prefix::wide("2001:db8:2::".parse().expect("an address")));
    }

    #[test]
    fn counts_are_never_too_low_and_fade() {
        let mut sketch = Sketch::new((1, 2));
        let prefix = |n: u32| Prefix::narrow(std::net::Ipv4Addr::from(n << 8).into());
        for n in 0..1_000 {
            (0..=n % 50).for_each(|_| sketch.count(prefix(n)));
        }
        for n in 0..1_000 {
            assert!(sketch.lately(prefix(n)) >= (n % 50).div_ceil(2));
        }
        let heavy = prefix(5_000);
        (0..10_000).for_each(|_| sketch.count(heavy));
        assert!((5_000..5_100).contains(&sketch.lately(heavy)));
        assert!(sketch.lately(prefix(6_000)) < 100, "one that never came");
        sketch.age(3);
        assert!((625..640).contains(&sketch.lately(heavy)));
        sketch.age(3 + 40);
        assert_eq!(sketch.lately(heavy), 0);
    }
}
