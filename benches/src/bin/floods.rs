//! Floods, and what the others notice of them.
//!
//! ```sh
//! cargo run --release -p shardgram-benches --bin floods -- --check all
//! ```
//!
//! It needs two cores, network namespaces, and `unshare` and `ip`; what it does stays in a namespace of its own.

use std::error::Error;
use std::process::ExitCode;

use clap::{Args, FromArgMatches, Parser, Subcommand};
use shardgram_benches::floods::bars::Bars;
use shardgram_benches::floods::handler::{Serving, serve};
use shardgram_benches::floods::namespace;
use shardgram_benches::floods::scenarios::Common;
use shardgram_benches::floods::scenarios::keepalive::Keepalive;
use shardgram_benches::floods::scenarios::newcomers::Newcomers;
use shardgram_benches::floods::scenarios::reap::Reap;
use shardgram_benches::floods::scenarios::slow::Slow;
use shardgram_benches::pps::system;

/// Measures what floods do to those who take no part in them.
#[derive(Parser)]
struct Options {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    scenario: Scenario,
}

#[derive(Subcommand)]
enum Scenario {
    /// New sources without end: newcomers are served all the same, peers keep what they have, memory stays.
    Newcomers(Newcomers),
    /// One address keeps a peer alive at every port: newcomers of others are served.
    Keepalive(Keepalive),
    /// A handler of 10 us a datagram: half of its capacity for listener peers, three times that for connected ones.
    Slow(Slow),
    /// One connected peer sends three times what such a handler can bear: the others lose nothing.
    ConnectedFlood(Slow),
    /// A million idle peers are closed: no turn takes long.
    Reap(Reap),
    /// All of them, with their defaults.
    All,
    /// A server that the others start.
    #[command(hide = true)]
    Serve(Serving),
}

/// The defaults of a scenario's options.
fn defaults<T: Args + FromArgMatches>() -> Result<T, clap::Error> {
    T::from_arg_matches(&T::augment_args(clap::Command::new("floods")).get_matches_from(["floods"]))
}

fn run(scenario: &Scenario, common: &Common, bars: &mut Bars) -> Result<(), Box<dyn Error>> {
    match scenario {
        Scenario::Newcomers(newcomers) => newcomers.run(common, bars),
        Scenario::Keepalive(keepalive) => keepalive.run(common, bars),
        Scenario::Slow(slow) => slow.run(common, bars),
        Scenario::ConnectedFlood(slow) => slow.connected_flood(common, bars),
        Scenario::Reap(reap) => reap.run(common, bars),
        Scenario::All => {
            defaults::<Newcomers>()?.run(common, bars)?;
            defaults::<Keepalive>()?.run(common, bars)?;
            defaults::<Slow>()?.run(common, bars)?;
            defaults::<Slow>()?.connected_flood(common, bars)?;
            defaults::<Reap>()?.run(common, bars)
        }
        Scenario::Serve(serving) => serve(serving),
    }
}

/// On what it is measured.
fn heading(common: &Common) {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    println!("{}", std::env::args().collect::<Vec<_>>().join(" "));
    println!(
        "Linux {}, server on core {}, everybody else on core {}, load average {}",
        read("/proc/sys/kernel/osrelease").trim(),
        common.core,
        common.client_core,
        read("/proc/loadavg").trim()
    );
    if !system::pin(common.client_core) {
        println!("there is no core {}: threads float", common.client_core);
    }
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let Options { common, scenario } = Options::parse();
    if let Scenario::Serve(serving) = &scenario {
        serve(serving)?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(code) = namespace::outside()? {
        return Ok(code);
    }
    heading(&common);
    let mut bars = Bars::default();
    run(&scenario, &common, &mut bars)?;
    println!("\n{}", bars.markdown());
    println!("{}", if bars.met() { "met" } else { "missed" });
    Ok(if common.check && !bars.met() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
