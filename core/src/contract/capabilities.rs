//! What a driver can do, and why a peer got no socket of its own.

use crate::contract::capability::{Abilities, Capability};
use crate::send::outbox::TrainLimits;

/// Fixed facts of a driver.
///
/// ```
/// use shardgram_core::{driver::Capabilities, outbox::TrainLimits};
/// fn capabilities(offload: bool) -> Capabilities {
///     let long = TrainLimits { datagrams: 64, bytes: 65_507 };
///     Capabilities::new(if offload { long } else { TrainLimits::SINGLE })
/// }
/// assert_eq!(capabilities(true).trains.datagrams, 64);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Capabilities {
    /// How long trains to send may be.
    pub trains: TrainLimits,
    /// How many sockets of peers' own there may be.
    pub connected: ConnectedLimits,
    /// Whether the driver can block, so that a shard that spins lets time pass ([`crate::config::WaitPolicy`]).
    pub blocks: bool,
    /// What does not follow from these.
    others: Abilities,
    /// Whether what is sent to a broadcast address reaches the listener of every shard. Then each shard handles what is
    /// from addresses it owns, and leaves the rest to the others.
    pub copies: bool,
}

/// How many sockets of peers' own a shard may have.
///
/// ```
/// use shardgram_core::driver::ConnectedLimits;
/// assert_eq!(ConnectedLimits::NONE.total, 0);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConnectedLimits {
    /// In all.
    pub total: u32,
    /// For each local address and port.
    pub per_address: u32,
}

impl ConnectedLimits {
    /// Peers stay with the listener.
    ///
    /// ```
    /// use shardgram_core::{driver::{Capabilities, ConnectedLimits}, outbox::TrainLimits};
    /// assert_eq!(Capabilities::new(TrainLimits::SINGLE).connected, ConnectedLimits::NONE);
    /// ```
    pub const NONE: Self = Self { total: 0, per_address: 0 };
}

/// Why a peer got no socket of its own.
///
/// ```
/// use shardgram_core::driver::ConnectFault;
/// fn fault(errno: i32) -> ConnectFault {
///     match errno {
///         23 | 24 => ConnectFault::Exhausted { errno }, // ENFILE, EMFILE
///         errno => ConnectFault::Failed { errno },
///     }
/// }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectFault {
    /// This driver has no such sockets, or not for this local address.
    #[error("peers of this address have no sockets of their own")]
    Unsupported,
    /// The system has no more descriptors, or no memory: the next one will fail too.
    #[error("the system has no room for more sockets (system error {errno})")]
    Exhausted {
        /// The system's error number.
        errno: i32,
    },
    /// This one failed.
    #[error("system error {errno}")]
    Failed {
        /// The system's error number.
        errno: i32,
    },
}

impl Capabilities {
    /// Trains of up to this length.
    ///
    /// ```
    /// use shardgram_core::{driver::Capabilities, outbox::TrainLimits};
    /// assert_eq!(Capabilities::new(TrainLimits::SINGLE).trains.datagrams, 1);
    /// ```
    pub fn new(trains: TrainLimits) -> Self {
        let connected = ConnectedLimits::NONE;
        Self { trains, connected, blocks: true, others: Abilities::default(), copies: false }
    }

    /// With this as well. [`Capability::TrainsOut`], [`Capability::Connected`] and [`Capability::Blocking`] are
    /// said by the fields, so naming them here changes nothing.
    ///
    /// ```
    /// use shardgram_core::{Capability, driver::Capabilities, outbox::TrainLimits};
    /// let able = Capabilities::new(TrainLimits::SINGLE).with(&[Capability::EcnIn, Capability::EcnOut]);
    /// assert!(able.has(Capability::EcnIn) && !able.has(Capability::Timestamps));
    /// ```
    #[must_use]
    pub fn with(self, able: &[Capability]) -> Self {
        Self { others: able.iter().fold(self.others, |others, next| others.with(*next)), ..self }
    }

    /// Whether the driver can do this.
    ///
    /// ```
    /// use shardgram_core::{Capability, driver::Capabilities, outbox::TrainLimits};
    /// let plain = Capabilities::new(TrainLimits::SINGLE);
    /// assert!(plain.has(Capability::Blocking) && !plain.has(Capability::TrainsOut));
    /// ```
    pub fn has(&self, capability: Capability) -> bool {
        match capability {
            Capability::TrainsOut => self.trains != TrainLimits::SINGLE,
            Capability::Connected => self.connected.total > 0,
            Capability::Blocking => self.blocks,
            other => self.others.has(other),
        }
    }

    /// With sockets of peers' own.
    ///
    /// ```
    /// use shardgram_core::{driver::{Capabilities, ConnectedLimits}, outbox::TrainLimits};
    /// let few = ConnectedLimits { total: 32, per_address: 32 };
    /// assert_eq!(Capabilities::new(TrainLimits::SINGLE).connected(few).connected, few);
    /// ```
    #[must_use]
    pub fn connected(self, connected: ConnectedLimits) -> Self {
        Self { connected, ..self }
    }

    /// For a driver under which every shard's listener gets its copy of a broadcast.
    ///
    /// ```
    /// use shardgram_core::{driver::Capabilities, outbox::TrainLimits};
    /// assert!(Capabilities::new(TrainLimits::SINGLE).with_copies(true).copies);
    /// ```
    #[must_use]
    pub fn with_copies(self, copies: bool) -> Self {
        Self { copies, ..self }
    }

    /// For a driver that cannot block: its shards never spin.
    ///
    /// ```
    /// use shardgram_core::{driver::Capabilities, outbox::TrainLimits};
    /// assert!(!Capabilities::new(TrainLimits::SINGLE).without_blocking().blocks);
    /// ```
    #[must_use]
    pub fn without_blocking(self) -> Self {
        Self { blocks: false, ..self }
    }
}
