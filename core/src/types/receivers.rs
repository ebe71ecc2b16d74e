//! Which shards receive at an address that is listened on.

use crate::types::names::named;

/// Which shards receive what is sent to an address listened on. The others are handed theirs through mailboxes.
///
/// ```
/// use shardgram_core::Receivers;
/// assert_eq!("per-shard".parse(), Ok(Receivers::PerShard));
/// assert_eq!(Receivers::default().to_string(), "auto");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Receivers {
    /// Every shard where the system divides what comes to a port among several sockets (Linux, FreeBSD), one shard
    /// for each address where it does not (macOS, OpenBSD, NetBSD, Windows). The ready line says if it is one.
    #[default]
    Auto,
    /// Every shard has a listener of its own at each address, or an error that says why it cannot.
    PerShard,
    /// One shard for each address listened on, by turns: the first address is received by shard 0, the second by shard
    /// 1, and so on. It copies each datagram that another shard owns into that one's mailbox; the other shards answer
    /// by a duplicate of the listener. Served by mio only. Groups are joined on the shared sockets: by one shard, since to
    /// others they are [`crate::JoinError::AlreadyJoined`], and not for every shard.
    One,
}

named!(Receivers, "receivers", { "auto" => Auto, "per-shard" => PerShard, "one" => One });
