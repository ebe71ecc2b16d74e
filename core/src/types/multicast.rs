//! Groups: which are joined where, and what can go wrong with that.
//!
//! A datagram that is sent to a multicast group (RFC 1112, RFC 4291 section 2.7) reaches every socket that joined the
//! group and has the port. Each of them gets a copy, members of one port group too, so a membership stands for one
//! shard unless copies are asked for.

use std::fmt;
use std::net::IpAddr;

use crate::types::interface::Interface;
pub use crate::types::join_error::JoinError;

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
    pub(crate) fn conflicts(&self, other: &Self) -> bool {
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
