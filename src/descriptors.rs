//! What the limit of descriptors (RLIMIT_NOFILE, getrlimit(2)) leaves room for, reckoned before anything is opened.

use shardgram_core::{Config, Settings};

use crate::error::StartError;

/// A shard's own: its ring, a duplicate of it, and the descriptor by which threads wake it; over mio, a selector and its
/// waker.
const PER_SHARD: u64 = 3;
/// For what all shards have in common, and for what is open for a moment while the server starts: watches of addresses and
/// of signals, the self-tests of io_uring and of accepting, tables of the system.
const IN_COMMON: u64 = 16;
/// Left free for the application, and of each shard for endpoints, before peers get sockets of their own.
const LEFT_FREE: u64 = 64;
const LEFT_PER_SHARD: u64 = 8;

/// How many descriptors there may be, and how many there are.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(not(unix), allow(dead_code, reason = "nothing limits them there"))]
pub(crate) struct Descriptors {
    pub(crate) limit: u64,
    pub(crate) open: u64,
}

impl Descriptors {
    /// Those of this process, of which the soft limit is raised to the hard one: every socket is a descriptor, and the
    /// soft limit of many systems is 1,024. `None` where nothing limits them.
    #[cfg(unix)]
    pub(crate) fn raised() -> Option<Self> {
        let raised = shardgram_sys::limits::raise_descriptor_limit();
        let limit =
            raised.inspect_err(|error| tracing::warn!(%error, "the limit of descriptors cannot be raised"));
        // Where the folder is not there, or does not show all of them, it is the first three at least.
        let open = std::fs::read_dir("/dev/fd").map_or(3, |all| all.count() as u64);
        Some(Self { limit: limit.ok()?, open })
    }

    #[cfg(not(unix))]
    pub(crate) fn raised() -> Option<Self> {
        None
    }

    /// Local addresses that may have listeners of their own under each wildcard: as many as were asked for, or fewer.
    ///
    /// # Errors
    /// [`StartError::TooFewDescriptors`] where not even the shards and their listeners fit.
    pub(crate) fn local_addresses(self, settings: &Settings) -> Result<u16, StartError> {
        let asked = settings.max_local_addresses;
        let (shards, listeners) = (u64::from(settings.shards), settings.listen.len() as u64);
        let each = PER_SHARD + listeners;
        let needed = self.open + IN_COMMON + shards * each;
        let Some(room) = self.limit.checked_sub(needed) else {
            let fits = self.limit.saturating_sub(self.open + IN_COMMON) / each;
            let limit = self.limit;
            return Err(StartError::TooFewDescriptors { shards: settings.shards, needed, limit, fits });
        };
        match shards * wildcards(settings) {
            0 => Ok(asked),
            sockets => Ok((room / sockets).min(asked.into()) as u16),
        }
    }

    /// Peers that may have sockets of their own, beside everything else.
    pub(crate) fn connected(self, config: &Config) -> u64 {
        let settings = config.settings();
        let under_wildcards = wildcards(settings) * u64::from(settings.max_local_addresses);
        let of_shard = LEFT_PER_SHARD + settings.listen.len() as u64 + under_wildcards;
        self.limit.saturating_sub(LEFT_FREE + u64::from(settings.shards) * of_shard)
    }
}

fn wildcards(settings: &Settings) -> u64 {
    settings.listen.iter().filter(|address| address.ip().is_unspecified()).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const LITTLE: Descriptors = Descriptors { limit: 64, open: 4 };

    fn wildcard(shards: u16) -> Config {
        Config::new().listen(([0, 0, 0, 0], 9).into()).shards(shards)
    }

    #[test]
    fn local_addresses_get_what_the_shards_leave() {
        let fit = |config: Config| LITTLE.local_addresses(config.settings()).expect("the shards fit");
        // 64 less 4, 16, and for each shard 3 and its listener; what is left is divided among the shards.
        assert_eq!(fit(wildcard(1)), 40);
        assert_eq!(fit(wildcard(4)), 7);
        assert_eq!(fit(wildcard(11)), 0);
        assert_eq!(fit(wildcard(1).max_local_addresses(5)), 5);
        let specific = Config::new().listen(([127, 0, 0, 1], 9).into()).shards(11);
        assert_eq!(fit(specific), 64, "it has none of them");
    }

    #[test]
    fn shards_that_do_not_fit_are_refused_with_the_number_that_does() {
        let error = LITTLE.local_addresses(wildcard(12).settings()).expect_err("too many shards");
        let text = error.to_string();
        let StartError::TooFewDescriptors { shards, needed, limit, fits } = error else { panic!("{text}") };
        assert_eq!((shards, needed, limit, fits), (12, 68, 64, 11));
        assert!(text.contains("68") && text.contains("ulimit -n") && text.contains("11 shards"), "{text}");
    }
}
