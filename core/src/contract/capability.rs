//! What one driver can do and another cannot, by name.

use std::fmt;

/// Something that a driver can do or cannot, on this system.
///
/// What each driver is expected to answer, system by system and with the reason of each no, is the table of
/// the package `shardgram-conformance`.
///
/// ```
/// use shardgram_core::{Capability, Handler, Io};
/// fn wants_times<H: Handler>(io: &Io<H>) -> bool {
///     io.capabilities().has(Capability::Timestamps)
/// }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum Capability {
    /// Datagrams that go to one peer in one turn leave as one.
    TrainsOut,
    /// Datagrams that came as one are received as one.
    TrainsIn,
    /// What is sent carries the mark of [`Io::set_ecn`](crate::Io::set_ecn).
    EcnOut,
    /// What is received says how it was marked ([`Meta::ecn`](crate::Meta::ecn)).
    EcnIn,
    /// What is received says when ([`Meta::kernel_time`](crate::Meta::kernel_time)).
    Timestamps,
    /// Peers may have sockets of their own ([`Driver::connect`](crate::driver::Driver::connect)).
    Connected,
    /// The modes of [`Config::path_mtu`](crate::Config::path_mtu) are kept to.
    PathMtu,
    /// What the system drops because a receive buffer is full is counted.
    KernelDrops,
    /// Several shards receive on one address, each by a socket of its own.
    BalancedListeners,
    /// A datagram reaches the shard that owns its flow, so none has to be forwarded. Not where a kernel that could do it
    /// refuses the program, as in some sandboxes.
    SteeredListeners,
    /// A send buffer may be full; what it refuses waits in the [`Backlog`](crate::backlog::Backlog).
    Backlog,
    /// A shard with nothing to do blocks its thread, or spins.
    Blocking,
}

impl Capability {
    /// All of them.
    ///
    /// ```
    /// use shardgram_core::Capability;
    /// assert!(Capability::ALL.contains(&Capability::EcnIn));
    /// ```
    pub const ALL: [Self; 12] = [
        Self::TrainsOut,
        Self::TrainsIn,
        Self::EcnOut,
        Self::EcnIn,
        Self::Timestamps,
        Self::Connected,
        Self::PathMtu,
        Self::KernelDrops,
        Self::BalancedListeners,
        Self::SteeredListeners,
        Self::Backlog,
        Self::Blocking,
    ];

    const fn bit(self) -> u16 {
        1 << self as u16
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TrainsOut => "trains out",
            Self::TrainsIn => "trains in",
            Self::EcnOut => "ECN out",
            Self::EcnIn => "ECN in",
            Self::Timestamps => "timestamps",
            Self::Connected => "connected sockets",
            Self::PathMtu => "path MTU modes",
            Self::KernelDrops => "kernel drops counted",
            Self::BalancedListeners => "balanced listeners",
            Self::SteeredListeners => "steered listeners",
            Self::Backlog => "full sockets",
            Self::Blocking => "blocking",
        })
    }
}

/// A set of them.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Abilities(u16);

impl Abilities {
    pub(crate) const fn with(self, capability: Capability) -> Self {
        Self(self.0 | capability.bit())
    }

    pub(crate) const fn has(self, capability: Capability) -> bool {
        self.0 & capability.bit() != 0
    }
}

impl fmt::Debug for Abilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(Capability::ALL.iter().filter(|capability| self.has(**capability))).finish()
    }
}
