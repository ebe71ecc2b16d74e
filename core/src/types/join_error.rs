//! Why a group was not joined, or not left.

use std::net::IpAddr;

use crate::types::interface::Interface;

/// Why a group was not joined, or not left. Each message names the cause and the remedy.
///
/// ```
/// use shardgram_core::{Config, ConfigError, JoinError, Membership};
/// let config = Config::new().join(Membership::any_source([192, 0, 2, 1]));
/// let group = [192, 0, 2, 1].into();
/// assert_eq!(config.validate(), Err(ConfigError::Join(JoinError::NotMulticast { group })));
/// ```
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// The address stands for one host.
    #[error("{group} is no multicast group: name one of 224.0.0.0/4 or ff00::/8")]
    NotMulticast {
        /// What was to be joined.
        group: IpAddr,
    },
    /// The source stands for many hosts or none, or is of the other family.
    #[error("{from} cannot be a source of {group}: name a unicast address of its family")]
    NotASource {
        /// The group.
        group: IpAddr,
        /// What was named as its source.
        from: IpAddr,
    },
    /// No socket could receive what is sent to the group: one that is bound to an address of this host does not.
    #[error("nothing receives what is sent to {group}: listen on {}, or bind the endpoint to it", any(*group))]
    NoListener {
        /// The group.
        group: IpAddr,
    },
    /// There are fewer shards.
    #[error("shard {shard} is to join a group and there are {shards}: name one below that")]
    NoSuchShard {
        /// The shard that was named.
        shard: u16,
        /// How many there are.
        shards: u16,
    },
    /// More memberships than may be asked for at once.
    #[error("more than {limit} groups are to be joined at once: join fewer")]
    TooMany {
        /// How many may be.
        limit: usize,
    },
    /// The socket has joined the group by this interface, for this source or for any.
    #[error("the group is joined already, for this source or for any: join it once")]
    AlreadyJoined,
    /// One membership has every shard hear the group and another has one shard do so: whose its senders are would depend on
    /// the way by which they write.
    #[error("{group} is to be heard by every shard and by one: choose one of the two")]
    MixedHearers {
        /// The group.
        group: IpAddr,
    },
    /// The socket has not joined it.
    #[error("the group is not joined in this way: leave it as it was joined")]
    NotJoined,
    /// This host has no such interface.
    #[error("this host has not the interface {0}: `ip link` and `ip addr` list what there is")]
    UnknownInterface(Interface),
    /// No interface was named and no route leads to the group.
    #[error("no route leads to {group}, so its interface has to be named")]
    NoRoute {
        /// The group.
        group: IpAddr,
    },
    /// The system allows the socket no more groups or sources.
    #[error("the system allows this socket no more of {group}: raise {}", limits(*group))]
    SystemLimit {
        /// The group.
        group: IpAddr,
    },
    /// There is no such listener or endpoint on this shard, or it is not open.
    #[error("there is no such listener or endpoint on this shard, or it is not open: open one first")]
    NoSuchSocket,
    /// This system or driver cannot do it.
    #[error("{what} cannot be had here: {remedy}")]
    Unsupported {
        /// What it was.
        what: &'static str,
        /// What can be done in its place.
        remedy: &'static str,
    },
    /// The system refused for another reason.
    #[error("the system refused to join or leave the group (system error {errno}, errno(3))")]
    System {
        /// The system's error number.
        errno: i32,
    },
}

impl JoinError {
    /// Where all shards share one socket nobody has a copy of his own.
    #[doc(hidden)]
    #[must_use]
    pub const fn no_copies() -> Self {
        Self::Unsupported {
            what: "a copy for each shard, where all shards share one socket,",
            remedy: "have one shard hear the group",
        }
    }
}

/// The address to listen on for groups of this one's family.
fn any(group: IpAddr) -> &'static str {
    if group.is_ipv4() { "0.0.0.0" } else { "[::]" }
}

/// What bounds the memberships of a socket (ip(7), and Documentation/networking/ip-sysctl of Linux).
fn limits(group: IpAddr) -> &'static str {
    if group.is_ipv4() {
        "net.ipv4.igmp_max_memberships (20 by default), and net.ipv4.igmp_max_msf (10) for sources"
    } else {
        "net.core.optmem_max, and net.ipv6.mld_max_msf (64 by default) for sources"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_one_line_and_name_the_remedy() {
        let v4: IpAddr = [239, 1, 2, 3].into();
        let remedies = [
            (JoinError::SystemLimit { group: v4 }, "net.ipv4.igmp_max_memberships (20"),
            (
                JoinError::UnknownInterface(Interface::named("eth9").expect("a name")),
                "the interface eth9: `ip link`",
            ),
            (JoinError::NoRoute { group: v4 }, "has to be named"),
            (JoinError::NotASource { group: v4, from: v4 }, "unicast address of its family"),
        ];
        for (error, remedy) in remedies {
            let text = error.to_string();
            assert!(text.contains(remedy) && !text.contains('\n'), "{text}");
        }
    }
}
