//! Groups: which are joined where, and what can go wrong with that.
//!
//! A datagram that is sent to a multicast group (RFC 1112, RFC 4291 section 2.7) reaches every socket that joined the
//! group and has the port. Each of them gets a copy, members of one port group too, so a membership stands for one
//! shard unless copies are asked for.

use std::fmt;
use std::net::IpAddr;

use crate::config::Config;
use crate::interface::Interface;
pub use crate::join_error::JoinError;

/// Memberships that a configuration may have, and those that a shard may ask for in one turn. What a socket may have is
/// for the system to say: [`JoinError::SystemLimit`].
pub(crate) const MAX_MEMBERSHIPS: usize = 1_024;

/// Which shards' listeners join a group.
///
/// ```
/// use shardgram_core::{Membership, config::Hearers};
/// let group = Membership::any_source([239, 1, 2, 3]);
/// assert_eq!(group.hearers(), Hearers::Shard(0));
/// assert_eq!(group.every_shard().hearers(), Hearers::EveryShard);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Hearers {
    /// One: each datagram is received once.
    Shard(u16),
    /// All: each gets a copy of every datagram.
    EveryShard,
}

/// A multicast group to hear: [`crate::Config::join`], [`crate::Io::join`].
///
/// ```
/// use shardgram_core::{Config, Interface, Membership};
/// // What anybody sends to the group, by two interfaces.
/// let mdns = Membership::any_source([224, 0, 0, 251]);
/// // What one source sends to it (RFC 4607).
/// let feed = Membership::source_specific([232, 1, 1, 1], [192, 0, 2, 9]).unwrap();
/// let config = Config::new()
///     .listen("0.0.0.0:5353".parse().unwrap())
///     .join(mdns.clone().on(Interface::named("eth0").unwrap()))
///     .join(mdns.on(Interface::named("eth1").unwrap()))
///     .join(feed);
/// assert!(config.validate().is_ok());
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Membership {
    group: IpAddr,
    source: Option<IpAddr>,
    interface: Option<Interface>,
    hearers: Hearers,
}

impl Membership {
    /// Hears what anybody sends to the group, by the interface of the route, on shard 0.
    ///
    /// ```
    /// use shardgram_core::Membership;
    /// let all_nodes = Membership::any_source("ff02::1".parse::<std::net::IpAddr>().unwrap());
    /// assert_eq!(all_nodes.source(), None);
    /// ```
    pub fn any_source(group: impl Into<IpAddr>) -> Self {
        let (source, interface) = (None, None);
        Self { group: group.into(), source, interface, hearers: Hearers::Shard(0) }
    }

    /// Hears what one source sends to the group (RFC 4607); several of them hear several sources. On one socket a
    /// group is joined either for any source or for named ones.
    ///
    /// # Errors
    /// [`JoinError::NotASource`] if the source is not a unicast address of the group's family.
    ///
    /// ```
    /// use shardgram_core::{JoinError, Membership};
    /// let feed = Membership::source_specific([232, 1, 1, 1], [192, 0, 2, 9]).unwrap();
    /// assert_eq!(feed.source(), Some([192, 0, 2, 9].into()));
    /// let error = Membership::source_specific([232, 1, 1, 1], [224, 0, 0, 1]).unwrap_err();
    /// assert!(matches!(error, JoinError::NotASource { .. }));
    /// ```
    pub fn source_specific(group: impl Into<IpAddr>, source: impl Into<IpAddr>) -> Result<Self, JoinError> {
        let (group, source) = (group.into(), source.into());
        let unicast = !is_for_many(source) && !source.is_unspecified();
        if group.is_ipv4() != source.is_ipv4() || !unicast {
            return Err(JoinError::NotASource { group, from: source });
        }
        Ok(Self { source: Some(source), ..Self::any_source(group) })
    }

    /// By which interface. What comes to the group by others is not heard. Default: that of the route, which a host
    /// with several had better not leave it to.
    ///
    /// ```
    /// use shardgram_core::{Interface, Membership};
    /// let second = Interface::named("eth1").unwrap();
    /// assert_eq!(Membership::any_source([239, 1, 2, 3]).on(second).interface(), Some(second));
    /// ```
    #[must_use]
    pub fn on(mut self, interface: Interface) -> Self {
        self.interface = Some(interface);
        self
    }

