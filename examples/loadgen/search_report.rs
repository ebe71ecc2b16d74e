//! What a search found, for people and for programs.

use std::fmt::Write;

use serde_json::{Value, json};

use super::json;
use super::options::Options;
use super::search::{Found, Limit, Search, Trial};
use super::table::{self, QUANTILES};
use super::units::{grouped, time};

/// The heading of the lines of trials.
pub(crate) fn trial_heading() -> String {
    format!("{:>13}{:>13}{:>13}{:>12}{:>10}{:>10}", "rate", "sent/s", "received/s", "lost", "p50", "p99")
}

/// A trial as a line.
pub(crate) fn trial(trial: &Trial) -> String {
    let report = &trial.report;
    let latency = |quantile| match report.tally.received {
        0 => "-".to_owned(),
        _ => time(report.tally.from_intended.value_at_quantile(quantile)),
    };
    format!(
        "{:>13}{:>13}{:>13}{:>12}{:>10}{:>10}{}",
        grouped(trial.rate_pps),
        grouped(report.sent_pps()),
        grouped(report.pps()),
        format!("{:.3} %", report.loss_percent()),
        latency(0.5),
        latency(0.99),
        if trial.kept_up() { "" } else { "   generator too slow" },
    )
}

/// What was found, after the lines of the trials.
pub(crate) fn table(search: &Search, options: &Options) -> String {
    let mut text = String::new();
    if let Some(trial) = search.trials.first() {
        let report = &trial.report;
        let each = time(options.trial.as_nanos() as u64);
        let _ = writeln!(text, "\n{}", table::server(report));
        let _ = writeln!(text, "{}, {}, trials of {each}\n", table::flows(report), table::sizes(report));
    }
    for found in &search.found {
        let rate =
            found.rate_pps.map_or("none".to_owned(), |rate| format!("{} datagrams a second", grouped(rate)));
        let _ = writeln!(text, "highest rate with {}: {rate}{}", allowed(found), beside(found));
    }
    if search.latency.values().all(Vec::is_empty) {
        return text;
    }
    let heading: String = QUANTILES.iter().map(|(name, _)| format!("{name:>10}")).collect();
    let _ = writeln!(text, "\n{:<24}{heading}{:>12}", "latency from intended", "lost");
    for (rate, trials) in &search.latency {
        for (percent, trial) in trials {
            let histogram = &trial.report.tally.from_intended;
            let cell = |quantile| match histogram.is_empty() {
                true => "-".to_owned(),
                false => time(histogram.value_at_quantile(quantile)),
            };
            let cells: String = QUANTILES.iter().map(|(_, q)| format!("{:>10}", cell(*q))).collect();
            let name = format!("  {percent} % of {}", grouped(*rate));
            let lost = format!("{:.3} %", trial.report.loss_percent());
            let _ = writeln!(text, "{name:<24}{cells}{lost:>12}");
        }
    }
    text
}

pub(crate) fn allowed(found: &Found) -> String {
    match found.allowed.0 {
        0.0 => "no loss".to_owned(),
        percent => format!("{percent} % loss"),
    }
}

/// What else is to be known of a found rate.
fn beside(found: &Found) -> String {
    let failed = found.failed_pps.map_or(String::new(), grouped);
    let limit = match found.limit {
        Limit::Loss => format!("; {failed} is too much"),
        Limit::Generator => format!("; the generator cannot send {failed}"),
        Limit::Unknown => String::new(),
    };
    let open = if found.resolved { "" } else { "; there were not enough trials to be sure" };
    limit + open
}

/// Everything as one object, times in ns.
pub(crate) fn json(search: &Search, options: &Options) -> Value {
    let found = search.found.iter().map(|found| {
        let latency = found.rate_pps.and_then(|rate| search.latency.get(&rate));
        json!({
            "loss_percent": found.allowed.0,
            "rate_pps": found.rate_pps,
            "failed_pps": found.failed_pps,
            "limited_by": match found.limit {
                Limit::Loss => Some("loss"),
                Limit::Generator => Some("generator"),
                Limit::Unknown => None,
            },
            "resolved": found.resolved,
            "latency": latency.into_iter().flatten().map(|(percent, trial)| {
                let mut object = json_of(trial);
                object["percent"] = (*percent).into();
                object
            }).collect::<Vec<_>>(),
        })
    });
    let first = search.trials.first().map(|trial| &trial.report);
    json!({
        "target": first.map(|report| report.target.clone()),
        "server": first.map(|report| report.embedded.clone()),
        "client": first.map(|report| report.client.clone()),
        "flows": options.flows,
        "sizes": options.size.to_string(),
        "trial_ns": options.trial.as_nanos() as u64,
        "cut_short": search.cut_short,
        "found": found.collect::<Vec<_>>(),
        "trials": search.trials.iter().map(json_of).collect::<Vec<_>>(),
    })
}

fn json_of(trial: &Trial) -> Value {
    let report = &trial.report;
    json!({
        "rate_pps": trial.rate_pps,
        "sent": report.tally.sent,
        "received": report.tally.received,
        "lost": report.lost(),
        "sent_pps": report.sent_pps(),
        "pps": report.pps(),
        "loss_percent": report.loss_percent(),
        "generator_kept_up": trial.kept_up(),
        "latency_ns": json::latencies(&report.tally.from_intended),
    })
}
