//! Whether peers can have sockets of their own here, in which way, and how many.

use shardgram_core::driver::ConnectedLimits;
use shardgram_core::{AcceptChoice, Backend, Config, TierPolicy};
use shardgram_sys::Os;

use crate::descriptors::Descriptors;
use crate::drivers::{self, AcceptWay};
use crate::error::StartError;

/// Connected peers there may be if nothing else is asked for, in the process and for each local address.
const DEFAULT: u32 = 4_096;
/// The same for each local address where every connected socket makes all datagrams dearer.
const DEFAULT_SAME_GROUP: u32 = 32;

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
        descriptors: Option<Descriptors>,
    ) -> Result<Self, StartError> {
        let settings = config.settings();
        let (total, per_address) = (settings.max_connected, settings.max_connected_per_address);
        let fits = descriptors.map_or(u64::MAX, |descriptors| descriptors.connected(config));
        let limit = descriptors.map_or(u64::MAX, |descriptors| descriptors.limit);
        if let Some(asked) = total.filter(|asked| u64::from(*asked) > fits) {
            return Err(StartError::TooManyConnected { asked, fits, limit });
        }
        if total == Some(0) || per_address == Some(0) || settings.listen.is_empty() {
            return Ok(Self::NONE);
        }
        if fits == 0 {
            let reason = format!(
                "the limit of {limit} descriptors leaves room for no peer's own socket: raise it (ulimit -n), lower \
                 max_local_addresses ({}) where a wildcard is listened on",
                settings.max_local_addresses
            );
            return Self::none_because(config, reason);
        }
        let total = total.unwrap_or_else(|| u64::from(DEFAULT).min(fits) as u32);
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

    /// What is less than the tier that was asked for takes by default, or dearer.
    pub(crate) fn warning(&self, config: &Config) -> Option<String> {
        let settings = config.settings();
        let way = self.way.as_ref().filter(|_| settings.tier != TierPolicy::Listener)?;
        let ConnectedLimits { total, per_address } = self.limits;
        if settings.max_connected.is_none() && total < DEFAULT {
            return Some(format!(
                "the limit of descriptors leaves room for {total} connected peers, and not for {DEFAULT} as by \
                 default: further ones stay in the listener tier; raise it (ulimit -n), or ask for max_connected"
            ));
        }
        let reason = way.reason()?;
        Some(format!(
            "accept={way}, since here {reason}: {per_address} peers at each address have sockets of their own, and each \
             makes datagrams of strangers dearer; Linux 6.13 with IPv6 in the kernel knows a better way"
        ))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asking_for_more_than_fits_names_what_does() {
        let config = Config::new().listen(([127, 0, 0, 1], 0).into()).shards(2).max_connected(1_000);
        let descriptors = Some(Descriptors { limit: 1_024, open: 4 });
        let error = Connected::decide(&config, Backend::Mio, descriptors).expect_err("too many");
        let StartError::TooManyConnected { asked, fits, limit } = error else { panic!("{error}") };
        assert_eq!((asked, limit), (1_000, 1_024));
        let just = config.max_connected(fits as u32);
        assert!(Connected::decide(&just, Backend::Mio, descriptors).is_ok());
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
        let few = Some(Descriptors { limit: 100, open: 4 });
        assert!(Connected::decide(&config, Backend::Mio, few).is_ok());
        let error =
            Connected::decide(&config.tier(TierPolicy::Connected), Backend::Mio, few).expect_err("none fits");
        let text = error.to_string();
        assert!(text.contains("the limit of 100 descriptors") && text.contains("ulimit -n"), "{text}");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn fewer_than_by_default_are_told_where_the_tier_was_asked_for() {
        let config = Config::new().listen(([127, 0, 0, 1], 0).into());
        let some = Some(Descriptors { limit: 300, open: 4 });
        let warning = |config: &Config| {
            let connected = Connected::decide(config, Backend::Uring, some).expect("some fit");
            connected.warning(config)
        };
        assert_eq!(warning(&config), None);
        let text = warning(&config.clone().tier(TierPolicy::Connected)).expect("a warning");
        assert!(text.contains("room for 227 connected peers"), "{text}");
        let asked = config.tier(TierPolicy::Connected).max_connected(227);
        assert!(warning(&asked).is_none_or(|text| text.contains("same-group")), "as many as were asked for");
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