    /// On which shard's listener. Default 0. What comes is handed to the shard that owns the sender's address and
    /// port (some kernels do so themselves), like everything that comes by a listener, so a sender is the same peer whether it writes to the group or to
    /// an address of this host. [`crate::Io::join`] joins where it is called, whichever shard this says. On systems where all
    /// shards share one socket it is that one.
    ///
    /// To have a fast feed handled where it is received, join it on an endpoint ([`crate::Io::join`]): peers of an
    /// endpoint live on its shard.
    ///
    /// ```
    /// use shardgram_core::{Membership, config::Hearers};
    /// let group = Membership::any_source([239, 1, 2, 3]).shard(3);
    /// assert_eq!(group.hearers(), Hearers::Shard(3));
    /// ```
    #[must_use]
    pub fn shard(mut self, shard: u16) -> Self {
        self.hearers = Hearers::Shard(shard);
        self
    }

    /// On every shard's listener: each gets a copy of all that is sent to the group, and handles it itself. A sender is
    /// then a peer of each shard; what it sends to an address of this host goes to the shard that owns it, as ever.
    ///
    /// ```
    /// use shardgram_core::{Config, Membership};
    /// let clock = Membership::any_source([239, 1, 2, 3]).every_shard();
    /// let config = Config::new().shards(4).listen(([0, 0, 0, 0], 9000).into()).join(clock);
    /// assert!(config.validate().is_ok());
    /// ```
    #[must_use]
    pub fn every_shard(mut self) -> Self {
        self.hearers = Hearers::EveryShard;
        self
    }

    /// The group.
    ///
    /// ```
    /// use shardgram_core::Membership;
    /// assert!(Membership::any_source([239, 1, 2, 3]).group().is_multicast());
    /// ```
    pub fn group(&self) -> IpAddr {
        self.group
    }

    /// The one source that is heard, `None` for any.
    ///
    /// ```
    /// use shardgram_core::Membership;
    /// assert!(Membership::any_source([239, 1, 2, 3]).source().is_none());
    /// ```
    pub fn source(&self) -> Option<IpAddr> {
        self.source
    }

    /// By which interface.
    ///
    /// ```
    /// use shardgram_core::Membership;
    /// assert_eq!(Membership::any_source([239, 1, 2, 3]).interface(), None);
    /// ```
    pub fn interface(&self) -> Option<Interface> {
        self.interface
    }

    /// On which shards.
    ///
    /// ```
    /// use shardgram_core::{Membership, config::Hearers};
    /// assert_eq!(Membership::any_source([239, 1, 2, 3]).hearers(), Hearers::Shard(0));
    /// ```
    pub fn hearers(&self) -> Hearers {
        self.hearers
    }

    /// What is wrong with it wherever it is joined.
    pub(crate) fn check(&self) -> Result<(), JoinError> {
        if !self.group.is_multicast() {
            return Err(JoinError::NotMulticast { group: self.group });
        }
        Ok(())
    }

    /// Whether it differs from the other at most in who hears it.
    pub(crate) fn is_for_the_same(&self, other: &Self) -> bool {
        (self.group, self.source, self.interface) == (other.group, other.source, other.interface)
    }

    /// Whether a socket cannot have both.
    fn conflicts(&self, other: &Self) -> bool {
        let same_way = self.group == other.group && self.interface == other.interface;
        let same_source = self.source == other.source || self.source.is_none() || other.source.is_none();
        same_way && same_source && self.hearers.share(other.hearers)
    }
}

impl Hearers {
    fn share(self, other: Self) -> bool {
        self == other || self == Self::EveryShard || other == Self::EveryShard
    }
}

impl fmt::Display for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.group)?;
        if let Some(source) = self.source {
            write!(f, " from {source}")?;
        }
        match &self.interface {
            None => Ok(()),
            Some(interface) => write!(f, " by the interface {interface}"),
        }
    }
}

/// Whether an address stands for many hosts wherever it is used.
pub(crate) fn is_for_many(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_multicast() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_multicast(),
    }
}

/// Groups and broadcasts.
impl Config {
    /// One more multicast group to hear, on the wildcard listeners of its family (`0.0.0.0`, `[::]`), whatever their
    /// port. Default: none, range up to 1,024; of a socket Linux allows 20 (net.ipv4.igmp_max_memberships). On Linux a
    /// listener hears no group that it did not join itself, the host's other programs notwithstanding (IP_MULTICAST_ALL
    /// in ip(7)).
    ///
    /// What came to a group says so ([`crate::Io::group`]). Answers leave from this host's address on the interface by
    /// which it came, never from the group's.
    ///
    /// ```
    /// use shardgram_core::{Config, Membership};
    /// let ssdp = Membership::any_source([239, 255, 255, 250]);
    /// let config = Config::new().listen("0.0.0.0:1900".parse().unwrap()).join(ssdp);
    /// assert_eq!(config.memberships().len(), 1);
    /// assert!(config.validate().is_ok());
    /// ```
    #[must_use]
    pub fn join(mut self, membership: Membership) -> Self {
        self.memberships.push(membership);
        self
    }

