//! Loads a UDP echo server and measures it, on shardgram's own client side.
//!
//! `cargo run --release --example loadgen` needs nothing else: it starts a server of its own. With
//! `-- 192.0.2.1:9000 --rate 100000 --fail-if "lost>0,p99>2ms"` it loads another one at a steady rate.

mod client;
mod cpu;
mod embedded;
mod fail_if;
mod flow;
mod hdr_log;
mod json;
mod link;
mod options;
mod outputs;
mod payload;
mod plan;
mod progress;
mod ramp;
mod report;
mod run;
mod schedule;
mod series;
mod sizes;
mod slices;
mod sources;
mod steady;
mod table;
mod tally;
mod target;
mod units;

use std::io::Write;
use std::process::ExitCode;

use options::Options;
use outputs::Outputs;
use report::Report;

/// The result is not what was asked for.
const FAILED: u8 = 1;
/// There is no result.
const REFUSED: u8 = 2;

fn main() -> ExitCode {
    let outcome = Options::from_command_line().and_then(|options| {
        let mut outputs = Outputs::open(&options)?;
        let report = run::run(&options, &mut outputs)?;
        outputs.end()?;
        show(&report, &options)?;
        Ok((report, options))
    });
    match outcome {
        Ok((report, options)) => match fault(&report, &options) {
            None => ExitCode::SUCCESS,
            Some(fault) => exit(FAILED, &fault),
        },
        Err(cause) => exit(REFUSED, &cause),
    }
}

fn exit(code: u8, line: &str) -> ExitCode {
    eprintln!("loadgen: {line}");
    ExitCode::from(code)
}

fn show(report: &Report, options: &Options) -> Result<(), String> {
    if report.is_empty() {
        return Ok(());
    }
    let mut out = std::io::stdout().lock();
    let written = match options.json {
        true => writeln!(out, "{}", json::of(report)),
        false => write!(out, "{}", table::Table(report)),
    };
    written.map_err(|error| format!("the result cannot be written ({error}); see where standard output goes"))
}

/// What is wrong with the result, in one line.
fn fault(report: &Report, options: &Options) -> Option<String> {
    if report.is_empty() {
        return Some("interrupted before anything was measured; take a shorter --warmup".to_owned());
    }
    if report.tally.received == 0 {
        return Some(silence(report));
    }
    let violations: Vec<_> = options.fail_if.iter().filter_map(|c| c.violation(report)).collect();
    (!violations.is_empty()).then(|| format!("failed: {}", violations.join(", ")))
}

/// Why nothing was measured.
fn silence(report: &Report) -> String {
    let (target, counters) = (&report.target, &report.client_counters);
    if counters.delivered > 0 {
        return format!("{target} answered nothing in time that was measured; take a longer --duration");
    }
    if counters.dropped_foreign > 0 {
        return format!(
            "replies came from another address than {target}; name the one the server replies from"
        );
    }
    let why = report.tally.failure.map_or_else(String::new, |error| format!(" ({error})"));
    format!("nothing came back from {target}{why}: is a server listening there?")
}
