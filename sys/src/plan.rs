//! What each system does to servers of datagrams, and how a port is listened on because of it.
//!
//! Pure: what holds for a system is a function of [`Os`], so all of it is tested on any of them. The code that opens
//! sockets asks [`Os::HERE`] and carries out the [`ListeningPlan`].
//!
//! | file | holds |
//! | --- | --- |
//! | `plan/rows.rs` | one function for each fact, with the reason beside each answer |
//! | `plan/sockets.rs` | [`ListeningPlan`]: which sockets an address takes, and the steps to open each |
//! | `plan/settings.rs` | what a configuration asks for and a system cannot do |
//! | `plan/able.rs` | what the mio driver can do because of all that |

mod able;
mod rows;
mod settings;
mod sockets;
#[cfg(test)]
mod tests;

pub use rows::{Balancing, Beside, Exclusive, PacketInfo};
pub use settings::Unsupported;
pub use sockets::{ListeningPlan, Role, SocketPlan, Step};

/// A family of systems that treat sockets alike.
///
/// ```
/// use shardgram_sys::plan::Os;
/// assert!(Os::ALL.contains(&Os::HERE));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Os {
    /// Linux 6.1 and later.
    Linux,
    /// FreeBSD 12 and later.
    FreeBsd,
    /// OpenBSD.
    OpenBsd,
    /// NetBSD.
    NetBsd,
    /// macOS and the other systems of Apple.
    MacOs,
    /// Windows 10 and later.
    Windows,
    /// Any other system: what is not promised everywhere is taken not to be there.
    Other,
}

impl Os {
    /// The one this is built for.
    pub const HERE: Self = if cfg!(target_os = "linux") {
        Self::Linux
    } else if cfg!(target_os = "freebsd") {
        Self::FreeBsd
    } else if cfg!(target_os = "openbsd") {
        Self::OpenBsd
    } else if cfg!(target_os = "netbsd") {
        Self::NetBsd
    } else if cfg!(target_vendor = "apple") {
        Self::MacOs
    } else if cfg!(windows) {
        Self::Windows
    } else {
        Self::Other
    };

    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Linux, Self::FreeBsd, Self::OpenBsd, Self::NetBsd, Self::MacOs, Self::Windows, Self::Other];
}

impl std::fmt::Display for Os {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Linux => "Linux",
            Self::FreeBsd => "FreeBSD",
            Self::OpenBsd => "OpenBSD",
            Self::NetBsd => "NetBSD",
            Self::MacOs => "macOS",
            Self::Windows => "Windows",
            Self::Other => "this system",
        })
    }
}

/// Something that holds for a system, and why.
///
/// ```
/// use shardgram_sys::plan::Os;
/// let shares = Os::MacOs.connected_tier();
/// println!("{}: {}", shares.is, shares.because);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fact<T> {
    /// What holds.
    pub is: T,
    /// Why it does, in a clause without a full stop.
    pub because: &'static str,
}

/// For tables that stay readable.
const fn fact<T>(is: T, because: &'static str) -> Fact<T> {
    Fact { is, because }
}

/// How many shards receive at one address, decided.
///
/// ```
/// use shardgram_core::Receivers;
/// use shardgram_sys::plan::{Os, Sharing};
/// assert_eq!(Os::MacOs.sharing(Receivers::Auto, 4).unwrap(), Sharing::OneReceiver);
/// assert!(Os::MacOs.sharing(Receivers::PerShard, 4).is_err());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sharing {
    /// Each has a socket of its own.
    PerShard,
    /// One has, and hands the others theirs.
    OneReceiver,
}

impl Sharing {
    /// The shard that alone receives at the listen address of this number, if it is one alone: they take turns.
    ///
    /// ```
    /// use shardgram_sys::plan::Sharing;
    /// assert_eq!(Sharing::OneReceiver.receiver(5, 4), Some(1));
    /// assert_eq!(Sharing::PerShard.receiver(5, 4), None);
    /// ```
    #[must_use]
    pub fn receiver(self, listen: u16, shards: u16) -> Option<u16> {
        match self {
            Self::PerShard => None,
            Self::OneReceiver => Some(listen % shards.max(1)),
        }
    }
}
