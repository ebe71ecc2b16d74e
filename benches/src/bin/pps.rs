//! shardgram and its rivals under the same load, in turns.
//!
//! ```sh
//! cargo run --release -p shardgram-benches --features rivals --bin pps -- --quick
//! ```
//!
//! Without the feature `rivals` only shardgram on io_uring and mio, the bare ring loop, and the plain system calls are
//! there.

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use shardgram_benches::pps::bars::{Bars, SHIPPED};
use shardgram_benches::pps::client::{Outcome, Style};
use shardgram_benches::pps::contender::{ALL, Contender};
use shardgram_benches::pps::fingerprint::Fingerprint;
use shardgram_benches::pps::rounds::{Measured, Plan};
use shardgram_benches::pps::scenario::{self, Rate, Scenario, Shape};
use shardgram_benches::pps::servers::{self, Mode, Task, Wait};
use shardgram_benches::pps::{check, report, system};

/// Measures shardgram beside its rivals. Without options it runs everything, which takes about an hour.
#[derive(Parser)]
struct Options {
    #[command(subcommand)]
    command: Option<Command>,
    /// Three scenarios, two short rounds: less than two minutes.
    #[arg(long)]
    quick: bool,
    /// Measure what the bars speak of, and write down who meets them. Exit code 1 if one is missed.
    #[arg(long, conflicts_with_all = ["quick", "scenario", "list", "contenders"])]
    check: bool,
    /// The bars, instead of those this program was built with.
    #[arg(long, requires = "check", value_name = "FILE")]
    bars: Option<PathBuf>,
    /// Where the check writes its results.
    #[arg(long, requires = "check", value_name = "FILE", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/RESULTS.md"))]
    results: PathBuf,
    /// Say what there is, and do nothing.
    #[arg(long)]
    list: bool,
    #[command(flatten)]
    custom: Custom,
    /// Contenders, as in tokio,mio; all that were built, unless told.
    #[arg(long, value_delimiter = ',', value_parser = contender)]
    contenders: Vec<Contender>,
    /// Interleaved rounds; 9 unless told, and what the bars say for a check.
    #[arg(long)]
    rounds: Option<usize>,
    /// Seconds a contender is measured for in each round; 1 unless told.
    #[arg(long)]
    seconds: Option<f64>,
    /// The server's core.
    #[arg(long, default_value_t = 1)]
    core: usize,
    /// The client's core.
    #[arg(long, default_value_t = 0)]
    client_core: usize,
    /// Servers take and send no trains, where that is for them to say.
    #[arg(long)]
    no_trains: bool,
    /// Write every round as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draw charts into this folder; takes the feature rivals.
    #[arg(long, value_name = "DIR")]
    svg: Option<PathBuf>,
    /// Exit with 1 if any contender failed in any round.
    #[arg(long)]
    fail_on_fault: bool,
}

/// A scenario of one's own.
#[derive(Args)]
struct Custom {
    /// Flows and datagrams of each in flight, as in 64x16; several times for several scenarios.
    #[arg(long, value_name = "FLOWSxWINDOW")]
    scenario: Vec<Shape>,
    /// echo, sink, or fanout, where flows are those who listen.
    #[arg(long, requires = "scenario", default_value = "echo")]
    mode: Mode,
    /// Bytes of a datagram.
    #[arg(long, requires = "scenario", default_value_t = 64)]
    size: usize,
    /// plain: one datagram a message. offload: trains.
    #[arg(long, requires = "scenario", default_value = "plain")]
    client: Style,
    /// How the server waits: block or spin.
    #[arg(long, requires = "scenario", default_value = "block")]
    wait: Wait,
    /// How the client waits, if not as the server does.
    #[arg(long, requires = "scenario")]
    client_wait: Option<Wait>,
    /// An open loop: the same rate for all, half of what the slowest is capable of.
    #[arg(long, requires = "scenario")]
    half_rate: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Be a server. This program starts itself with it.
    #[command(hide = true)]
    Serve(Task),
}

fn contender(name: &str) -> Result<Contender, String> {
    let contender = Contender::named(name).ok_or("there is no such contender, see --list")?;
    if contender.is_built() { Ok(contender) } else { Err("this takes --features rivals".to_owned()) }
}

impl Custom {
    fn scenarios(&self) -> Vec<Scenario> {
        let one = |shape: &Shape| Scenario {
            shape: *shape,
            mode: self.mode,
            size: self.size,
            client: self.client,
            wait: self.wait,
            client_wait: self.client_wait,
            rate: if self.half_rate { Rate::HalfOfSlowest } else { Rate::Closed },
        };
        self.scenario.iter().map(one).collect()
    }
}

impl Options {
    fn scenarios(&self) -> Vec<Scenario> {
        match self.custom.scenarios() {
            all if !all.is_empty() => all,
            _ if self.quick => scenario::quick(),
            _ => scenario::standard(),
        }
    }

