//! What was measured, as Markdown and as JSON.

use std::fmt::Write;

use serde::Serialize;

use super::client::Outcome;
use super::contender::Contender;
use super::fingerprint::Fingerprint;
use super::rounds::{Measured, Row};
use crate::figures::Quartiles;

/// What has to be said beside every figure of a machine of two cores.
pub const CAVEATS: &str = "Two cores cannot show scaling: one serves, one sends. On loopback a datagram is received \
    in the call that sends it, so that the client's receive is charged to the server's send, and the server's to the \
    client's. Compare ratios, not figures of different runs: processors change their speed.";

/// The better of shardgram's fixed tiers: the one that spends less, in the median, in this scenario.
#[must_use]
pub fn better_tier(measured: &Measured) -> Option<&'static str> {
    better(measured, &["shardgram-uring-listener", "shardgram-uring-connected"], cpu)
}

/// Of these contenders, the one whose median of a figure is the least.
pub fn better(
    measured: &Measured,
    names: &[&str],
    figure: impl Fn(&Outcome) -> Option<f64> + Copy,
) -> Option<&'static str> {
    let median = |row: &Row| row.quartiles(figure).map(|figures| figures.median());
    // What fails is not the better one, unless all fail.
    let rows = || names.iter().filter_map(|name| measured.row(name));
    let any_works = rows().any(|row| row.fault().is_none());
    let rows = rows().filter(|row| !any_works || row.fault().is_none());
    let figures = rows.filter_map(|row| Some((row.contender, median(row)?)));
    figures.min_by(|(_, a), (_, b)| a.total_cmp(b)).map(|(name, _)| name)
}

/// Nanoseconds of CPU per datagram.
#[must_use]
pub fn cpu(outcome: &Outcome) -> Option<f64> {
    Some(outcome.cpu_ns)
}

fn label(name: &str) -> &str {
    Contender::named(name).map_or(name, |contender| contender.label)
}

fn spread(figures: Option<Quartiles>, digits: usize) -> String {
    let Some(figures) = figures else { return "-".to_owned() };
    let ((low, high), median) = (figures.spread(), figures.median());
    format!("{median:.digits$} ({low:.digits$} to {high:.digits$})")
}

fn microseconds(row: &Row, figure: impl Fn(&super::client::Latency) -> u64) -> String {
    let latency =
        row.quartiles(|outcome| outcome.latency.as_ref().map(|latency| figure(latency) as f64 / 1e3));
    latency.map_or_else(|| "-".to_owned(), |latency| format!("{:.1}", latency.median()))
}

fn line(measured: &Measured, row: &Row, ours: Option<&str>) -> String {
    let cpu_ns = row.quartiles(cpu);
    let least = cpu_ns.map_or_else(|| "-".to_owned(), |figures| format!("{:.0}", figures.min()));
    let pps = row.quartiles(|outcome| Some(outcome.pps));
    let pps = pps.map_or_else(|| "-".to_owned(), |pps| format!("{:.0}", pps.median()));
    let busy = |figure: fn(&Outcome) -> f64| {
        let busy = row.quartiles(|outcome| Some(figure(outcome) * 100.0));
        busy.map_or_else(|| "-".to_owned(), |busy| format!("{:.0} %", busy.median()))
    };
    let ratios = ours.map(|ours| measured.ratios(ours, row.contender, cpu)).unwrap_or_default();
    let ratio = (!ratios.is_empty()).then(|| Quartiles::of(&ratios));
    let rounds: Vec<_> = row.rounds.iter().filter_map(|round| round.as_ref().ok()).collect();
    let sum = |figure: fn(&Outcome) -> u64| rounds.iter().map(|outcome| figure(outcome)).sum::<u64>();
    format!(
        "| {} | {pps} | {least} | {} | {} / {} | {} | {} | {} | {} | {} | {} |\n",
        label(row.contender),
        spread(cpu_ns, 0),
        busy(|outcome| outcome.server_busy),
        busy(|outcome| outcome.client_busy),
        microseconds(row, |latency| latency.p50),
        microseconds(row, |latency| latency.p99),
        microseconds(row, |latency| latency.p999),
        sum(|outcome| outcome.lost),
        sum(|outcome| outcome.reordered),
        spread(ratio, 3),
    )
}

/// One scenario, as a table.
#[must_use]
pub fn table(measured: &Measured) -> String {
    let mut text = format!("## {}\n\n{}", measured.scenario.name(), measured.scenario.describe());
    if let Some(rate) = measured.rate {
        let _ = write!(text, ": {rate} datagrams a second"); // writing to a string does not fail
    }
    let ours = better_tier(measured);
    let whose = ours.map_or("shardgram", label);
    let _ = write!(
        text,
        ".\n\n| contender | pps | CPU ns, least | median (quartiles) | busy: server / client | p50 us | p99 us \
         | p99.9 us | lost | reordered | CPU of {whose} / its: median (quartiles) |\n\
         | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n"
    );
    text.extend(measured.rows.iter().map(|row| line(measured, row, ours)));
    let faults = measured.rows.iter().filter_map(|row| Some((label(row.contender), row.fault()?)));
    text.extend(faults.map(|(name, fault)| format!("\n**{name} failed**: {fault}\n")));
    for (name, why) in &measured.left_out {
        let _ = write!(text, "\nLeft out: {}, {why}.\n", label(name));
    }
    let complaints = measured.rows.iter().filter(|row| !row.complaint.is_empty());
    text.extend(complaints.map(|row| format!("\n{} says: {}\n", label(row.contender), row.complaint)));
    text
}

