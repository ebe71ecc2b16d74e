//! Loads a UDP echo server and measures it, on shardgram's own client side.
//!
//! `cargo run --release --example loadgen` needs nothing else: it starts a server of its own. With
//! `-- 192.0.2.1:9000 --rate 100000 --fail-if "lost>0,p99>2ms"` it loads another one at a steady rate.

mod arrivals;
mod client;
mod conduct;
mod cpu;
mod embedded;
mod fail_if;
mod flow;
mod hdr_log;
mod html;
mod json;
mod link;
mod machine;
mod offload;
mod options;
mod outputs;
mod page;
mod pattern;
mod payload;
mod plan;
mod plots;
mod progress;
mod ramp;
mod report;
mod run;
mod schedule;
mod search;
mod search_report;
mod series;
mod server;
mod sizes;
mod slices;
mod sources;
mod steady;
mod table;
mod tally;
mod target;
mod units;

use std::process::ExitCode;

use offload::Offload;
use options::Options;
use outputs::Outputs;
use report::Report;

/// The result is not what was asked for.
const FAILED: u8 = 1;
/// There is no result.
const REFUSED: u8 = 2;

fn main() -> ExitCode {
    match Options::from_command_line().and_then(|options| run(&options)) {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(fault)) => exit(FAILED, &fault),
        Err(cause) => exit(REFUSED, &cause),
    }
}

fn exit(code: u8, line: &str) -> ExitCode {
    eprintln!("loadgen: {line}");
    ExitCode::from(code)
}

/// Gives what is wrong with the result, in one line. An error means that there is no result.
fn run(options: &Options) -> Result<Option<String>, String> {
    let mut outputs = Outputs::open(options)?;
    if !options.search.is_empty() {
        return search(options, &mut outputs);
    }
    let report = run::run(options, &mut outputs)?;
    outputs.end()?;
    if report.is_empty() {
        return Ok(Some("interrupted before anything was measured; take a shorter --warmup".to_owned()));
    }
    outputs.report(|| page::of_run(&report, options))?;
    outputs::print(&match options.json {
        true => format!("{}\n", json::of(&report)),
        false => table::Table(&report).to_string(),
    })?;
    Ok(fault(&report, options))
}

fn search(options: &Options, outputs: &mut Outputs) -> Result<Option<String>, String> {
    let line = |line: String| if options.json { Ok(()) } else { outputs::print(&(line + "\n")) };
    line(search_report::trial_heading())?;
    let search = search::run(options, outputs, |trial| line(search_report::trial(trial)))?;
    outputs.report(|| page::of_search(&search, options))?;
    outputs::print(&match options.json {
        true => format!("{}\n", search_report::json(&search, options)),
        false => search_report::table(&search, options),
    })?;
    Ok(search::fault(&search, &options.fail_if))
}

/// What is wrong with the result, in one line.
fn fault(report: &Report, options: &Options) -> Option<String> {
    if report.is_known() && report.tally.received == 0 {
        return Some(silence(report));
    }
    if options.offload == Offload::On && report.client_counters.trains_sent == 0 {
        return Some(
            "no train was sent, as --offload on demands: take a greater --window or --offload auto, or see the log"
                .to_owned(),
        );
    }
    fail_if::violations(&options.fail_if, report)
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