    fn plan(&self, rounds: usize, seconds: f64) -> Result<Plan, Box<dyn Error>> {
        let seconds = self.seconds.unwrap_or(seconds);
        if !(0.05..=600.0).contains(&seconds) {
            return Err("a round has 0.05 to 600 seconds".into());
        }
        let rounds = self.rounds.unwrap_or(rounds);
        if !(1..=1000).contains(&rounds) {
            return Err("there are 1 to 1,000 rounds".into());
        }
        let contenders =
            if self.contenders.is_empty() { Contender::built() } else { self.contenders.clone() };
        Ok(Plan {
            program: std::env::current_exe()?,
            contenders,
            rounds,
            time: Duration::from_secs_f64(seconds),
            server_core: self.core,
            no_trains: self.no_trains,
        })
    }

    fn write(&self, fingerprint: &Fingerprint, all: &[Measured]) -> Result<(), Box<dyn Error>> {
        if let Some(path) = &self.json {
            std::fs::write(path, report::json(fingerprint, all)?)?;
        }
        if let Some(folder) = &self.svg {
            draw(folder, all)?;
        }
        Ok(())
    }
}

#[cfg(feature = "rivals")]
fn draw(folder: &std::path::Path, all: &[Measured]) -> Result<(), Box<dyn Error>> {
    let files = shardgram_benches::pps::plots::draw(folder, all)?;
    eprintln!("{} charts in {}", files.len(), folder.display());
    Ok(())
}

#[cfg(not(feature = "rivals"))]
fn draw(_: &std::path::Path, _: &[Measured]) -> Result<(), Box<dyn Error>> {
    Err("--svg takes --features rivals".into())
}

fn list() {
    println!("contenders:");
    for contender in ALL {
        let built = if contender.is_built() { "" } else { " (not built: takes --features rivals)" };
        println!("  {:27}{}{built}", contender.name, contender.label);
    }
    println!("scenarios:");
    for scenario in scenario::standard() {
        println!("  {:27}{}", scenario.name(), scenario.describe());
    }
}

/// One line for each contender and round, so that one sees it go on.
fn progress(scenario: &Scenario, contender: &Contender, round: usize, outcome: &Result<Outcome, String>) {
    let what = match outcome {
        Ok(outcome) => {
            let fault = outcome.fault().map(|fault| format!("; failed: {fault}")).unwrap_or_default();
            format!("{:.0} pps, {:.0} ns{fault}", outcome.pps, outcome.cpu_ns)
        }
        Err(error) => format!("failed: {error}"),
    };
    eprintln!("{} round {}: {}: {what}", scenario.name(), round + 1, contender.name);
}

fn check(options: &Options) -> Result<bool, Box<dyn Error>> {
    let text = options.bars.as_ref().map(std::fs::read_to_string).transpose()?;
    let bars = Bars::parse(text.as_deref().unwrap_or(SHIPPED))?;
    if let Some(missing) = ALL.into_iter().find(|contender| !contender.is_built()) {
        return Err(format!("{} is not built: a check takes --features rivals", missing.name).into());
    }
    let plan = options.plan(bars.rounds, bars.seconds)?;
    let fingerprint = Fingerprint::take(options.core, options.client_core);
    let checked = check::run(&bars, &plan, progress)?;
    std::fs::write(&options.results, checked.markdown(&fingerprint, &plan))?;
    checked.verdicts.iter().for_each(|verdict| print!("{}", verdict.markdown()));
    println!("written to {}", options.results.display());
    options.write(&fingerprint, &checked.measured)?;
    Ok(checked.is_met())
}

fn measure(options: &Options) -> Result<bool, Box<dyn Error>> {
    let plan = if options.quick { options.plan(2, 0.7) } else { options.plan(9, 1.0) }?;
    let fingerprint = Fingerprint::take(options.core, options.client_core);
    let all = plan.run(&options.scenarios(), |_, _| true, progress)?;
    println!("{}", report::markdown(&fingerprint, &all));
    options.write(&fingerprint, &all)?;
    let failed = all.iter().flat_map(|measured| &measured.rows).any(|row| row.fault().is_some());
    Ok(!(options.fail_on_fault && failed))
}

fn run(options: &Options) -> Result<bool, Box<dyn Error>> {
    if let Some(Command::Serve(task)) = &options.command {
        return servers::serve(task).map(|()| true);
    }
    if options.list {
        list();
        return Ok(true);
    }
    system::raise_descriptors();
    if !system::pin(options.client_core) {
        eprintln!("there is no core {}: the client is not pinned", options.client_core);
    }
    if options.check { check(options) } else { measure(options) }
}

fn main() -> ExitCode {
    let options = match Options::try_parse() {
        Ok(options) => options,
        Err(error) => {
            let _ = error.print(); // nobody is left to be told
            return if error.use_stderr() { ExitCode::from(2) } else { ExitCode::SUCCESS };
        }
    };
    match run(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("pps: {error}");
            ExitCode::from(2)
        }
    }
}
