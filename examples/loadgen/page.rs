//! What the report's page says of a run and of a search.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::html::Page;
use super::json;
use super::options::Options;
use super::plan::Mode;
use super::plots::{Axis, Plot, Series};
use super::report::Report;
use super::search::Search;
use super::search_report;
use super::series::Point;
use super::table::{self, Table};
use super::units::{grouped, time};

/// The quantiles that a distribution is drawn through lie so many to a tenth of what is left.
const STEPS_PER_NINE: u32 = 16;

pub(crate) fn of_run(report: &Report, options: &Options) -> Page {
    let json = json::of(report);
    let mut plots = over_time(report);
    if report.is_known() {
        let mut lines = vec![("from intended", &report.tally.from_intended)];
        if !report.tally.from_sent.is_empty() {
            lines.push(("from sent", &report.tally.from_sent));
        } else {
            lines[0].0 = "round trip";
        }
        let lines = lines.into_iter().map(|(name, histogram)| (name.to_owned(), histogram));
        plots.push(distribution("Latency distribution", lines));
    }
    let (first, second) = table::title(report);
    Page {
        title: "Load test".to_owned(),
        lead: vec![first, second],
        figures: figures(report),
        warnings: report
            .bottlenecks()
            .into_iter()
            .map(|why| format!("The generator was the bottleneck: {why}."))
            .collect(),
        plots,
        text: Table(report).to_string(),
        settings: settings(options, report),
        json: format!("{json:#}"),
    }
}

pub(crate) fn of_search(search: &Search, options: &Options) -> Page {
    let mut figures = Vec::new();
    for found in &search.found {
        let rate = found.rate_pps.map_or("none".to_owned(), |rate| format!("{} pps", grouped(rate)));
        figures.push((format!("highest rate, {}", search_report::allowed(found)), rate));
    }
    let mut text = search_report::trial_heading() + "\n";
    search.trials.iter().for_each(|trial| text += &(search_report::trial(trial) + "\n"));
    text += &search_report::table(search, options);
    let first = search.trials.first().map(|trial| &trial.report);
    let lines = search.latency.iter().flat_map(|(rate, trials)| {
        trials.iter().map(move |(percent, trial)| {
            (format!("{percent} % of {} pps", grouped(*rate)), &trial.report.tally.from_intended)
        })
    });
    let mut plots = of_trials(search);
    plots.push(distribution("Latency distribution at parts of the rates found", lines));
    Page {
        title: "Search for the highest rate".to_owned(),
        lead: first.map(|report| vec![table::server(report), table::flows(report)]).unwrap_or_default(),
        figures,
        warnings: Vec::new(),
        plots,
        text,
        settings: first.map(|report| settings(options, report)).unwrap_or_default(),
        json: format!("{:#}", search_report::json(search, options)),
    }
}

