//! Which of this host's addresses answers what was sent to many hosts.
//!
//! RFC 1122 section 4.1.3.5: "When a UDP datagram is sent to [...] a broadcast or multicast address", the answer's
//! source "SHOULD be selected from among the IP addresses of the interface" the request came in by (section 3.3.4.2 for
//! the choice, RFC 1112 section 4 against the group's own). Linux says which address that is with IPv4
//! (`ipi_spec_dst`, ip(7)). With IPv6, and on other systems, it is chosen here.

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::thread::Builder;
use std::time::{Duration, Instant};

use super::{InterfaceAddress, broadcast_addresses, local_addresses};

/// How old the list of addresses may be, so that it is made once a second at most however much comes.
const FRESH: Duration = Duration::from_secs(1);

/// This host's addresses, as they were not long ago.
///
/// To list them takes milliseconds where there are many (15 with 1,000, up to 200 with 10,000 on Linux), so only the first
/// list is made by the caller; later ones are made by threads that end with them, one at a time, and taken in when they are
/// there.
///
/// ```
/// use shardgram_sys::interfaces::AnswerAddresses;
///
/// let mut addresses = AnswerAddresses::listed();
/// let (sender, group) = ("127.0.0.1".parse().unwrap(), "224.0.0.251".parse().unwrap());
/// assert!(addresses.is_for_many(group));
/// assert!(!addresses.is_for_many(sender));
/// // It came from this host, so this host's own address answers, by whatever interface it came.
/// assert_eq!(addresses.answering(0, sender), Some(sender));
/// ```
#[derive(Debug)]
pub struct AnswerAddresses {
    list: List,
    /// When the last list was begun.
    begun: Instant,
    /// By which the next one comes, if it is under way.
    coming: Option<Receiver<io::Result<List>>>,
    /// What is asked for again and again.
    last_unicast: Option<IpAddr>,
}

#[derive(Debug, Default)]
struct List {
    addresses: Vec<InterfaceAddress>,
    unicast: HashSet<IpAddr>,
    broadcasts: HashSet<Ipv4Addr>,
}

impl List {
    fn make() -> io::Result<Self> {
        let (addresses, broadcasts) = (local_addresses()?, broadcast_addresses()?);
        let unicast = addresses.iter().map(|one| one.address).filter(|ip| !is_among(&broadcasts, *ip));
        Ok(Self { unicast: unicast.collect(), addresses, broadcasts })
    }
}

impl AnswerAddresses {
    /// Lists them, of the network namespace of the calling thread. Where that cannot be done, broadcast addresses are not
    /// told from others, and no address answers, until it can.
    #[must_use]
    pub fn listed() -> Self {
        let begun = Instant::now();
        let list = List::make().inspect_err(cannot_be_listed).unwrap_or_default();
        Self { list, begun, coming: None, last_unicast: None }
    }

    /// The address that answers a sender whose datagram, sent to many, came by the interface with this index (0 where
    /// that is not known). `None` where no address suits: then routing chooses.
    ///
    /// A link-local sender is answered from a link-local address, any other from one of its own network, or else from
    /// that with the longest common prefix (RFC 6724 section 5, rules 2 and 8). An IPv6 address may be listed a second
    /// or two before it is usable (RFC 4862 section 5.4).
    pub fn answering(&mut self, interface: u32, sender: IpAddr) -> Option<IpAddr> {
        self.refresh();
        let on_it = |one: &&InterfaceAddress| interface == 0 || one.index == interface;
        best(self.list.addresses.iter().filter(on_it), interface != 0, sender)
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
        if self.list.unicast.contains(&ip) {
            return (false, true);
        }
        // It may have come with an interface that is not listed yet.
        let is_new = self.refresh();
        (self.list.broadcasts.contains(&v4), is_new)
    }

    /// Takes in a list that has been made, or has one made if the last is old; whether there is a new one.
    fn refresh(&mut self) -> bool {
        let made = match self.coming.as_ref().map(Receiver::try_recv) {
            Some(Err(TryRecvError::Empty)) => return false,
            Some(Err(TryRecvError::Disconnected)) => {
                Err(io::Error::other("the thread that lists them ended"))
            }
            Some(Ok(list)) => list,
            None => {
                let now = Instant::now();
                if now.saturating_duration_since(self.begun) >= FRESH {
                    (self.begun, self.coming) = (now, begin());
                }
                return false;
            }
        };
        self.coming = None;
        match made {
            Ok(list) => {
                (self.list, self.last_unicast) = (list, None);
                true
            }
            Err(error) => {
                cannot_be_listed(&error);
                false
            }
        }
    }
}

/// Has a list made. `None` if there are too many threads: it is tried again when the list is as old once more.
fn begin() -> Option<Receiver<io::Result<List>>> {
    let (tell, coming) = channel();
    let make = move || {
        // Nobody waits if the shard has ended.
        let _ = tell.send(List::make());
    };
    let thread = Builder::new().name("shardgram-list".to_owned()).spawn(make);
    thread.inspect_err(cannot_be_listed).ok().map(|_| coming)
}

fn cannot_be_listed(error: &io::Error) {
    tracing::debug!(%error, "this host's addresses cannot be listed");
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
        let mut addresses = AnswerAddresses::listed();
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
        let (ours, mut addresses) = (Ipv4Addr::new(127, 255, 255, 255), AnswerAddresses::listed());
        // As if its interface had come up since.
        addresses.list = List::default();
        assert!(!addresses.is_for_many(ours.into()), "nobody waits for the next list");
        addresses.begun = Instant::now().checked_sub(FRESH).expect("it runs that long");
        let end = Instant::now() + Duration::from_secs(30);
        while !addresses.is_for_many(ours.into()) {
            assert!(Instant::now() < end, "the list is made anew");
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_list_that_is_under_way_is_not_waited_for() {
        let mut addresses = AnswerAddresses::listed();
        let (tell, coming) = channel();
        (addresses.coming, addresses.begun) = (Some(coming), Instant::now());
        let later = Ipv4Addr::new(250, 0, 2, 255);
        assert!(!addresses.is_for_many(later.into()));
        let broadcasts = HashSet::from([later]);
        tell.send(Ok(List { broadcasts, ..List::default() })).expect("it is waited for");
        assert!(addresses.is_for_many(later.into()));
    }
}
