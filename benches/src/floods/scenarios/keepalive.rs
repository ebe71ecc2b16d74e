//! One address that keeps a peer alive at each of its ports, and newcomers from elsewhere.

use std::error::Error;
use std::net::Ipv4Addr;
use std::time::Duration;

use clap::Args;

use super::{Common, Stage, describe};
use crate::floods::bars::Bars;
use crate::floods::clients::{Guest, WITHIN};
use crate::floods::forge::Sources;
use crate::floods::handler::Policy;
use crate::floods::wire;

/// The one address.
const ATTACKER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
/// Its ports; 0 is none.
const PORTS: u64 = 65_535;
/// All ports come first as fast as this.
const FILLS: u64 = 100_000;
const STEP: Duration = Duration::from_micros(500);
/// Newcomers that were served ask so often.
const ASKS: Duration = Duration::from_secs(1);

/// One address with all its ports, which all keep alive.
#[derive(Args, Clone, Debug)]
pub struct Keepalive {
    /// Seconds in which each port sends once.
    #[arg(long, default_value_t = 10)]
    pub every: u64,
    /// Seconds for which they do.
    #[arg(long, default_value_t = 60)]
    pub seconds: u64,
    /// Newcomers, in the first half of them.
    #[arg(long, default_value_t = 100)]
    pub newcomers: u32,
    /// Handlers: one that never validates anyone, and one that takes every address for proven.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "everybody,trusting")]
    pub policy: Vec<Policy>,
}

impl Keepalive {
    /// Runs it with each handler.
    ///
    /// # Errors
    /// If it cannot be run.
    pub fn run(&self, common: &Common, bars: &mut Bars) -> Result<(), Box<dyn Error>> {
        self.policy.iter().try_for_each(|policy| self.once(common, bars, *policy))
    }

    fn once(&self, common: &Common, bars: &mut Bars, policy: Policy) -> Result<(), Box<dyn Error>> {
        let (every, seconds) = common.choose((2, 2), (self.every, self.seconds));
        let newcomers = common.choose(10, self.newcomers);
        let name = format!("{policy:?}").to_lowercase();
        bars.of(format!("keepalive, {}, handler {name}", common.backend));
        let mut stage = Stage::new(common, &common.serving(policy))?;
        let before = stage.served.report()?;
        let sources = Sources::Ports(ATTACKER);
        let mut fill = stage.forged(sources, wire::ASK, FILLS, PORTS, STEP)?;
        stage.generator.run_flood(&mut fill, |_| {})?;
        stage.generator.run(stage.settles, None)?;
        let filled = stage.served.report()?;
        bars.note("peers of the address, at first", open(&filled));
        let rate = PORTS / every;
        let mut flood = stage.forged(sources, wire::ASK, rate, rate * seconds, STEP)?;
        let half = Duration::from_secs(seconds) / 2;
        let who = stage
            .add(newcomers, Duration::ZERO, half, |ip, to, flow| Guest::newcomer(ip, to, flow, Some(ASKS)))?;
        stage.generator.run_flood(&mut flood, |_| {})?;
        let met = stage.settle(&who)?;
        let report = stage.served.report()?;

        describe(bars, &flood, &before, &report);
        let in_time = stage.generator.guests[who].iter().filter(|guest| {
            let after = guest.arrival.and_then(|arrival| arrival.after_ns);
            after.is_some_and(|ns| u128::from(ns) <= WITHIN.as_nanos())
        });
        bars.at_least("newcomers answered within a second", in_time.count() as f64, f64::from(newcomers), "");
        bars.note("their further questions", met.describe());
        let dropped = report.get("kernel_dropped") - before.get("kernel_dropped");
        let dropped = 100.0 * dropped as f64 / (flood.sent() + met.asked) as f64;
        bars.at_most(
            "loss of those, beyond what the kernel dropped",
            (met.lost_percent() - dropped).max(0.0),
            1.0,
            "%",
        );
        bars.at_most("newcomers that the server forgot", met.forgotten as f64, 0.0, "");
        bars.note("peers at the end", open(&report));
        Ok(())
    }
}

fn open(report: &crate::floods::handler::Report) -> u64 {
    report.get("peers_opened") - report.get("peers_closed")
}
