//! Groups and broadcasts: which are heard, and how what is sent to them leaves.

use crate::config::{Config, Settings};
use crate::types::interface::Interface;
use crate::types::multicast::{Hearers, JoinError, MAX_MEMBERSHIPS, Membership};

impl Config {
    /// One more multicast group to hear, on the wildcard listeners of its family (`0.0.0.0`, `[::]`), whatever their
    /// port. Default: none, range up to 1,024; of a socket Linux allows 20 (net.ipv4.igmp_max_memberships). On Linux a
    /// listener hears no group that it did not join itself, the host's other programs notwithstanding (IP_MULTICAST_ALL
    /// in ip(7)).
    ///
    /// On Linux a group that names an interface is joined anew when there is another interface of that name or address. It
    /// takes a descriptor for each listener that joins it. One without an interface is lost with the interface that
    /// the route led to.
    ///
    /// What came to a group says so ([`crate::Io::group`]). Answers leave from this host's address on the interface by
    /// which it came, never from the group's.
    ///
    /// ```
    /// use shardgram_core::{Config, Membership};
    /// let ssdp = Membership::any_source([239, 255, 255, 250]);
    /// let config = Config::new().listen("0.0.0.0:1900".parse().unwrap()).join(ssdp);
    /// assert_eq!(config.settings().memberships.len(), 1);
    /// assert!(config.validate().is_ok());
    /// ```
    #[must_use]
    pub fn join(mut self, membership: Membership) -> Self {
        self.settings.memberships.push(membership);
        self
    }

    /// How far datagrams to multicast groups go: the routers on their way, and one (IP_MULTICAST_TTL in ip(7),
    /// IPV6_MULTICAST_HOPS in ipv6(7)). Default 1: they stay in the network of this host. Range 0 to 255; 0 keeps them
    /// on this host. Those to single hosts have the system's.
    #[must_use]
    pub fn multicast_hops(mut self, multicast_hops: u8) -> Self {
        self.settings.multicast_hops = multicast_hops;
        self
    }

    /// Whether what is sent to a group is heard on this host too, by those that joined it here (IP_MULTICAST_LOOP in
    /// ip(7), IPV6_MULTICAST_LOOP in ipv6(7)). Default true, as the system's. The sending server is among them, if it
    /// joined the group. On Windows, where the receiving socket decides that, `false` is refused when the server is bound.
    #[must_use]
    pub fn multicast_loop(mut self, on: bool) -> Self {
        self.settings.multicast_loop = on;
        self
    }

    /// By which interface datagrams to groups leave (IP_MULTICAST_IF in ip(7), IPV6_MULTICAST_IF in ipv6(7)). Default:
    /// that of the route. One that this host does not have is refused when the server is bound. On Linux listeners send by
    /// another one of that name or address when it is made anew; it takes a descriptor for each.
    ///
    /// ```
    /// use shardgram_core::{Config, Interface};
    /// let second = Interface::named("eth1").unwrap();
    /// assert_eq!(Config::new().multicast_interface(second).settings().multicast_interface, Some(second));
    /// ```
    #[must_use]
    pub fn multicast_interface(mut self, interface: Interface) -> Self {
        self.settings.multicast_interface = Some(interface);
        self
    }

    /// Whether datagrams may be sent to broadcast addresses (SO_BROADCAST in socket(7)). Default false: such a send
    /// fails as [`crate::PeerError::Forbidden`]. Broadcasts are received by wildcard listeners whatever this says, each
    /// once, and answered from this host's own address.
    #[must_use]
    pub fn broadcast(mut self, on: bool) -> Self {
        self.settings.broadcast = on;
        self
    }

