//! Which of this host's addresses answers what was sent to many hosts.
//!
//! RFC 1122 section 4.1.3.5: "When a UDP datagram is sent to [...] a broadcast or multicast address", the answer's
//! source "SHOULD be selected from among the IP addresses of the interface" the request came in by (section 3.3.4.2 for
//! the choice, RFC 1112 section 4 against the group's own). Linux says which address that is with IPv4
//! (`ipi_spec_dst`, ip(7)). With IPv6, and on other systems, it is chosen here.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::InterfaceAddress;
use super::lister::{AddressLister, List, Made};

/// How old the list of addresses may be, so that it is made once a second at most however much comes.
const FRESH: Duration = Duration::from_secs(1);

/// How long a new list is waited for when nobody asked for as long as that. The one there is may be of any age then, and who
/// asks first after a pause would be told what was true before it. To follow the host's addresses without a pause
/// instead would cost a descriptor and a thread's wake-ups also where nothing is ever sent to many. While it is asked again and
/// again nobody waits: the list is made anew beside, and is a second old or a little more. It is long enough for a hundred
/// addresses; where it takes longer the old list answers, once more. Of a shard's time it is a 500th at most.
const WAIT: Duration = Duration::from_millis(2);

/// This host's addresses, as they were not long ago.
///
/// They are listed by a thread ([`AddressLister`]), and what it has made is taken in when it is there. Only whoever asks first
/// after a second in which nobody did waits for it, for 2 ms at most.
///
/// ```
/// use shardgram_sys::interfaces::{AddressLister, AnswerAddresses};
///
/// let mut addresses = AnswerAddresses::of(&AddressLister::start()?);
/// let (sender, group) = ("127.0.0.1".parse().unwrap(), "224.0.0.251".parse().unwrap());
/// assert!(addresses.is_for_many(group));
/// assert!(!addresses.is_for_many(sender));
/// // It came from this host, so this host's own address answers, by whatever interface it came.
/// assert_eq!(addresses.answering(0, sender), Some(sender));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct AnswerAddresses {
    lister: AddressLister,
    list: Arc<List>,
    /// When the last list was asked for.
    begun: Instant,
    /// By which it comes, if it is under way.
    coming: Option<Receiver<Made>>,
    /// When the list was last looked at.
    looked: Instant,
    wait: Duration,
    /// What is asked for again and again.
    last_unicast: Option<IpAddr>,
}

impl AnswerAddresses {
    /// Those of the network namespace in which the lister was started, as it listed them then.
    #[must_use]
    pub fn of(lister: &AddressLister) -> Self {
        let (list, now) = (lister.first(), Instant::now());
        let lister = lister.clone();
        Self { lister, list, begun: now, coming: None, looked: now, wait: WAIT, last_unicast: None }
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
        let now = Instant::now();
        let after_a_pause = now.saturating_duration_since(std::mem::replace(&mut self.looked, now)) >= FRESH;
        // What was asked for before the pause is as old as that.
        let is_new = self.take_in(Duration::ZERO) && !after_a_pause;
        if self.coming.is_none() && now.saturating_duration_since(self.begun) >= FRESH {
            (self.begun, self.coming) = (now, Some(self.lister.ask()));
            return after_a_pause && self.take_in(self.wait);
        }
        is_new
    }

    /// Takes in the list that is under way, if it comes within this time; whether it did.
    fn take_in(&mut self, wait: Duration) -> bool {
        let Some(coming) = &self.coming else { return false };
        let made = match coming.recv_timeout(wait) {
            Err(RecvTimeoutError::Timeout) => return false,
            Err(RecvTimeoutError::Disconnected) | Ok(None) => None,
            Ok(Some(list)) => Some(list),
        };
        self.coming = None;
        let is_new = made.is_some();
        if let Some(list) = made {
            (self.list, self.last_unicast) = (list, None);
        }
        is_new
    }
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
    use std::collections::HashSet;
    use std::net::Ipv4Addr;

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
        let mut addresses = AnswerAddresses::of(&AddressLister::start().expect("a thread"));
        let mut is_for_many = |text: &str| addresses.is_for_many(text.parse().expect("an address"));
        for many in ["127.255.255.255", "255.255.255.255", "224.0.0.251", "ff02::fb", "0.0.0.0", "::"] {
            assert!(is_for_many(many), "{many}");
        }
        for one in ["127.0.0.1", "127.0.0.2", "192.0.2.1", "fe80::1", "::1", "127.0.0.1"] {
            assert!(!is_for_many(one), "{one}");
        }
    }

    fn pause(addresses: &mut AnswerAddresses) {
        let earlier = Instant::now().checked_sub(FRESH).expect("it runs that long");
        (addresses.begun, addresses.looked) = (earlier, earlier);
    }

    const OURS: Ipv4Addr = Ipv4Addr::new(127, 255, 255, 255);

    #[test]
    fn who_asks_first_after_a_pause_is_told_what_is() {
        let mut addresses = AnswerAddresses::of(&AddressLister::start().expect("a thread"));
        addresses.wait = Duration::from_secs(30);
        for _ in 0..2 {
            // As if its interface had come up since.
            addresses.list = Arc::default();
            let later = Instant::now() + Duration::from_secs(3_600);
            (addresses.begun, addresses.looked) = (later, later);
            assert!(!addresses.is_for_many(OURS.into()), "nobody waits while it is asked again and again");
            pause(&mut addresses);
            assert!(addresses.is_for_many(OURS.into()));
            addresses.list = Arc::default();
            pause(&mut addresses);
            let loopback = Ipv4Addr::LOCALHOST.into();
            assert_eq!(addresses.answering(0, loopback), Some(loopback));
            // One that was asked for before the pause, and has come since.
            addresses.list = Arc::default();
            let (tell, coming) = std::sync::mpsc::channel();
            tell.send(Some(Arc::default())).expect("it is waited for");
            pause(&mut addresses);
            addresses.coming = Some(coming);
            assert!(addresses.is_for_many(OURS.into()));
        }
    }

    #[test]
    fn a_list_that_takes_long_is_not_waited_for() {
        let (lister, asked) = AddressLister::by_hand();
        let mut addresses = AnswerAddresses::of(&lister);
        for _ in 0..2 {
            pause(&mut addresses);
            assert!(!addresses.is_for_many(OURS.into()));
        }
        let list = List { broadcasts: HashSet::from([OURS]), ..List::default() };
        asked.try_recv().expect("it was asked").send(Some(Arc::new(list))).expect("it is waited for");
        assert!(asked.try_recv().is_err(), "one at a time");
        assert!(addresses.is_for_many(OURS.into()));
    }

    #[test]
    fn while_it_is_asked_again_and_again_a_list_is_made_beside() {
        let mut addresses = AnswerAddresses::of(&AddressLister::start().expect("a thread"));
        addresses.list = Arc::default();
        let end = Instant::now() + Duration::from_secs(30);
        addresses.begun = Instant::now().checked_sub(FRESH).expect("it runs that long");
        while !addresses.is_for_many(OURS.into()) {
            assert!(Instant::now() < end, "the list is made anew");
            std::thread::yield_now();
        }
    }
}
