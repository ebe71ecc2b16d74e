//! When an open loop at one rate means to send: every shard its share, without drift.

use super::schedule::Share;

/// The intended send times of one shard, in ns since the run began.
#[derive(Clone, Debug)]
pub(crate) struct Steady {
    next_ns: u64,
    /// Whole ns between two sends, and what is left over in units of 1/`parts` ns.
    step_ns: u64,
    step_rest: u128,
    rest: u128,
    parts: u128,
    flow: u32,
    flows: u32,
}

impl Steady {
    pub(crate) fn new(start_ns: u64, rate_pps: u64, burst: u32, share: Share) -> Self {
        let Share { flows, own_flows, shard } = share;
        let numerator = 1_000_000_000 * u128::from(burst) * u128::from(flows);
        let parts = u128::from(rate_pps) * u128::from(own_flows.max(1));
        Self {
            next_ns: start_ns + u64::from(shard) * 1_000_000_000 / rate_pps,
            step_ns: (numerator / parts) as u64,
            step_rest: numerator % parts,
            rest: 0,
            parts,
            flow: 0,
            flows: own_flows,
        }
    }

    /// When the next datagram is to leave.
    #[inline]
    pub(crate) fn next_ns(&self) -> u64 {
        self.next_ns
    }

    /// Which flow of this shard is to send it.
    #[inline]
    pub(crate) fn flow(&self) -> u32 {
        self.flow
    }

    #[inline]
    pub(crate) fn advance(&mut self) {
        self.next_ns += self.step_ns;
        self.rest += self.step_rest;
        if self.rest >= self.parts {
            self.rest -= self.parts;
            self.next_ns += 1;
        }
        self.flow += 1;
        if self.flow == self.flows {
            self.flow = 0;
        }
    }

    /// Leaves out what was to leave before `ns`.
    pub(crate) fn skip_until(&mut self, ns: u64) {
        let skipped = self.left_until(ns).saturating_sub(1);
        self.rest += u128::from(skipped) * self.step_rest;
        self.next_ns += skipped * self.step_ns + (self.rest / self.parts) as u64;
        self.rest %= self.parts;
        self.flow = ((u64::from(self.flow) + skipped) % u64::from(self.flows.max(1))) as u32;
        while self.next_ns < ns {
            self.advance();
        }
    }

    /// How many datagrams were to leave from the next one on until `end_ns`.
    pub(crate) fn left_until(&self, end_ns: u64) -> u64 {
        let Some(span) = end_ns.checked_sub(self.next_ns + 1) else { return 0 };
        let step = u128::from(self.step_ns) * self.parts + self.step_rest;
        (u128::from(span) * self.parts / step) as u64 + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count_until(mut schedule: Steady, end_ns: u64) -> u64 {
        let mut count = 0;
        while schedule.next_ns() < end_ns {
            schedule.advance();
            count += 1;
        }
        count
    }

    #[test]
    fn the_shards_together_send_the_rate_without_drift() {
        for (rate_pps, flows, shards) in [(7, 3, 1), (1_000, 64, 2), (33_333, 10, 3), (999_983, 65, 4)] {
            let sum: u64 = (0..shards)
                .map(|shard| {
                    let own_flows = (flows + shards - 1 - shard) / shards;
                    let share = Share { flows, own_flows, shard: shard as u16 };
                    let schedule = Steady::new(5, rate_pps, 1, share);
                    let count = count_until(schedule.clone(), 3_000_000_005);
                    assert!(count.abs_diff(schedule.left_until(3_000_000_005)) <= 1);
                    count
                })
                .sum();
            assert!(sum.abs_diff(3 * rate_pps) <= u64::from(shards), "{sum} of {}", 3 * rate_pps);
        }
    }

    #[test]
    fn skipping_is_advancing() {
        let share = Share { flows: 7, own_flows: 4, shard: 1 };
        let (mut skipped, mut advanced) =
            (Steady::new(9, 333_333, 1, share), Steady::new(9, 333_333, 1, share));
        for until_ns in [0, 20_000, 20_001, 2_000_000_000] {
            skipped.skip_until(until_ns);
            while advanced.next_ns() < until_ns {
                advanced.advance();
            }
            assert_eq!((skipped.next_ns(), skipped.flow()), (advanced.next_ns(), advanced.flow()));
        }
    }

    #[test]
    fn flows_take_turns() {
        let share = Share { flows: 3, own_flows: 3, shard: 0 };
        let mut schedule = Steady::new(0, 10, 1, share);
        let mut order = Vec::new();
        for _ in 0..5 {
            order.push((schedule.flow(), schedule.next_ns() / 1_000_000));
            schedule.advance();
        }
        assert_eq!(order, [(0, 0), (1, 100), (2, 200), (0, 300), (1, 400)]);
    }
}
