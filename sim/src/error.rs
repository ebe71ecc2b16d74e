//! What can go wrong when a simulation is set up.

use std::error::Error;
use std::fmt;
use std::net::SocketAddr;

use shardgram_core::ConfigError;

/// A setting outside its range. Nothing was changed.
///
/// ```
/// use shardgram_sim::LinkConfig;
/// let error = LinkConfig::new().loss(1.5).unwrap_err();
/// assert_eq!(error.to_string(), "loss is out of range: it must be 0 to 1");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RangeError {
    /// The setting.
    pub field: &'static str,
    /// What it may be.
    pub range: &'static str,
}

impl fmt::Display for RangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is out of range: it must be {}", self.field, self.range)
    }
}

impl Error for RangeError {}

/// Why a node could not be started. Nothing of it is left in the simulation.
///
/// ```
/// use shardgram_sim::SimError;
/// let address = "10.0.0.1:53".parse().unwrap();
/// assert_eq!(SimError::InUse(address).to_string(), "10.0.0.1:53 is in use");
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum SimError {
    /// The configuration cannot be honoured.
    Config(ConfigError),
    /// Another socket has this address, or no port is free on it.
    InUse(SocketAddr),
    /// The node has no such address, or none of that family.
    NotLocal(SocketAddr),
    /// The factory or `on_start` panicked on this shard.
    Start {
        /// The shard.
        shard: u16,
    },
}

impl fmt::Display for SimError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => error.fmt(f),
            Self::InUse(address) => write!(f, "{address} is in use"),
            Self::NotLocal(address) => write!(f, "{address} is not an address of the node"),
            Self::Start { shard } => write!(f, "the handler of shard {shard} panicked at its start"),
        }
    }
}

impl Error for SimError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Config(error) => Some(error),
            _ => None,
        }
    }
}
