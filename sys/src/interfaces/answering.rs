//! Which of this host's addresses answers what was sent to many hosts.
//!
//! RFC 1122 section 4.1.3.5: "When a UDP datagram is sent to [...] a broadcast or multicast address", the answer's
//! source "SHOULD be selected from among the IP addresses of the interface" the request came in by (section 3.3.4.2 for
//! the choice, RFC 1112 section 4 against the group's own). Linux says which address that is with IPv4
//! (`ipi_spec_dst`, ip(7)). With IPv6, and on other systems, it is chosen here.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use super::{InterfaceAddress, broadcast_addresses, local_addresses};

/// How old the list of addresses may be, so that it is made once a second at most however much comes.
const FRESH: Duration = Duration::from_secs(1);

/// This host's addresses, as they were not long ago.
///
/// ```
/// use shardgram_sys::interfaces::AnswerAddresses;
///
/// let mut addresses = AnswerAddresses::default();
/// let (sender, group) = ("127.0.0.1".parse().unwrap(), "224.0.0.251".parse().unwrap());
/// assert!(addresses.is_for_many(group));
/// assert!(!addresses.is_for_many(sender));
/// // It came from this host, so this host's own address answers, by whatever interface it came.
/// assert_eq!(addresses.answering(0, sender), Some(sender));
/// ```
#[derive(Debug, Default)]
pub struct AnswerAddresses {
    listed: Vec<InterfaceAddress>,
    unicast: HashSet<IpAddr>,
    broadcasts: HashSet<Ipv4Addr>,
    read: Option<Instant>,
    /// What is asked for again and again.
    last_unicast: Option<IpAddr>,
}

impl AnswerAddresses {
    /// The address that answers a sender whose datagram, sent to many, came by the interface with this index (0 where
    /// that is not known). `None` where no address suits: then routing chooses.
    ///
    /// A link-local sender is answered from a link-local address, any other from one of its own network, or else from
    /// that with the longest common prefix (RFC 6724 section 5, rules 2 and 8). An IPv6 address may be listed a second
    /// or two before it is usable (RFC 4862 section 5.4).
    pub fn answering(&mut self, interface: u32, sender: IpAddr) -> Option<IpAddr> {
        self.refresh();
        let on_it = |one: &&InterfaceAddress| interface == 0 || one.index == interface;
        best(self.listed.iter().filter(on_it), interface != 0, sender)
    }

    /// Whether an address stands for many hosts or none: a group, a broadcast address of this host's networks, or the
    /// unspecified address.
    #[inline]
    pub fn is_for_many(&mut self, ip: IpAddr) -> bool {
        if self.last_unicast == Some(ip) {
            return false;
        }
        let (many, certain) = self.look_up(ip);
        if !many && certain {
            self.last_unicast = Some(ip);
        }
        many
    }

    /// The answer, and whether it can be relied on from now on: not if the address is unknown and the list is not new.
    fn look_up(&mut self, ip: IpAddr) -> (bool, bool) {
        let IpAddr::V4(v4) = ip else { return (ip.is_multicast() || ip.is_unspecified(), true) };
        if v4.is_multicast() || v4.is_broadcast() || v4.is_unspecified() {
            return (true, true);
        }
        if self.unicast.contains(&ip) {
            return (false, true);
        }
        // It may have come with an interface that is not listed yet.
        let is_new = self.refresh();
        (self.broadcasts.contains(&v4), is_new)
    }

    /// Makes the list anew if it is old; whether it did.
    fn refresh(&mut self) -> bool {
        let now = Instant::now();
        if self.read.is_some_and(|read| now.saturating_duration_since(read) < FRESH) {
            return false;
        }
        self.read = Some(now);
        match local_addresses().and_then(|listed| Ok((listed, broadcast_addresses()?))) {
            Ok((listed, broadcasts)) => {
                let unicast = listed.iter().map(|one| one.address);
                self.unicast = unicast.filter(|ip| !is_among(&broadcasts, *ip)).collect();
                (self.listed, self.broadcasts, self.last_unicast) = (listed, broadcasts, None);
            }
            // Broadcasts cannot be told from others then, and the kernel chooses who answers groups.
            Err(error) => tracing::debug!(%error, "this host's addresses cannot be listed"),
        }
        true
    }
}

fn is_among(broadcasts: &HashSet<Ipv4Addr>, ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V4(v4) if broadcasts.contains(&v4))
}