fn figures(report: &Report) -> Vec<(String, String)> {
    let tally = &report.tally;
    let mut figures = vec![("sent", grouped(tally.sent))];
    if report.is_known() {
        let latency = |quantile| match tally.from_intended.is_empty() {
            true => "-".to_owned(),
            false => time(tally.from_intended.value_at_quantile(quantile)),
        };
        figures.extend([
            ("received", grouped(tally.received)),
            ("lost", format!("{} ({:.3} %)", grouped(report.lost()), report.loss_percent())),
            ("received a second", grouped(report.pps())),
            ("latency, median", latency(0.5)),
            ("latency, 99 %", latency(0.99)),
            ("latency, 99.9 %", latency(0.999)),
            ("latency, greatest", latency(1.0)),
        ]);
    } else {
        figures.push(("received", "unknown".to_owned()));
    }
    figures.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn settings(options: &Options, report: &Report) -> Vec<(&'static str, String)> {
    let command: Vec<_> = std::env::args().skip(1).collect();
    let ns = |span: Duration| time(span.as_nanos() as u64);
    let mut rows = vec![
        ("arguments", if command.is_empty() { "none".to_owned() } else { command.join(" ") }),
        ("target", report.target.clone()),
        ("server", report.embedded.clone().unwrap_or_else(|| "of another process".to_owned())),
        ("generator", report.client.clone()),
        ("mode", report.pattern.to_string()),
        ("flows", table::flows(report)),
        ("payload", table::sizes(report)),
        (
            "warm-up, measured, timeout",
            [options.warmup, options.duration(), options.timeout].map(ns).join(", "),
        ),
    ];
    if let Some(per_second) = options.new_flows {
        rows.push(("new flows a second", grouped(per_second)));
    }
    if let Some(step) = options.step() {
        rows.push(("interval", ns(step)));
    }
    rows
}

/// Rates, loss and latency over time.
fn over_time(report: &Report) -> Vec<Plot> {
    let (points, known) = (&report.points, report.is_known());
    let line = |name: &str, value: &dyn Fn(&Point) -> f64| Series {
        name: name.to_owned(),
        points: points.iter().map(|point| (point.end_ns() as f64 / 1e9, value(point))).collect(),
    };
    let time = || Axis { name: "seconds", logarithmic: false, ticks: None, label: number };
    let mut rates = vec![line("sent", &|p| p.per_second(p.sent) as f64)];
    if let Mode::Open { rate } = report.mode {
        let end = report.elapsed_ns() as f64 / 1e9;
        let (from, to) = rate.ends();
        rates.push(Series { name: "asked".to_owned(), points: vec![(0.0, from as f64), (end, to as f64)] });
    }
    if known {
        rates.push(line("received", &|p| p.per_second(p.received) as f64));
    }
    let rate = Axis { name: "datagrams a second", logarithmic: false, ticks: None, label: number };
    let mut plots = vec![Plot { title: "Rates over time", x: time(), y: rate, series: rates }];
    if known {
        let percent = |p: &Point| p.lost as f64 * 100.0 / (p.lost + p.received).max(1) as f64;
        let loss = Axis { name: "percent", logarithmic: false, ticks: None, label: number };
        plots.push(Plot {
            title: "Loss over time",
            x: time(),
            y: loss,
            series: vec![line("lost", &percent)],
        });
        plots.push(Plot {
            title: "Latency over time",
            x: time(),
            y: latency_axis(),
            series: vec![
                line("50 %", &|p| p.p50_ns as f64),
                line("90 %", &|p| p.p90_ns as f64),
                line("99 %", &|p| p.p99_ns as f64),
                line("99.9 %", &|p| p.p999_ns as f64),
                line("greatest", &|p| p.max_ns as f64),
            ],
        });
    }
    plots
}

/// Loss and latency of the trials, by their rates.
fn of_trials(search: &Search) -> Vec<Plot> {
    let mut trials: Vec<_> = search.trials.iter().collect();
    trials.sort_by_key(|trial| trial.rate_pps);
    let line = |name: &str, value: &dyn Fn(&Report) -> f64| Series {
        name: name.to_owned(),
        points: trials.iter().map(|trial| (trial.rate_pps as f64, value(&trial.report))).collect(),
    };
    let rate = || Axis { name: "datagrams a second", logarithmic: false, ticks: None, label: number };
    let loss = Axis { name: "percent", logarithmic: false, ticks: None, label: number };
    let at = |quantile| move |report: &Report| report.tally.from_intended.value_at_quantile(quantile) as f64;
    vec![
        Plot {
            title: "Loss of the trials",
            x: rate(),
            y: loss,
            series: vec![line("lost", &Report::loss_percent)],
        },
        Plot {
            title: "Latency of the trials",
            x: rate(),
            y: latency_axis(),
            series: vec![line("50 %", &at(0.5)), line("99 %", &at(0.99)), line("greatest", &at(1.0))],
        },
    ]
}

/// Latency by percentile, each nine as wide as the one before it.
fn distribution<'a>(
    title: &'static str,
    histograms: impl Iterator<Item = (String, &'a Histogram<u64>)>,
) -> Plot {
    let nines = [1.0, 2.0, 10.0, 100.0, 1_000.0, 10_000.0, 100_000.0, 1_000_000.0];
    let x = Axis { name: "percentile", logarithmic: true, ticks: Some(nines.to_vec()), label: percentile };
    let series = histograms.map(|(name, histogram)| Series { name, points: quantiles(histogram) });
    Plot { title, x, y: latency_axis(), series: series.collect() }
}

/// Points of one in so many values, and the latency which that many exceed; up to the single greatest.
fn quantiles(histogram: &Histogram<u64>) -> Vec<(f64, f64)> {
    let steps = (0..).map(|step| 10_f64.powf(f64::from(step) / f64::from(STEPS_PER_NINE)));
    let within = steps.take_while(|one_in| *one_in <= (histogram.len() as f64).min(1e9));
    within.map(|one_in| (one_in, histogram.value_at_quantile(1.0 - 1.0 / one_in) as f64)).collect()
}

fn latency_axis() -> Axis {
    Axis { name: "latency", logarithmic: true, ticks: None, label: |ns| time(ns.round() as u64) }
}

fn percentile(one_in: f64) -> String {
    let digits = (one_in.log10().round() as usize).saturating_sub(2);
    format!("{:.digits$} %", 100.0 - 100.0 / one_in)
}

fn number(value: f64) -> String {
    if value.fract().abs() < 1e-9 || value.abs() >= 100.0 {
        return grouped(value.round().max(0.0) as u64);
    }
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::tally;
    use super::*;

    #[test]
    fn axes_are_labelled_shortly() {
        assert_eq!([0.0, 0.5, 250_000.0, 0.002].map(number), ["0", "0.5", "250,000", "0.002"]);
        assert_eq!(
            [1.0, 2.0, 10.0, 1_000.0, 100_000.0].map(percentile),
            ["0 %", "50 %", "90 %", "99.9 %", "99.999 %"]
        );
    }

    #[test]
    fn a_distribution_ends_with_the_greatest() {
        let mut histogram = tally::histogram();
        (1..=1_000).for_each(|us| histogram.saturating_record(us * 1_000));
        let points = quantiles(&histogram);
        assert_eq!(points.len(), 3 * STEPS_PER_NINE as usize + 1);
        assert!(points.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1), "{points:?}");
        assert!(quantiles(&tally::histogram()).is_empty());
    }
}
