//! When an open loop means to send, and from which flow.

use std::fmt;
use std::time::Duration;

use super::ramp::Ramp;
use super::steady::Steady;
use super::units::{grouped, parse_duration};

/// The greatest rate, in datagrams a second.
pub(crate) const MOST_PPS: u64 = 100_000_000;

/// Datagrams a second over all flows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Rate {
    Steady(u64),
    /// From the first to the second within this time, evenly.
    Ramp {
        from: u64,
        to: u64,
        over: Duration,
    },
}

/// Reads `10000..200000/20s`.
pub(crate) fn parse_ramp(text: &str) -> Result<Rate, String> {
    let example = "write it as in 10000..200000/20s";
    let parts = text.split_once("..").and_then(|(from, rest)| Some((from, rest.split_once('/')?)));
    let Some((from, (to, over))) = parts else { return Err(format!("'{text}' is no ramp; {example}")) };
    let rate = |text: &str| {
        let rate = text.trim().parse().ok().filter(|rate| (1..=MOST_PPS).contains(rate));
        rate.ok_or_else(|| format!("'{text}' is no rate of 1 to {MOST_PPS} datagrams a second; {example}"))
    };
    let over = parse_duration(over)?;
    if !(Duration::from_millis(1)..=Duration::from_secs(86_400)).contains(&over) {
        return Err(format!("a ramp takes 1ms to 24h; {example}"));
    }
    Ok(Rate::Ramp { from: rate(from)?, to: rate(to)?, over })
}

impl Rate {
    /// The rates at the beginning and at the end.
    pub(crate) fn ends(self) -> (u64, u64) {
        match self {
            Self::Steady(rate) => (rate, rate),
            Self::Ramp { from, to, .. } => (from, to),
        }
    }

    /// The greatest rate there will be.
    pub(crate) fn most(self) -> u64 {
        match self {
            Self::Steady(rate) => rate,
            Self::Ramp { from, to, .. } => from.max(to),
        }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Steady(rate) => write!(f, "{} datagrams a second", grouped(*rate)),
            Self::Ramp { from, to, .. } => {
                write!(f, "{} to {} datagrams a second", grouped(*from), grouped(*to))
            }
        }
    }
}

/// What part of a rate is one shard's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Share {
    /// Flows of the run.
    pub(crate) flows: u32,
    /// Flows of this shard.
    pub(crate) own_flows: u32,
    /// This shard: its sends fall between those of the others.
    pub(crate) shard: u16,
}

/// The intended send times of one shard, in ns since the run began. Datagrams come in bursts of one flow,
/// which may be of one datagram.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    pace: Pace,
    burst: u32,
    /// How many of the next burst are left.
    left: u32,
}

/// When bursts begin.
#[derive(Clone, Debug)]
enum Pace {
    Steady(Steady),
    Ramp(Ramp),
}

impl Schedule {
    /// From `start_ns` on. A ramp keeps its first rate until `counted_from_ns`.
    pub(crate) fn new(start_ns: u64, counted_from_ns: u64, rate: Rate, burst: u32, share: Share) -> Self {
        let pace = match rate {
            Rate::Steady(rate) => Pace::Steady(Steady::new(start_ns, rate, burst, share)),
            Rate::Ramp { from, to, over } => {
                let bursts = [from, to].map(|rate| rate as f64 / f64::from(burst));
                Pace::Ramp(Ramp::new(start_ns, counted_from_ns, bursts, over, share))
            }
        };
        Self { pace, burst, left: burst }
    }

    /// When the next datagram is to leave; the greatest number if none is.
    #[inline]
    pub(crate) fn next_ns(&self) -> u64 {
        match &self.pace {
            Pace::Steady(steady) => steady.next_ns(),
            Pace::Ramp(ramp) => ramp.next_ns(),
        }
    }

    /// Which of the shard's active flows is to send it.
    #[inline]
    pub(crate) fn flow(&self) -> u32 {
        match &self.pace {
            Pace::Steady(steady) => steady.flow(),
            Pace::Ramp(ramp) => ramp.flow(),
        }
    }

    #[inline]
    pub(crate) fn advance(&mut self) {
        self.left -= 1;
        if self.left > 0 {
            return;
        }
        self.left = self.burst;
        match &mut self.pace {
            Pace::Steady(steady) => steady.advance(),
            Pace::Ramp(ramp) => ramp.advance(),
        }
    }

    /// Leaves out what was to leave before `ns`.
    pub(crate) fn skip_until(&mut self, ns: u64) {
        if self.next_ns() >= ns {
            return;
        }
        self.left = self.burst;
        match &mut self.pace {
            Pace::Steady(steady) => steady.skip_until(ns),
            Pace::Ramp(ramp) => ramp.skip_until(ns),
        }
    }

    /// How many datagrams were to leave from the next one on until `end_ns`.
    pub(crate) fn left_until(&self, end_ns: u64) -> u64 {
        let bursts = match &self.pace {
            Pace::Steady(steady) => steady.left_until(end_ns),
            Pace::Ramp(ramp) => ramp.left_until(end_ns),
        };
        match bursts {
            0 => 0,
            more => (more - 1) * u64::from(self.burst) + u64::from(self.left),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ramps_are_read() {
        let over = Duration::from_secs(20);
        assert_eq!(parse_ramp("10..200/20s"), Ok(Rate::Ramp { from: 10, to: 200, over }));
        assert_eq!(parse_ramp("200..10/20").map(Rate::most), Ok(200));
        for text in
            ["", "10", "10..20", "10/20s", "0..10/1s", "10..x/1s", "1..2/0s", "1..2/soon", "1..2/3m x"]
        {
            let refusal = parse_ramp(text).expect_err(text);
            assert!(refusal.contains("as in"), "{refusal}");
        }
    }

    #[test]
    fn bursts_keep_the_rate_and_their_flow() {
        let share = Share { flows: 3, own_flows: 3, shard: 0 };
        let over = Duration::from_secs(1);
        for rate in [Rate::Steady(100), Rate::Ramp { from: 50, to: 150, over }] {
            let mut schedule = Schedule::new(0, 0, rate, 4, share);
            let left = schedule.left_until(1_000_000_000);
            let mut sent = Vec::new();
            while schedule.next_ns() < 1_000_000_000 {
                sent.push((schedule.flow(), schedule.next_ns()));
                schedule.advance();
            }
            assert!(sent.len().abs_diff(100) <= 4 && left.abs_diff(100) <= 4, "{} and {left}", sent.len());
            for (at, burst) in sent.chunks(4).enumerate() {
                assert!(burst.iter().all(|one| *one == (at as u32 % 3, burst[0].1)), "{burst:?}");
            }
        }
        let mut schedule = Schedule::new(0, 0, Rate::Steady(100), 4, share);
        schedule.advance();
        assert_eq!(schedule.left_until(50_000_000), 3 + 4, "the rest of the first, and the second");
        schedule.skip_until(1);
        assert_eq!((schedule.next_ns(), schedule.left_until(50_000_000)), (40_000_000, 4));
    }
}