/// The best of an interface's addresses; where it is not known, only one of the sender's own network.
fn best<'a>(
    addresses: impl Iterator<Item = &'a InterfaceAddress>,
    of_interface: bool,
    sender: IpAddr,
) -> Option<IpAddr> {
    let suits = |one: &&InterfaceAddress| match (one.address, sender) {
        (IpAddr::V4(_), IpAddr::V4(_)) => true,
        (IpAddr::V6(ours), IpAddr::V6(theirs)) => is_link_local(ours) == is_link_local(theirs),
        _ => false,
    };
    let rank = |one: &InterfaceAddress| {
        let common = common_bits(one.address, sender);
        (common >= u32::from(one.prefix_len), common)
    };
    let mut found: Option<(&InterfaceAddress, (bool, u32))> = None;
    for one in addresses.filter(suits) {
        let rank = rank(one);
        // Of equals the first: an interface lists its primary address before the others.
        if (of_interface || rank.0) && found.is_none_or(|(_, best)| rank > best) {
            found = Some((one, rank));
        }
    }
    found.map(|(one, _)| one.address)
}

fn is_link_local(ip: Ipv6Addr) -> bool {
    ip.is_unicast_link_local()
}

/// How many leading bits two addresses of one family have in common.
fn common_bits(a: IpAddr, b: IpAddr) -> u32 {
    match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses() -> Vec<InterfaceAddress> {
        let of = |(index, address, prefix_len): (u32, &str, u8)| InterfaceAddress {
            name: format!("e{index}"),
            index,
            address: address.parse().expect("an address"),
            broadcast: None,
            prefix_len,
            is_loopback: false,
        };
        let all = [
            (1, "10.1.0.1", 16),
            (1, "10.1.2.1", 24),
            (1, "2001:db8:1::1", 64),
            (1, "fd00:1::1", 64),
            (1, "fe80::1", 64),
            (2, "10.2.0.1", 24),
            (2, "fe80::2", 64),
        ];
        all.map(of).into()
    }

    #[test]
    fn the_interfaces_own_address_answers() {
        let all = addresses();
        let answering = |interface, sender: &str| {
            let on_it = all.iter().filter(|one| interface == 0 || one.index == interface);
            best(on_it, interface != 0, sender.parse().expect("an address")).map(|ip| ip.to_string())
        };
        let cases = [
            (1, "10.1.7.7", Some("10.1.0.1")),
            (1, "10.1.2.7", Some("10.1.2.1")),
            (2, "10.1.2.7", Some("10.2.0.1")), // not what routing would choose
            (2, "192.0.2.7", Some("10.2.0.1")),
            (0, "10.2.0.7", Some("10.2.0.1")),
            (0, "192.0.2.7", None),
            (1, "fe80::7", Some("fe80::1")),
            (2, "fe80::7", Some("fe80::2")),
            (1, "2001:db8:1::7", Some("2001:db8:1::1")),
            (1, "fd00:1::7", Some("fd00:1::1")),
            (1, "fd00:9::7", Some("fd00:1::1")),
            (2, "2001:db8:1::7", None), // a link-local address reaches nobody outside
            (3, "10.1.2.7", None),
        ];
        for (interface, sender, expected) in cases {
            assert_eq!(answering(interface, sender).as_deref(), expected, "{sender} by {interface}");
        }
    }

    #[test]
    fn addresses_of_many_hosts_are_known() {
        let mut addresses = AnswerAddresses::default();
        let mut is_for_many = |text: &str| addresses.is_for_many(text.parse().expect("an address"));
        for many in ["127.255.255.255", "255.255.255.255", "224.0.0.251", "ff02::fb", "0.0.0.0", "::"] {
            assert!(is_for_many(many), "{many}");
        }
        for one in ["127.0.0.1", "127.0.0.2", "192.0.2.1", "fe80::1", "::1", "127.0.0.1"] {
            assert!(!is_for_many(one), "{one}");
        }
    }

    #[test]
    fn what_an_old_list_does_not_know_is_asked_again() {
        let mut addresses = AnswerAddresses::default();
        // Of a reserved network (240.0.0.0/4), which no host has yet.
        let later = Ipv4Addr::new(250, 0, 2, 255);
        addresses.refresh();
        assert!(!addresses.is_for_many(later.into()));
        // The interface comes up; the list is made anew in time.
        addresses.broadcasts.insert(later);
        assert!(addresses.is_for_many(later.into()));
    }
}
