//! Whether peers can have sockets of their own here, in which way, and how many.

use shardgram_core::driver::ConnectedLimits;
use shardgram_core::{AcceptChoice, Backend, Config, TierPolicy};
use shardgram_sys::Os;

use crate::drivers::{self, AcceptWay};
use crate::error::StartError;

/// Connected peers there may be if nothing else is asked for, in the process and for each local address.
const DEFAULT: u32 = 4_096;
/// The same for each local address where every connected socket makes all datagrams dearer.
const DEFAULT_SAME_GROUP: u32 = 32;
/// Descriptors left for everything that is neither a listener nor a connected peer, and for each shard's own.
const LEFT_FREE: u64 = 64;
const PER_SHARD: u64 = 8;

/// How peers get sockets of their own.
#[derive(Clone, Debug)]
pub(crate) struct Connected {
    /// `None` where there are none.
    pub(crate) way: Option<AcceptWay>,
    /// For the whole process.
    limits: ConnectedLimits,
}

impl Connected {
    pub(crate) const NONE: Self = Self { way: None, limits: ConnectedLimits::NONE };

    /// What the configuration asks for, as far as the system allows.
    ///
    /// # Errors
    /// [`StartError::TooManyConnected`] if it asks for more than descriptors allow, and
    /// [`StartError::AcceptRefused`] or [`StartError::TierRefused`] if what it asks for cannot be had.
    pub(crate) fn decide(
        config: &Config,
        backend: Backend,
        descriptors: Option<u64>,
    ) -> Result<Self, StartError> {
        let settings = config.settings();
        let (total, per_address) = (settings.max_connected, settings.max_connected_per_address);
        let fits = descriptors.map_or(u64::MAX, |limit| fits(config, limit));
        if let Some(asked) = total.filter(|asked| u64::from(*asked) > fits) {
            let limit = descriptors.unwrap_or(u64::MAX);
            return Err(StartError::TooManyConnected { asked, fits, limit });
        }
        let total = total.unwrap_or_else(|| u64::from(DEFAULT).min(fits) as u32);
        let nobody = total == 0 || per_address == Some(0) || settings.listen.is_empty();
        if nobody {
            return Ok(Self::NONE);
        }
        let accept = settings.accept;
        let way = match backend {
            Backend::Uring => drivers::accept_way(accept),
            other => Err(no_driver(other)),
        };
        let way = match way {
            Ok(way) => way,
            Err(reason) => return Self::none_because(config, reason),
        };
        let default = if way.is_cheap() { DEFAULT } else { DEFAULT_SAME_GROUP };
        let limits = ConnectedLimits { total, per_address: per_address.unwrap_or(default) };
        Ok(Self { way: Some(way), limits })
    }

    /// None, for this reason, if only defaults ask for more.
    ///
    /// # Errors
    /// What was asked for in vain.
    pub(crate) fn none_because(config: &Config, reason: String) -> Result<Self, StartError> {
        let (accept, tier) = (config.settings().accept, config.settings().tier);
        if accept != AcceptChoice::Auto {
            return Err(StartError::AcceptRefused { accept, reason });
        }
        if tier != TierPolicy::Listener {
            return Err(StartError::TierRefused { tier, reason });
        }
        Ok(Self::NONE)
    }

    /// A shard's part of the bounds; the first shards get what does not divide evenly.
    pub(crate) fn limits(&self, shard: u16, shards: u16) -> ConnectedLimits {
        let (shard, shards) = (u32::from(shard), u32::from(shards));
        let share = |all: u32| all / shards + u32::from(shard < all % shards);
        ConnectedLimits { total: share(self.limits.total), per_address: share(self.limits.per_address) }
    }
}

/// Why peers have no sockets of their own with such a driver.
fn no_driver(backend: Backend) -> String {
    let here = Os::HERE.connected_tier();
    let because = if here.is { String::new() } else { format!(" ({})", here.because) };
    format!("the {backend} driver gives peers no sockets of their own{because}")
}

/// How many connected peers the limit of descriptors leaves room for.
fn fits(config: &Config, limit: u64) -> u64 {
    let addresses: u64 = config.settings().listen.iter().map(|address| listeners_of(config, address)).sum();
    let needed = LEFT_FREE + u64::from(config.settings().shards) * (PER_SHARD + addresses);
    limit.saturating_sub(needed)
}

/// Sockets that one address of the configuration takes on each shard.
fn listeners_of(config: &Config, address: &std::net::SocketAddr) -> u64 {
    let under_it =
        if address.ip().is_unspecified() { u64::from(config.settings().max_local_addresses) } else { 0 };
    1 + under_it
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asking_for_more_than_fits_names_what_does() {
        let config = Config::new().listen(([127, 0, 0, 1], 0).into()).shards(2).max_connected(1_000);
        let error = Connected::decide(&config, Backend::Mio, Some(1_024)).expect_err("too many");
        let StartError::TooManyConnected { asked, fits, limit } = error else { panic!("{error}") };
        assert_eq!((asked, limit), (1_000, 1_024));
        let just = config.max_connected(fits as u32);
        assert!(Connected::decide(&just, Backend::Mio, Some(1_024)).is_ok());
    }

    #[test]
    fn shards_share_the_bounds() {
        let limits = ConnectedLimits { total: 10, per_address: 2 };
        let connected = Connected { way: None, limits };
        let shares: Vec<_> = (0..4).map(|shard| connected.limits(shard, 4)).collect();
        assert_eq!(shares.iter().map(|share| share.total).collect::<Vec<_>>(), [3, 3, 2, 2]);
        assert_eq!(shares.iter().map(|share| share.per_address).collect::<Vec<_>>(), [1, 1, 0, 0]);
    }

    #[test]
    fn what_only_the_default_asks_for_is_lowered() {
        let config = Config::new().listen(([0, 0, 0, 0], 0).into());
        assert!(Connected::decide(&config, Backend::Mio, Some(100)).is_ok());
    }

    #[test]
    fn a_way_to_accept_that_cannot_be_had_is_refused_with_the_reason() {
        let config = Config::new().listen(([127, 0, 0, 1], 0).into()).accept(AcceptChoice::SameGroup);
        let error = Connected::decide(&config, Backend::Mio, None).expect_err("mio has none");
        let StartError::AcceptRefused { accept, reason } = error else { panic!("{error}") };
        assert_eq!(accept, AcceptChoice::SameGroup);
        assert!(reason.contains("mio"), "{reason}");
        let nobody = config.max_connected(0);
        assert!(Connected::decide(&nobody, Backend::Mio, None).is_ok(), "nobody needs it");
    }

    #[test]
    fn a_tier_that_cannot_be_had_is_refused_with_the_reason() {
        for tier in [TierPolicy::Connected, TierPolicy::Adaptive] {
            let config = Config::new().listen(([127, 0, 0, 1], 0).into()).tier(tier);
            let error = Connected::decide(&config, Backend::Mio, None).expect_err("mio has none");
            let text = error.to_string();
            assert!(matches!(error, StartError::TierRefused { tier: asked, .. } if asked == tier), "{text}");
            assert!(text.contains("the mio driver") && text.ends_with("ask for the tier listener"), "{text}");
            let nobody = config.max_connected(0);
            assert!(Connected::decide(&nobody, Backend::Mio, None).is_ok(), "nobody needs it");
        }
    }
}
