//! A forged flood of new sources, and newcomers that want in meanwhile and right after.

use std::error::Error;
use std::time::Duration;

use clap::Args;
use shardgram::Config;

use super::{Common, Stage, describe};
use crate::floods::bars::Bars;
use crate::floods::clients::{Guest, WITHIN};
use crate::floods::forge::Sources;
use crate::floods::handler::Policy;
use crate::floods::wire;

/// Datagrams of the flood leave so often.
const STEP: Duration = Duration::from_micros(100);
/// What lies between the server's datagrams and the client's, in a handshake.
const ROUND_TRIP: Duration = Duration::from_millis(100);
/// What a peer may cost beside the state of the handler ([`Config::max_peers`]), and that state.
const PEER_BYTES: u64 = 256 + 8;
/// Memory that may be used beside the tables.
const BESIDE_KIB: u64 = 16 << 10;

/// Forged sources, and newcomers that are to be served all the same.
#[derive(Args, Clone, Debug)]
pub struct Newcomers {
    /// Datagrams of the flood.
    #[arg(long, default_value_t = 20_000_000)]
    pub datagrams: u64,
    /// Of them in a second.
    #[arg(long, default_value_t = 150_000)]
    pub rate: u64,
    /// Sources they seem to come from.
    #[arg(long, default_value_t = 1_000_000)]
    pub sources: u64,
    /// Newcomers during the flood, and as many right after.
    #[arg(long, default_value_t = 100)]
    pub newcomers: u32,
    /// Peers that were there before.
    #[arg(long, default_value_t = 100)]
    pub established: u32,
    /// Handlers.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "everybody,cookies,pressure")]
    pub policy: Vec<Policy>,
    /// Datagrams of a source before the next one's: 1 or 2.
    #[arg(long, value_delimiter = ',', default_value = "1,2", value_parser = clap::value_parser!(u8).range(1..=2))]
    pub per_source: Vec<u8>,
}

impl Newcomers {
    /// Runs it with each handler and each number of datagrams a source.
    ///
    /// # Errors
    /// If it cannot be run.
    pub fn run(&self, common: &Common, bars: &mut Bars) -> Result<(), Box<dyn Error>> {
        let mut this = self.clone();
        if common.quick {
            (this.datagrams, this.rate, this.sources) = (80_000, 80_000, 80_000);
            (this.newcomers, this.established, this.per_source) = (10, 10, vec![2]);
        }
        for policy in &this.policy {
            for per_source in &this.per_source {
                let name = format!("{policy:?}").to_lowercase();
                bars.of(format!("newcomers, {}, handler {name}, {per_source} a source", common.backend));
                this.once(common, bars, *policy, *per_source == 2)?;
            }
        }
        Ok(())
    }

    fn guests(
        &self,
        stage: &mut Stage,
        policy: Policy,
        delay: Duration,
        time: Duration,
    ) -> std::io::Result<std::ops::Range<usize>> {
        stage.add(self.newcomers, delay, time, |ip, to, flow| {
            if policy.validates() {
                Guest::handshake(ip, to, flow, ROUND_TRIP, None)
            } else {
                Guest::newcomer(ip, to, flow, None)
            }
        })
    }

    fn once(
        &self,
        common: &Common,
        bars: &mut Bars,
        policy: Policy,
        twice: bool,
    ) -> Result<(), Box<dyn Error>> {
        let mut stage = Stage::new(common, &common.serving(policy))?;
        let established = stage.establish(self.established, policy)?;
        let (resident, before) = (stage.served.resident_kib(), stage.served.report()?);
        stage.count_anew(&established);
        let kind = if policy.validates() { wire::HELLO } else { wire::ASK };
        let sources = Sources::Many { sources: self.sources, twice };
        let mut flood = stage.forged(sources, kind, self.rate, self.datagrams, STEP)?;
        let lasts = Duration::from_secs_f64(self.datagrams as f64 / self.rate as f64);
        let during = self.guests(&mut stage, policy, lasts / 20, lasts * 9 / 10)?;
        let mut most = resident;
        let served = &stage.served;
        stage.generator.run_flood(&mut flood, |_| most = most.max(served.resident_kib()))?;
        let after = self.guests(&mut stage, policy, Duration::ZERO, SOON)?;
        stage.arrive(&after)?;
        let met = stage.settle(&established)?;
        let report = stage.served.report()?;
        most = most.max(stage.served.resident_kib());

        describe(bars, &flood, &before, &report);
        for (when, whose) in [("during", during), ("right after", after)] {
            judge_arrivals(bars, when, policy, &stage.generator.guests[whose]);
        }
        bars.note("established peers", met.describe());
        bars.note("established peers that the server forgot", met.forgotten);
        if policy.validates() {
            let dropped = report.get("kernel_dropped") - before.get("kernel_dropped");
            let dropped = 100.0 * dropped as f64 / (flood.sent() + met.asked) as f64;
            bars.note("dropped by the kernel", format!("{dropped:.3} %"));
            bars.at_most(
                "established peers' loss beyond that",
                (met.lost_percent() - dropped).max(0.0),
                1.0,
                "%",
            );
        }
        let tables = u64::from(Config::new().settings().max_peers) * PEER_BYTES / 1_024;
        bars.at_most(
            "resident memory grew by",
            (most - resident) as f64,
            (tables + BESIDE_KIB) as f64,
            "KiB",
        );
        Ok(())
    }
}

/// The time after the flood in which newcomers are right after it.
const SOON: Duration = Duration::from_secs(1);

fn judge_arrivals(bars: &mut Bars, when: &str, policy: Policy, guests: &[Guest]) {
    let served: Vec<_> =
        guests.iter().filter_map(|guest| guest.arrival).filter(|a| a.after_ns.is_some()).collect();
    let mut after: Vec<_> = served.iter().filter_map(|arrival| arrival.after_ns).collect();
    after.sort_unstable();
    let at = |part: f64| {
        after.get(((after.len().max(1) - 1) as f64 * part) as usize).map_or(f64::NAN, |ns| *ns as f64 / 1e6)
    };
    let retried = served.iter().filter(|arrival| arrival.tries > 1).count();
    bars.note(
        &format!("newcomers {when}"),
        format!(
            "{} of {} served, {retried} not at the first try; median {:.3} ms, p99 {:.3} ms, longest {:.3} ms",
            served.len(), guests.len(), at(0.5), at(0.99), at(1.0)
        ),
    );
    let in_time = served.iter().filter(|arrival| {
        let at_once = arrival.after_ns.is_some_and(|ns| u128::from(ns) <= WITHIN.as_nanos());
        if policy.validates() { arrival.tries <= 2 } else { at_once }
    });
    let what = if policy.validates() {
        format!("newcomers {when} whose handshake succeeded within two tries")
    } else {
        format!("newcomers {when} answered within a second")
    };
    bars.at_least(&what, in_time.count() as f64, guests.len() as f64, "");
}
