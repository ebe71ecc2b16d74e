//! Everything that can be set.
//!
//! `settings.rs` is the table of it, from which defaults and ranges follow, `builder/` has the setters, `check.rs` what
//! makes no sense together, `choices.rs` the types of settings that are one of a few.

mod builder;
mod check;
mod choices;
mod settings;

pub use choices::{AcceptChoice, Backend, TierPolicy, WaitPolicy};
pub use settings::Settings;

pub use crate::types::multicast::Hearers;

/// What a server listens on and every bound it keeps. Invalid combinations are refused when the
/// server is bound ([`Config::validate`]), never adjusted in silence. [`Settings`] has them in a table.
///
/// ```
/// use shardgram_core::Config;
/// let config = Config::new().listen(([127, 0, 0, 1], 9000).into()).shards(2).max_peers(1_000_000);
/// assert!(config.validate().is_ok());
/// ```
#[derive(Clone, Debug, Default)]
pub struct Config {
    settings: Settings,
}

impl Config {
    /// The defaults: one shard, no listener.
    ///
    /// ```
    /// use shardgram_core::{Backend, Config};
    /// let config = Config::new();
    /// assert_eq!((config.settings().shards, config.settings().backend), (1, Backend::Auto));
    /// assert!(config.settings().listen.is_empty());
    /// ```
    pub fn new() -> Self {
        Self::default()
    }

    /// What was set, for drivers.
    ///
    /// ```
    /// use shardgram_core::Config;
    /// let config = Config::new().max_datagram(1_472);
    /// let buffer = vec![0; config.settings().max_datagram as usize];
    /// assert_eq!(buffer.len(), 1_472);
    /// ```
    pub fn settings(&self) -> &Settings {
        &self.settings
    }
}
