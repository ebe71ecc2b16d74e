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
mod probe;
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

use std::io::{self, Write};
use std::process::ExitCode;

use offload::Offload;
use options::Options;
use outputs::Outputs;
use report::Report;
use shardgram::PeerError;

/// Headers of IPv6 and UDP (RFC 8200, RFC 768); those of IPv4 are shorter.
const IP_AND_UDP_BYTES: usize = 48;
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
    let _ = writeln!(io::stderr(), "loadgen: {line}"); // whoever reads may have gone away
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
    if report.refused && report.tally.received == 0 {
        return Ok(fault(&report, options));
    }
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
    let mut headed = false;
    let search = search::run(options, outputs, |trial| {
        if !std::mem::replace(&mut headed, true) {
            line(search_report::trial_heading())?;
        }
        line(search_report::trial(trial))
    })?;
    if !search.trials.is_empty() {
        outputs.report(|| page::of_search(&search, options))?;
        outputs::print(&match options.json {
            true => format!("{}\n", search_report::json(&search, options)),
            false => search_report::table(&search, options),
        })?;
    }
    Ok(search::fault(&search, &options.fail_if))
}

/// What is wrong with the result, in one line.
fn fault(report: &Report, options: &Options) -> Option<String> {
    if let Some(refusal) = refusal(report) {
        return Some(refusal);
    }
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

/// What the system or the path refused, which no table tells plainly enough.
fn refusal(report: &Report) -> Option<String> {
    let target = &report.target;
    if report.refused {
        let then = if report.tally.received > 0 { " any more" } else { "" };
        return Some(format!("nobody listens at {target}{then}: its host refuses datagrams to that port"));
    }
    let Some(PeerError::TooLong { mtu }) = report.tally.failure else { return None };
    let carries = match mtu {
        Some(mtu) => {
            format!("its MTU is {mtu}, so take --size {} or less", mtu.saturating_sub(IP_AND_UDP_BYTES))
        }
        None => "take a smaller --size".to_owned(),
    };
    let (failed, size) = (report.failed(), report.sizes.max());
    Some(format!("{failed} datagrams of up to {size} bytes are too long for the path to {target}; {carries}"))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_long_for_the_path_is_named_with_the_remedy() {
        let mut report = Report::empty();
        assert_eq!(refusal(&report), None);
        (report.client_counters.send_failed_too_long, report.sizes) = (7, sizes::Sizes::Fixed(2_000));
        report.tally.failure = Some(PeerError::TooLong { mtu: Some(1_500) });
        let text = refusal(&report).expect("it is refused");
        for part in ["7 datagrams of up to 2000 bytes", "127.0.0.1:9", "MTU is 1500", "--size 1452 or less"] {
            assert!(text.contains(part), "{text}");
        }
        report.tally.failure = Some(PeerError::TooLong { mtu: None });
        assert!(refusal(&report).is_some_and(|text| text.contains("take a smaller --size")));
    }
}
