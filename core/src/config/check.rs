//! What makes no sense together, beside what is out of its range.

use crate::config::settings::MOST_COMPLETIONS;
use crate::config::{Config, Settings};
use crate::types::error::ConfigError;

/// Fewest completion entries that may be asked for.
const FEWEST_COMPLETIONS: u32 = 8;

impl Config {
    /// Says what is wrong with it, if anything is.
    ///
    /// # Errors
    /// The first setting that is out of range, or the combination that makes no sense.
    ///
    /// ```
    /// use shardgram_core::Config;
    /// let error = Config::new().receive_buffers(100).validate().unwrap_err();
    /// assert_eq!(error.to_string(), "receive_buffers = 100 is out of range: it must be 64 to 128");
    /// ```
    pub fn validate(&self) -> Result<(), ConfigError> {
        let settings = &self.settings;
        settings.check_ranges()?;
        settings.check_buffers()?;
        settings.check_queues()?;
        settings.check_proven_peers()?;
        settings.check_cores()?;
        settings.check_listen()?;
        self.check_memberships()?;
        Ok(())
    }
}

impl Settings {
    /// The ring of buffers that is shared with the kernel has a size that is a power of two (io_uring_register(2),
    /// IORING_REGISTER_PBUF_RING).
    fn check_buffers(&self) -> Result<(), ConfigError> {
        if self.receive_buffers.is_power_of_two() {
            return Ok(());
        }
        let low = u64::from(self.receive_buffers.next_power_of_two() / 2);
        let value = u64::from(self.receive_buffers);
        Err(ConfigError::OutOfRange { field: "receive_buffers", value, low, high: low * 2 })
    }

    /// io_uring_setup(2), IORING_SETUP_CQSIZE: the completion queue may not be the shorter one.
    fn check_queues(&self) -> Result<(), ConfigError> {
        let (completions, submissions) = (self.completion_entries, self.submission_entries);
        if completions == 0 {
            return Ok(());
        }
        if completions < FEWEST_COMPLETIONS {
            let (value, low, high) = (completions.into(), FEWEST_COMPLETIONS.into(), MOST_COMPLETIONS.into());
            return Err(ConfigError::OutOfRange { field: "completion_entries", value, low, high });
        }
        if completions.next_power_of_two() < u32::from(submissions).next_power_of_two() {
            return Err(ConfigError::QueuesMismatch { completions, submissions });
        }
        Ok(())
    }

    /// Newcomers need places that are not kept for others.
    fn check_proven_peers(&self) -> Result<(), ConfigError> {
        if self.max_proven_peers == 0 || self.max_proven_peers < self.max_peers {
            return Ok(());
        }
        let (value, high) = (self.max_proven_peers.into(), u64::from(self.max_peers) - 1);
        Err(ConfigError::OutOfRange { field: "max_proven_peers", value, low: 0, high })
    }

    fn check_cores(&self) -> Result<(), ConfigError> {
        let (cores, shards) = (self.cores.len(), usize::from(self.shards));
        if cores == 0 || cores == shards { Ok(()) } else { Err(ConfigError::CoresMismatch { cores, shards }) }
    }

    fn check_listen(&self) -> Result<(), ConfigError> {
        for (at, address) in self.listen.iter().enumerate() {
            // Port 0 is another port each time.
            if address.port() != 0 && self.listen[..at].contains(address) {
                return Err(ConfigError::ListenTwice(*address));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_queues_of_a_ring_have_to_match() {
        let queues = |submissions, completions| {
            Config::new().submission_entries(submissions).completion_entries(completions).validate()
        };
        // Rounded up, 5 and 8 are both 8.
        for (submissions, completions) in [(256, 0), (32_768, 65_536), (4, 8), (8, 8), (5, 8), (200, 200)] {
            assert_eq!(queues(submissions, completions), Ok(()), "{submissions} {completions}");
        }
        for (submissions, completions) in [(9, 8), (256, 128), (32_768, 16_384)] {
            let mismatch = ConfigError::QueuesMismatch { completions, submissions };
            assert_eq!(queues(submissions, completions), Err(mismatch));
        }
        for (submissions, completions) in [(3, 0), (4, 7), (4, 65_537), (32_769, 0)] {
            let refused = queues(submissions, completions);
            assert!(matches!(refused, Err(ConfigError::OutOfRange { .. })), "{submissions} {completions}");
        }
    }

    #[test]
    fn completions_that_are_derived_suffice_for_both() {
        assert_eq!(Config::new().submission_entries(32_768).settings().completion_capacity(), 65_536);
        assert_eq!(Config::new().receive_buffers(32_768).settings().completion_capacity(), 65_536);
    }
}
