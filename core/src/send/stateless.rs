//! How many stateless answers one address gets in a second.
//!
//! Two servers that answer whatever they do not understand can be made to answer each other by one forged datagram, and no
//! server can tell that from a client that asks a lot. So answers without a peer are bounded for each address, per shard:
//! what is refused one breaks the loop it is part of, until no more than the bound goes round.

use std::hash::Hasher;
use std::net::IpAddr;

use siphasher::sip::SipHasher13;

/// Counters, and so the addresses that are told apart. Those that share one by chance share its bound.
const COUNTERS: usize = 4_096;

/// Counts the answers of a shard, in a table that never grows.
#[derive(Debug)]
pub(crate) struct Answers {
    per_second: u32,
    hasher: SipHasher13,
    /// The second that is counted in, and how many it had.
    counters: Box<[(u32, u32)]>,
}

impl Answers {
    /// So many a second; 0 for no bound. The key keeps remote parties from choosing whose counter they fill.
    pub(crate) fn new(per_second: u32, key: (u64, u64)) -> Self {
        let counters = if per_second == 0 { 0 } else { COUNTERS };
        Self {
            per_second,
            hasher: SipHasher13::new_with_keys(key.0, key.1),
            counters: vec![(0, 0); counters].into(),
        }
    }

    /// Whether one more answer may go to this address. `Err` has the bound. `stamp` is the time in milliseconds.
    #[inline]
    pub(crate) fn one_more(&mut self, to: IpAddr, stamp: u32) -> Result<(), u32> {
        if self.per_second == 0 {
            return Ok(());
        }
        let mut hasher = self.hasher;
        match to.to_canonical() {
            IpAddr::V4(v4) => hasher.write(&v4.octets()),
            // A host has all of a network of 64 bits (RFC 4291 section 2.5.4, RFC 8981).
            IpAddr::V6(v6) => hasher.write(&v6.octets()[..8]),
        }
        let (second, at) = (stamp / 1_000, hasher.finish() as usize % COUNTERS);
        let Some((counted_in, count)) = self.counters.get_mut(at) else { return Ok(()) };
        if *counted_in != second {
            (*counted_in, *count) = (second, 0);
        }
        if *count >= self.per_second {
            return Err(self.per_second);
        }
        *count += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn each_address_has_its_own_bound_and_it_begins_anew() {
        let mut answers = Answers::new(2, (1, 2));
        for stamp in [0, 1_000, 61_999] {
            for to in ["192.0.2.1", "192.0.2.2", "2001:db8::1"] {
                let mut more = || answers.one_more(ip(to), stamp);
                assert_eq!([more(), more(), more()], [Ok(()), Ok(()), Err(2)], "{to} at {stamp}");
            }
        }
    }

    #[test]
    fn a_network_of_64_bits_is_one_address() {
        let mut answers = Answers::new(1, (1, 2));
        assert_eq!(answers.one_more(ip("2001:db8:0:1::1"), 0), Ok(()));
        assert_eq!(answers.one_more(ip("2001:db8:0:1:ffff::2"), 0), Err(1));
        assert_eq!(answers.one_more(ip("2001:db8:0:2::1"), 0), Ok(()));
        assert_eq!(answers.one_more(ip("192.0.2.1"), 0), Ok(()));
        assert_eq!(answers.one_more(ip("::ffff:192.0.2.1"), 0), Err(1));
    }

    #[test]
    fn without_a_bound_nothing_is_counted() {
        let mut answers = Answers::new(0, (1, 2));
        assert!((0..10_000).all(|_| answers.one_more(ip("192.0.2.1"), 0) == Ok(())));
        assert!(answers.counters.is_empty());
    }
}