    pub(in crate::config) fn check_memberships(&self) -> Result<(), JoinError> {
        let Settings { memberships, listen, shards, .. } = &self.settings;
        if memberships.len() > MAX_MEMBERSHIPS {
            return Err(JoinError::TooMany { limit: MAX_MEMBERSHIPS });
        }
        for (at, membership) in memberships.iter().enumerate() {
            membership.check()?;
            let group = membership.group();
            if let Hearers::Shard(shard) = membership.hearers()
                && shard >= *shards
            {
                return Err(JoinError::NoSuchShard { shard, shards: *shards });
            }
            let hears = |address: &std::net::SocketAddr| {
                address.ip().is_unspecified() && address.is_ipv4() == group.is_ipv4()
            };
            if !listen.iter().any(hears) {
                return Err(JoinError::NoListener { group });
            }
            if memberships[..at].iter().any(|other| other.conflicts(membership)) {
                return Err(JoinError::AlreadyJoined);
            }
            let everywhere = |one: &Membership| one.hearers() == Hearers::EveryShard;
            let mixed =
                |other: &&Membership| other.group() == group && everywhere(other) != everywhere(membership);
            if memberships[..at].iter().any(|other| mixed(&other)) {
                return Err(JoinError::MixedHearers { group });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::types::error::ConfigError;

    fn refusal(config: &Config) -> Option<JoinError> {
        match config.validate() {
            Ok(()) => None,
            Err(ConfigError::Join(error)) => Some(error),
            Err(other) => panic!("{other}"),
        }
    }

    fn group(text: &str) -> Membership {
        Membership::any_source(text.parse::<IpAddr>().expect("an address"))
    }

    fn both_wildcards() -> Config {
        let config = Config::new().listen("0.0.0.0:5353".parse().expect("an address"));
        config.listen("[::]:5353".parse().expect("an address")).shards(2)
    }

    #[test]
    fn groups_of_both_families_are_joined_in_every_way() {
        let source: IpAddr = "fd00::9".parse().expect("an address");
        let feed = Membership::source_specific("ff35::1".parse::<IpAddr>().expect("an address"), source);
        let config = both_wildcards()
            .join(group("224.0.0.251"))
            .join(group("224.0.0.251").on(Interface::named("eth1").expect("a name")))
            .join(group("239.1.2.3").shard(1))
            .join(group("ff02::fb").every_shard())
            .join(feed.expect("a source"));
        assert_eq!(refusal(&config), None);
    }

    #[test]
    fn addresses_of_one_host_are_no_groups() {
        for text in ["192.0.2.1", "255.255.255.255", "0.0.0.0", "fd00::1", "::"] {
            let no_group = JoinError::NotMulticast { group: text.parse().expect("an address") };
            assert_eq!(refusal(&both_wildcards().join(group(text))), Some(no_group));
        }
    }

    #[test]
    fn sources_are_single_hosts_of_the_same_family() {
        let of = |source: &str| {
            Membership::source_specific([232, 1, 1, 1], source.parse::<IpAddr>().expect("an address"))
        };
        assert!(of("192.0.2.9").is_ok());
        for source in ["fd00::9", "232.1.1.1", "255.255.255.255", "0.0.0.0"] {
            assert!(matches!(of(source), Err(JoinError::NotASource { .. })), "{source}");
        }
    }

    #[test]
    fn somebody_has_to_receive_it() {
        let specific = Config::new().listen("192.0.2.1:5353".parse().expect("an address"));
        let wildcard = Config::new().listen("0.0.0.0:5353".parse().expect("an address"));
        assert_eq!(refusal(&wildcard.clone().join(group("224.0.0.251"))), None);
        for (config, text) in [(specific, "224.0.0.251"), (wildcard, "ff02::fb"), (Config::new(), "ff02::fb")]
        {
            let refused = refusal(&config.join(group(text)));
            let error = refused.expect("nothing takes it");
            assert!(matches!(error, JoinError::NoListener { .. }), "{error}");
            let remedy = if text.contains(':') { "[::]" } else { "0.0.0.0" };
            assert!(error.to_string().contains(remedy), "{error}");
        }
    }

    #[test]
    fn shards_are_those_there_are() {
        let refused = refusal(&both_wildcards().join(group("224.0.0.251").shard(2)));
        assert_eq!(refused, Some(JoinError::NoSuchShard { shard: 2, shards: 2 }));
    }

    #[test]
    fn every_shard_hears_a_group_or_one_does() {
        let by = |index| group("239.1.2.3").on(Interface::index(index).expect("an index"));
        let mixed = both_wildcards().join(by(1).every_shard()).join(by(2));
        let group = [239, 1, 2, 3].into();
        assert_eq!(refusal(&mixed), Some(JoinError::MixedHearers { group }));
        let alike = both_wildcards().join(by(1).every_shard()).join(by(2).every_shard());
        assert_eq!(refusal(&alike), None);
    }

    #[test]
    fn a_socket_joins_a_group_once() {
        let one = group("239.1.2.3");
        let from = |last| Membership::source_specific([239, 1, 2, 3], [192, 0, 2, last]).expect("a source");
        let twice = [
            (one.clone(), one.clone()),
            (one.clone(), one.clone().every_shard()),
            (one.clone(), from(1)),
            (from(1), from(1)),
        ];
        for (first, second) in twice {
            let both = both_wildcards().join(first).join(second);
            assert_eq!(refusal(&both), Some(JoinError::AlreadyJoined), "{:?}", both.settings.memberships);
        }
        for (first, second) in [
            (one.clone(), one.clone().shard(1)),
            (from(1), from(2)),
            (one.clone(), one.on(Interface::index(2).expect("an index"))),
        ] {
            assert_eq!(refusal(&both_wildcards().join(first).join(second)), None);
        }
    }

    #[test]
    fn there_are_not_more_than_a_bound() {
        let groups =
            (0..=MAX_MEMBERSHIPS).map(|at| Membership::any_source([239, 0, (at >> 8) as u8, at as u8]));
        let config = groups.fold(both_wildcards(), Config::join);
        assert_eq!(refusal(&config), Some(JoinError::TooMany { limit: MAX_MEMBERSHIPS }));
    }
}
