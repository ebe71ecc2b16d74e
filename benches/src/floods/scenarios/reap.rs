//! A million peers that fall silent at once.

use std::error::Error;
use std::time::{Duration, Instant};

use clap::Args;

use super::{Common, Stage};
use crate::floods::bars::Bars;
use crate::floods::forge::Sources;
use crate::floods::handler::{Policy, Serving};
use crate::floods::wire;

const STEP: Duration = Duration::from_micros(100);
/// How often all sources come at most until all are peers: the kernel may drop some.
const PASSES: u32 = 5;
const LONGEST_TURN: Duration = Duration::from_millis(2);

/// A million peers of which nothing is heard any more.
#[derive(Args, Clone, Debug)]
pub struct Reap {
    /// Peers.
    #[arg(long, default_value_t = 1_000_000)]
    pub peers: u64,
    /// Peers the table has room for.
    #[arg(long, default_value_t = 1 << 20)]
    pub max_peers: u32,
    /// Of them in a second, while they come.
    #[arg(long, default_value_t = 150_000)]
    pub rate: u64,
    /// Milliseconds until a silent peer is closed.
    #[arg(long, default_value_t = 20_000)]
    pub idle_ms: u64,
    /// Peers that go on asking.
    #[arg(long, default_value_t = 100)]
    pub established: u32,
}

impl Reap {
    /// Runs it with a handler that takes every address for proven.
    ///
    /// # Errors
    /// If it cannot be run.
    pub fn run(&self, common: &Common, bars: &mut Bars) -> Result<(), Box<dyn Error>> {
        let (peers, idle_ms) = common.choose((20_000, 1_500), (self.peers, self.idle_ms));
        let count = common.choose(10, self.established);
        bars.of(format!("reap, {}", common.backend));
        let serving = Serving {
            max_peers: Some(self.max_peers),
            idle_ms: Some(idle_ms),
            time_turns: true,
            ..common.serving(Policy::Trusting)
        };
        let mut stage = Stage::new(common, &serving)?;
        let established = stage.establish(count, Policy::Trusting)?;
        stage.count_anew(&established);
        let open =
            |report: &crate::floods::handler::Report| report.get("peers_opened") - report.get("peers_closed");
        let mut full = stage.served.report()?;
        for _ in 0..PASSES {
            let sources = Sources::Many { sources: peers, twice: false };
            let mut flood = stage.forged(sources, wire::ASK, self.rate, peers, STEP)?;
            stage.generator.run_flood(&mut flood, |_| {})?;
            // What is still in the sockets.
            stage.generator.run(Duration::from_millis(200), None)?;
            full = stage.served.report()?;
            if open(&full) >= peers {
                break;
            }
        }
        bars.at_least("peers that are there", open(&full) as f64, peers as f64, "");
        bars.note("longest turn while they came", format!("{:.3} ms", full.longest_turn_ns as f64 / 1e6));
        stage.served.forget()?;
        let idle = Duration::from_millis(idle_ms);
        let (end, began) = (Instant::now() + 4 * idle, Instant::now());
        let mut report = stage.served.report()?;
        while open(&report) > u64::from(count) && Instant::now() < end {
            stage.generator.run(Duration::from_millis(100), None)?;
            report = stage.served.report()?;
        }
        let seconds = began.elapsed().as_secs_f64();
        let reaped = report.get("peers_closed") - full.get("peers_closed");
        bars.note("reaped", format!("{reaped}, all {seconds:.1} s after the last datagram"));
        bars.at_most("peers that are left", open(&report) as f64, f64::from(count), "");
        let longest = report.longest_turn_ns as f64 / 1e6;
        bars.at_most("longest turn meanwhile, of CPU", longest, LONGEST_TURN.as_secs_f64() * 1e3, "ms");
        let met = stage.settle(&established)?;
        bars.note("peers that went on asking", met.describe());
        bars.at_most("of those, forgotten by the server", met.forgotten as f64, 0.0, "");
        Ok(())
    }
}
