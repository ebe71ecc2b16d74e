//! When an open loop whose rate rises or falls evenly means to send.

use std::time::Duration;

use super::schedule::Share;

/// The intended send times of one shard. The n-th datagram is due when the rate, summed up over time, has
/// come to n, so nothing drifts however long the ramp is.
#[derive(Clone, Debug)]
pub(crate) struct Ramp {
    /// When the ramp begins, in ns since the run began; datagrams before it have negative numbers.
    foot_ns: u64,
    /// This shard's rate at its foot, a second, and how much it grows in a second.
    rate: f64,
    growth: f64,
    seconds: f64,
    /// The number of the next datagram, and by how much this shard's are ahead of whole ones.
    next: i64,
    ahead: f64,
    next_ns: u64,
    flow: u32,
    flows: u32,
}

impl Ramp {
    /// From `start_ns` on at the first rate, then from `foot_ns` on over to the second.
    pub(crate) fn new(start_ns: u64, foot_ns: u64, rates: [f64; 2], over: Duration, share: Share) -> Self {
        let part = f64::from(share.own_flows.max(1)) / f64::from(share.flows.max(1));
        let [from, to] = rates.map(|rate| rate * part);
        let seconds = over.as_secs_f64();
        let mut ramp = Self {
            foot_ns,
            rate: from,
            growth: (to - from) / seconds,
            seconds,
            next: 0,
            // Fractions of multiples of the golden ratio lie apart for any number of shards.
            ahead: f64::from(share.shard) * 0.618_033_988_749_895 % 1.0,
            next_ns: 0,
            flow: 0,
            flows: share.own_flows.max(1),
        };
        ramp.next = ramp.first_from(start_ns);
        ramp.next_ns = ramp.due_ns(ramp.next);
        ramp
    }

    pub(crate) fn next_ns(&self) -> u64 {
        self.next_ns
    }

    pub(crate) fn flow(&self) -> u32 {
        self.flow
    }

    pub(crate) fn advance(&mut self) {
        self.next += 1;
        self.next_ns = self.due_ns(self.next);
        self.flow = (self.flow + 1) % self.flows;
    }

    pub(crate) fn skip_until(&mut self, ns: u64) {
        let skipped = (self.first_from(ns) - self.next).max(0);
        self.next += skipped;
        self.next_ns = self.due_ns(self.next);
        self.flow = ((u64::from(self.flow) + skipped as u64) % u64::from(self.flows)) as u32;
        while self.next_ns < ns {
            self.advance();
        }
    }

    pub(crate) fn left_until(&self, end_ns: u64) -> u64 {
        (self.first_from(end_ns) - self.next).max(0) as u64
    }

    /// The number of the first datagram that is due at this time or later.
    fn first_from(&self, ns: u64) -> i64 {
        let seconds = (ns as f64 - self.foot_ns as f64) / 1e9;
        let inside = seconds.clamp(0.0, self.seconds);
        let sum = self.rate * (inside + seconds.min(0.0)) + self.growth * inside * inside / 2.0;
        (sum - self.ahead).ceil() as i64
    }

    /// When a datagram is due: where the sum over the rate has come to its number.
    fn due_ns(&self, number: i64) -> u64 {
        let sum = number as f64 + self.ahead;
        let seconds = if sum <= 0.0 {
            sum / self.rate
        } else {
            let root = (self.rate * self.rate + 2.0 * self.growth * sum).max(0.0).sqrt();
            2.0 * sum / (self.rate + root) // this form of the solution divides by no small number
        };
        let past_the_end = sum > (self.rate + self.growth * self.seconds / 2.0) * self.seconds;
        if past_the_end { u64::MAX } else { (self.foot_ns as f64 + seconds * 1e9).max(0.0) as u64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOOT_NS: u64 = 1_000_000_000;

    fn ramp(rates: [u64; 2], share: Share) -> Ramp {
        Ramp::new(0, FOOT_NS, rates.map(|rate| rate as f64), Duration::from_secs(10), share)
    }

    fn times(mut ramp: Ramp) -> Vec<u64> {
        let mut times = Vec::new();
        while ramp.next_ns() < u64::MAX {
            times.push(ramp.next_ns());
            ramp.advance();
        }
        times
    }

    #[test]
    fn the_rate_rises_or_falls_evenly() {
        for rates in [[100, 300], [300, 100], [200, 200], [1, 399]] {
            let all = times(ramp(rates, Share { flows: 4, own_flows: 4, shard: 0 }));
            assert!(all.is_sorted(), "{rates:?}");
            let [from, to] = rates;
            let within = |low: u64, high: u64| {
                all.iter().filter(|ns| (FOOT_NS + low..FOOT_NS + high).contains(*ns)).count() as u64
            };
            let warmup = all.iter().filter(|ns| **ns < FOOT_NS).count() as u64;
            assert!(warmup.abs_diff(from) <= 1, "{warmup} of {from}");
            assert!(within(0, u64::MAX - FOOT_NS).abs_diff(5 * (from + to)) <= 1, "{rates:?}");
            let half = within(0, 5_000_000_000);
            assert!(half.abs_diff((15 * from + 5 * to) / 4) <= 1, "{half} of {rates:?} in the first half");
        }
    }

    #[test]
    fn the_shards_share_it() {
        let of = |own_flows, shard| times(ramp([1_000, 3_000], Share { flows: 3, own_flows, shard })).len();
        let (one, two) = (of(2, 0), of(1, 1));
        assert!(one.abs_diff(2 * two) <= 3 && (one + two).abs_diff(21_000) <= 2, "{one} and {two}");
    }

    #[test]
    fn skipping_is_advancing_and_counting_is_exact() {
        let share = Share { flows: 7, own_flows: 4, shard: 1 };
        let (mut skipped, mut advanced) = (ramp([500, 50], share), ramp([500, 50], share));
        for until_ns in [0, 7, FOOT_NS, FOOT_NS + 1, 4_000_000_000, 11_000_000_000] {
            let left = skipped.left_until(until_ns);
            skipped.skip_until(until_ns);
            let mut count = 0_u64;
            while advanced.next_ns() < until_ns {
                advanced.advance();
                count += 1;
            }
            assert!(count.abs_diff(left) <= 1, "{count} and {left} until {until_ns}");
            assert_eq!((skipped.next_ns(), skipped.flow()), (advanced.next_ns(), advanced.flow()));
        }
    }
}
