//! Which address gives way where as many have listeners of their own as may: the least used of those that no interface has.
//!
//! Strangers choose where they send to, and any address of a prefix that is routed to this host is one. So an address of an
//! interface takes the place of the least used of them at once, and one of their own kind only that of one by which
//! nothing comes any more, seldom enough that nobody can keep groups coming and going.
//!
//! How much an address is used is what its shards count: datagrams and trains that come by its listeners and by the sockets
//! of its peers. When it was used last would say less: whoever sends to each address once in a while would make all alike.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use shardgram_sys::Usage;

/// How often the counts are looked at, at most, and how long an address keeps its place whatever comes by it. Each look
/// halves what was counted before, so that the past is forgotten.
pub(super) const LOOK: Duration = Duration::from_secs(10);
/// What counts, at most: after eleven looks the busiest that has become silent counts as that.
const MOST: u64 = 1_024;
/// The least time between two addresses of a wildcard that give way to others that no interface has.
pub(super) const REST: Duration = Duration::from_secs(1);

/// How much an address is used.
#[derive(Debug)]
pub(super) struct Use {
    /// Of each shard.
    counts: Vec<Usage>,
    since: Instant,
    /// The sum at the last look, and what was made of it.
    counted: u64,
    recent: u64,
}

impl Use {
    pub(super) fn new(counts: Vec<Usage>, since: Instant) -> Self {
        Self { counts, since, counted: 0, recent: 0 }
    }

    fn sum(&self) -> u64 {
        self.counts.iter().map(Usage::total).sum()
    }

    fn recent(&self) -> u64 {
        self.recent + self.sum().saturating_sub(self.counted)
    }

    fn look(&mut self) {
        let sum = self.sum();
        self.recent = (self.recent / 2 + sum.saturating_sub(self.counted)).min(MOST);
        self.counted = sum;
    }

    fn is_silent(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) >= LOOK && self.recent() == 0
    }
}

/// Of several the least used, and of equals the one that was bound first.
pub(super) fn least_used<'a>(all: impl Iterator<Item = (IpAddr, &'a Use)>) -> Option<IpAddr> {
    all.min_by_key(|(_, used)| (used.recent(), used.since)).map(|(ip, _)| ip)
}

/// What a wildcard remembers of it.
#[derive(Debug, Default)]
pub(super) struct GivingWay {
    looked: Option<Instant>,
    last: Option<Instant>,
    /// For whom a place was made that is not free yet.
    pub(super) newcomer: Option<IpAddr>,
}

impl GivingWay {
    /// The one that gives way now to another that no interface has, if any does.
    pub(super) fn silent<'a>(
        &mut self,
        all: impl Iterator<Item = (IpAddr, &'a mut Use)>,
        now: Instant,
    ) -> Option<IpAddr> {
        let is_over =
            |time: Option<Instant>, rest| time.is_none_or(|time| now.saturating_duration_since(time) >= rest);
        if self.newcomer.is_some() || !is_over(self.last, REST) {
            return None;
        }
        let looks = is_over(self.looked, LOOK);
        self.looked = if looks { Some(now) } else { self.looked };
        let looked_at = all.map(|(ip, used)| {
            if looks {
                used.look();
            }
            (ip, &*used)
        });
        // All of them are looked at, also where one is enough.
        let silent: Vec<_> = looked_at.filter(|(_, used)| used.is_silent(now)).collect();
        least_used(silent.into_iter())
    }

    /// One gives way to this one.
    pub(super) fn gave(&mut self, newcomer: IpAddr, now: Instant) {
        (self.newcomer, self.last) = (Some(newcomer), Some(now));
    }
}