/// All of it.
#[must_use]
pub fn markdown(fingerprint: &Fingerprint, all: &[Measured]) -> String {
    let rounds =
        all.iter().flat_map(|measured| &measured.rows).map(|row| row.rounds.len()).max().unwrap_or(0);
    let mut text = format!("# pps\n\n{rounds} interleaved rounds. {CAVEATS}\n\n{}\n", fingerprint.markdown());
    text.extend(all.iter().map(|measured| table(measured) + "\n"));
    text
}

#[derive(Serialize)]
struct Document<'a> {
    fingerprint: &'a Fingerprint,
    scenarios: Vec<Entry<'a>>,
}

#[derive(Serialize)]
struct Entry<'a> {
    name: String,
    #[serde(flatten)]
    measured: &'a Measured,
    ratios: Vec<Ratio>,
}

/// CPU of the better of shardgram's fixed tiers over that of another contender.
#[derive(Serialize)]
struct Ratio {
    of: &'static str,
    over: &'static str,
    rounds: Vec<f64>,
    median: f64,
    quartiles: (f64, f64),
}

/// All of it, every round apart.
///
/// # Errors
/// None that can occur: all keys are strings.
pub fn json(fingerprint: &Fingerprint, all: &[Measured]) -> Result<String, serde_json::Error> {
    let scenarios = all.iter().map(|measured| {
        let ours = better_tier(measured);
        let ratio = |row: &Row| {
            let of = ours?;
            let rounds = measured.ratios(of, row.contender, cpu);
            if rounds.is_empty() {
                return None;
            }
            let figures = Quartiles::of(&rounds);
            let (median, quartiles) = (figures.median(), figures.spread());
            Some(Ratio { of, over: row.contender, rounds, median, quartiles })
        };
        let ratios = measured.rows.iter().filter_map(ratio).collect();
        Entry { name: measured.scenario.name(), measured, ratios }
    });
    serde_json::to_string_pretty(&Document { fingerprint, scenarios: scenarios.collect() })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::{better_tier, json, table};
    use crate::pps::client::{Latency, Outcome};
    use crate::pps::fingerprint::Fingerprint;
    use crate::pps::rounds::{Measured, Row};
    use crate::pps::scenario::{Scenario, Shape};

    pub(crate) fn row(contender: &'static str, cpu: &[f64]) -> Row {
        let outcome = |cpu_ns: &f64| {
            let latency = Some(Latency { p50: (cpu_ns * 10.0) as u64, p999: 9_000, ..Latency::default() });
            Ok(Outcome { datagrams: 1000, pps: 1e9 / cpu_ns, cpu_ns: *cpu_ns, latency, ..Outcome::default() })
        };
        Row { contender, rounds: cpu.iter().map(outcome).collect(), complaint: String::new() }
    }

    pub(crate) fn measured(rows: Vec<Row>) -> Measured {
        let scenario = Scenario::new(Shape { flows: 64, window: 16 });
        Measured { scenario, rate: None, rows, left_out: vec![("tokio", "cannot spin")] }
    }

    #[test]
    fn a_table_has_every_contender_and_what_failed() {
        let mut broken = row("recvmmsg", &[400.0]);
        broken.rounds.push(Err("it broke".to_owned()));
        let rows = vec![
            row("shardgram-uring-listener", &[100.0, 120.0, 110.0]),
            row("shardgram-uring-connected", &[90.0, 200.0, 180.0]),
            broken,
        ];
        let measured = measured(rows);
        assert_eq!(better_tier(&measured), Some("shardgram-uring-listener"));
        let text = table(&measured);
        assert!(text.contains("| shardgram uring listener | 9090909 | 100 | 110 (110 to 120) |"), "{text}");
        assert!(text.contains("| 0.250 (0.250 to 0.250) |"), "{text}");
        assert!(text.contains("**recvmmsg+sendmmsg failed**: it broke (1 of 2 rounds)"), "{text}");
        assert!(text.contains("Left out: tokio, cannot spin."), "{text}");
    }

    #[test]
    fn json_has_every_round() {
        let all = [measured(vec![row("shardgram-uring-listener", &[100.0]), row("mio", &[200.0])])];
        let text = json(&Fingerprint::take(1, 0), &all).expect("it is written");
        let value: serde_json::Value = serde_json::from_str(&text).expect("it is read");
        let scenario = &value["scenarios"][0];
        assert_eq!(scenario["name"], "64x16");
        assert_eq!(scenario["rows"][1]["rounds"][0]["Ok"]["cpu_ns"], 200.0);
        assert_eq!(scenario["ratios"][1]["median"], 0.5);
        assert!(value["fingerprint"]["facts"]["kernel"].is_string());
    }
}