    /// Whether what is sent to a group is heard on this host too, by those that joined it here (IP_MULTICAST_LOOP in
    /// ip(7), IPV6_MULTICAST_LOOP in ipv6(7)). Default true, as the system's. The sending server is among them, if it
    /// joined the group. On Windows, where the receiving socket decides that, `false` is refused when the server is bound.
    ///
    /// ```
    /// use shardgram_core::Config;
    /// assert!(!Config::new().multicast_loop(false).sends_to_groups().looped);
    /// ```
    #[must_use]
    pub fn multicast_loop(mut self, on: bool) -> Self {
        self.multicast_loop = on;
        self
    }

    /// By which interface datagrams to groups leave (IP_MULTICAST_IF in ip(7), IPV6_MULTICAST_IF in ipv6(7)). Default:
    /// that of the route. One that this host does not have is refused when the server is bound.
    ///
    /// ```
    /// use shardgram_core::{Config, Interface};
    /// let second = Interface::named("eth1").unwrap();
    /// assert_eq!(Config::new().multicast_interface(second).sends_to_groups().interface, Some(second));
    /// ```
    #[must_use]
    pub fn multicast_interface(mut self, interface: Interface) -> Self {
        self.multicast_interface = Some(interface);
        self
    }

    /// Whether datagrams may be sent to broadcast addresses (SO_BROADCAST in socket(7)). Default false: such a send
    /// fails as [`crate::PeerError::Forbidden`]. Broadcasts are received by wildcard listeners whatever this says, each
    /// once, and answered from this host's own address.
    ///
    /// ```
    /// use shardgram_core::Config;
    /// assert!(Config::new().broadcast(true).sends_broadcasts());
    /// ```
    #[must_use]
    pub fn broadcast(mut self, on: bool) -> Self {
        self.broadcast = on;
        self
    }

    /// The groups to join.
    ///
    /// ```
    /// assert!(shardgram_core::Config::new().memberships().is_empty());
    /// ```
    pub fn memberships(&self) -> &[Membership] {
        &self.memberships
    }

    /// How datagrams to groups leave.
    ///
    /// ```
    /// use shardgram_core::Config;
    /// assert_eq!(Config::new().multicast_hops(4).sends_to_groups().hops, 4);
    /// ```
    pub fn sends_to_groups(&self) -> ToGroups {
        let (hops, looped, interface) = (self.multicast_hops, self.multicast_loop, self.multicast_interface);
        ToGroups { hops, looped, interface }
    }

    /// Whether datagrams may be sent to broadcast addresses.
    ///
    /// ```
    /// assert!(!shardgram_core::Config::new().sends_broadcasts());
    /// ```
    pub fn sends_broadcasts(&self) -> bool {
        self.broadcast
    }

    pub(crate) fn check_memberships(&self) -> Result<(), JoinError> {
        if self.memberships.len() > MAX_MEMBERSHIPS {
            return Err(JoinError::TooMany { limit: MAX_MEMBERSHIPS });
        }
        for (at, membership) in self.memberships.iter().enumerate() {
            membership.check()?;
            let group = membership.group;
            if let Hearers::Shard(shard) = membership.hearers
                && shard >= self.shards
            {
                return Err(JoinError::NoSuchShard { shard, shards: self.shards });
            }
            let hears = |address: &std::net::SocketAddr| {
                address.ip().is_unspecified() && address.is_ipv4() == group.is_ipv4()
            };
            if !self.listen.iter().any(hears) {
                return Err(JoinError::NoListener { group });
            }
            if self.memberships[..at].iter().any(|other| other.conflicts(membership)) {
                return Err(JoinError::AlreadyJoined);
            }
            let everywhere = |one: &Membership| one.hearers == Hearers::EveryShard;
            let mixed =
                |other: &&Membership| other.group == group && everywhere(other) != everywhere(membership);
            if self.memberships[..at].iter().any(|other| mixed(&other)) {
                return Err(JoinError::MixedHearers { group });
            }
        }
        Ok(())
    }
}

/// How datagrams to groups leave.
///
/// ```
/// use shardgram_core::{Config, config::ToGroups};
/// let config = Config::new();
/// let ToGroups { hops, looped, interface } = config.sends_to_groups();
/// assert_eq!((hops, looped, interface), (1, true, None));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ToGroups {
    /// Routers on their way, and one: [`Config::multicast_hops`].
    pub hops: u8,
    /// Whether this host hears them: [`Config::multicast_loop`].
    pub looped: bool,
    /// By which interface: [`Config::multicast_interface`].
    pub interface: Option<Interface>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ConfigError;

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
            assert_eq!(refusal(&both), Some(JoinError::AlreadyJoined), "{:?}", both.memberships());
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
