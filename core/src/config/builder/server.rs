//! The server as a whole: its shards, its driver, its end.

use std::time::Duration;

use crate::config::{Backend, Config, WaitPolicy};

impl Config {
    /// Shards, one thread each. Default 1, range 1 to 1,024. Each costs its tables (reserved, not
    /// touched, until peers come) and up to 17 MiB of receive buffers, as far as datagrams have filled them.
    #[must_use]
    pub fn shards(mut self, shards: u16) -> Self {
        self.settings.shards = shards;
        self
    }

    /// The core each shard's thread is pinned to, one per shard. Default: none, threads float.
    ///
    /// ```
    /// use shardgram_core::Config;
    /// assert!(Config::new().shards(2).cores([2, 3]).validate().is_ok());
    /// assert!(Config::new().shards(2).cores([2]).validate().is_err());
    /// ```
    #[must_use]
    pub fn cores(mut self, cores: impl IntoIterator<Item = usize>) -> Self {
        self.settings.cores = cores.into_iter().collect();
        self
    }

    /// Which driver serves. Default [`Backend::Auto`].
    #[must_use]
    pub fn backend(mut self, backend: Backend) -> Self {
        self.settings.backend = backend;
        self
    }

    /// How a shard waits when there is nothing to do. Default [`WaitPolicy::Block`].
    #[must_use]
    pub fn wait(mut self, wait: WaitPolicy) -> Self {
        self.settings.wait = wait;
        self
    }

    /// Drain, with this deadline, when SIGINT or SIGTERM comes. Default `None`: signals are not touched.
    ///
    /// ```
    /// use std::time::Duration;
    /// use shardgram_core::Config;
    /// let config = Config::new().drain_on_signals(Some(Duration::from_secs(10)));
    /// assert_eq!(config.settings().drain_on_signals, Some(Duration::from_secs(10)));
    /// ```
    #[must_use]
    pub fn drain_on_signals(mut self, deadline: Option<Duration>) -> Self {
        self.settings.drain_on_signals = deadline;
        self
    }

    /// Panics of a shard's handler within a minute that do not end the server. Default `None`: no number of them ends
    /// it. Range 0 to 1,000; one more than that ends the server with an error that names the shard and the callback, for
    /// those who would rather be started anew by whatever watches the process. Whoever can make the handler panic can
    /// then end the server with that many datagrams.
    ///
    /// ```
    /// use shardgram_core::Config;
    /// assert_eq!(Config::new().max_restarts_per_minute(5).settings().max_restarts_per_minute, Some(5));
    /// assert!(Config::new().max_restarts_per_minute(1_001).validate().is_err());
    /// ```
    #[must_use]
    pub fn max_restarts_per_minute(mut self, panics: impl Into<Option<u32>>) -> Self {
        self.settings.max_restarts_per_minute = panics.into();
        self
    }
}
