//! The report for people.

use std::fmt;

use hdrhistogram::Histogram;

use super::cpu::Usage;
use super::pattern::Pattern;
use super::plan::Mode;
use super::report::Report;
use super::series::Point;
use super::units::{counted, grouped, time};

/// The columns of latencies: heading and quantile.
pub(crate) const QUANTILES: [(&str, f64); 6] =
    [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("p99.99", 0.9999), ("max", 1.0)];

/// Displays a report as a table.
pub(crate) struct Table<'a>(pub(crate) &'a Report);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let report = self.0;
        let (first, second) = title(report);
        writeln!(f, "{first}\n{second}\n")?;
        counts(report, f)?;
        writeln!(f)?;
        latencies(report, f)?;
        writeln!(f)?;
        verdict(report, f)
    }
}

/// Who is loaded, and by what.
pub(crate) fn server(report: &Report) -> String {
    let server = match &report.embedded {
        Some(label) => format!("embedded {} server {} ({label})", report.pattern, report.target),
        None => report.target.clone(),
    };
    format!("{server}, loaded by {}", report.client)
}

pub(crate) fn flows(report: &Report) -> String {
    let flows = match report.pattern {
        Pattern::Echo | Pattern::Sink => counted(report.flows.into(), "flow"),
        Pattern::FanOut { publishers, subscribers } => {
            format!(
                "{} for {}",
                counted(publishers.into(), "publisher"),
                counted(subscribers.into(), "subscriber")
            )
        }
    };
    match report.sources {
        0 => flows,
        sources => format!("{flows} from {}", counted(sources as u64, "local address")),
    }
}

pub(crate) fn sizes(report: &Report) -> String {
    let seed = if report.sizes.vary() { format!(", --seed {}", report.seed) } else { String::new() };
    format!("{}{seed}", report.sizes)
}

/// Both lines above the table.
pub(crate) fn title(report: &Report) -> (String, String) {
    let flows = flows(report);
    let load = match report.mode {
        Mode::Closed { window } => format!("closed loop: {flows} x {} in flight", grouped(window.into())),
        Mode::Open { rate } if report.burst > 1 => {
            format!("open loop: {rate} in bursts of {} over {flows}", report.burst)
        }
        Mode::Open { rate } => format!("open loop: {rate} over {flows}"),
    };
    (server(report), format!("{load}, {}, {}", sizes(report), time(report.elapsed_ns())))
}

fn row(f: &mut fmt::Formatter<'_>, name: &str, count: u64, beside: &str) -> fmt::Result {
    writeln!(f, "{}", format!("{name:<12}{:>16}   {beside}", grouped(count)).trim_end())
}

/// What befell the generator's own sends and sockets.
fn sending_faults(report: &Report, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let tally = &report.tally;
    if report.failed() > 0 {
        let why = tally.failure.map_or_else(String::new, |error| format!("of the sends: {error}"));
        row(f, "failed", report.failed(), &why)?;
    }
    if report.new_flows.is_some() {
        row(f, "new flows", tally.new_flows, "in the places of others")?;
    }
    if tally.new_flows_failed > 0 {
        row(f, "not opened", tally.new_flows_failed, tally.new_flow_failure.as_deref().unwrap_or(""))?;
    }
    Ok(())
}

fn counts(report: &Report, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let tally = &report.tally;
    let percent = |count: u64| format!("{:.3} %", count as f64 * 100.0 / report.due().max(1) as f64);
    let sent_pps = format!("{} pps", grouped(report.sent_pps()));
    row(f, "sent", tally.sent, if matches!(report.mode, Mode::Open { .. }) { &sent_pps } else { "" })?;
    if !report.is_known() {
        writeln!(f, "{:<12}{:>16}   what arrives at a sink of another process", "received", "unknown")?;
        return sending_faults(report, f);
    }
    if report.due() != tally.sent {
        row(f, "due", report.due(), "at the subscribers")?;
    }
    row(f, "received", tally.received, "")?;
    row(f, "lost", report.lost(), &percent(report.lost()))?;
    if tally.pending > 0 {
        row(f, "unanswered", tally.pending, "in flight when it was stopped")?;
    }
    if tally.late > 0 {
        row(f, "late", tally.late, "of the lost")?;
    }
    if let Some(dropped) = report.server_counters.as_ref().map(|server| server.kernel_dropped)
        && dropped > 0
    {
        row(f, "overflowed", dropped, "at the server's full receive buffers, warm-up included")?;
    }
    sending_faults(report, f)?;
    row(f, "duplicated", tally.duplicated, "")?;
    row(f, "reordered", tally.reordered, "")?;
    row(f, "corrupted", tally.corrupted, "")?;
    if tally.strange > 0 {
        row(f, "strange", tally.strange, "intact, and not of this run or flow")?;
    }
    let way = if report.pattern.replies() { " each way" } else { "" };
    row(f, "pps", report.pps(), &format!("{:.1} Mbit/s of payload{way}", report.megabits()))
}

fn latencies(report: &Report, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let tally = &report.tally;
    if !report.is_known() {
        return Ok(());
    }
    let heading: String = QUANTILES.iter().map(|(name, _)| format!("{name:>10}")).collect();
    writeln!(f, "{:<18}{heading}", "latency")?;
    let row = |f: &mut fmt::Formatter<'_>, name: &str, histogram: &Histogram<u64>| {
        let cell = |quantile| match histogram.is_empty() {
            true => "-".to_owned(),
            false => time(histogram.value_at_quantile(quantile)),
        };
        let cells: String = QUANTILES.iter().map(|(_, q)| format!("{:>10}", cell(*q))).collect();
        writeln!(f, "  {name:<16}{cells}")
    };
    match report.mode {
        Mode::Closed { .. } => row(f, "round trip", &tally.from_intended),
        Mode::Open { .. } => {
            row(f, "from intended", &tally.from_intended)?;
            row(f, "from sent", &tally.from_sent)?;
            row(f, "sent late by", &tally.lag)
        }
    }
}

fn verdict(report: &Report, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let busy = |usage: Option<Usage>| usage.map_or("unknown".to_owned(), |u| format!("{:.0} %", u.busy));
    write!(f, "busy: generator {}", busy(report.client_usage))?;
    if report.embedded.is_some() {
        write!(f, ", server {}", busy(report.server_usage))?;
    }
    let (sent, received) = (report.client_counters.trains_sent, report.client_counters.trains_received);
    if sent + received > 0 {
        write!(f, "; trains: {} out, {} in", grouped(sent), grouped(received))?;
    }
    if report.client_counters.trains_refused > 0 {
        write!(f, ", {} refused and sent singly", grouped(report.client_counters.trains_refused))?;
    }
    writeln!(f)?;
    match report.bottlenecks() {
        reasons if reasons.is_empty() => Ok(()),
        reasons => writeln!(f, "generator was the bottleneck: {}", reasons.join("; ")),
    }
}

/// The heading of interval lines.
pub(crate) fn interval_heading() -> String {
    let names = ["until", "sent/s", "received/s", "lost", "p50", "p99", "max"];
    interval_row(&names.map(str::to_owned))
}

/// One interval as a line.
pub(crate) fn interval(point: &Point) -> String {
    let latency = |ns| if !point.known || point.received == 0 { "-".to_owned() } else { time(ns) };
    let rate = |count| grouped(point.per_second(count));
    interval_row(&[
        time(point.end_ns()),
        rate(point.sent),
        if point.known { rate(point.received) } else { "-".to_owned() },
        if point.known { grouped(point.lost) } else { "-".to_owned() },
        latency(point.p50_ns),
        latency(point.p99_ns),
        latency(point.max_ns),
    ])
}

fn interval_row(cells: &[String; 7]) -> String {
    const WIDTHS: [usize; 7] = [8, 13, 13, 12, 10, 10, 10];
    cells.iter().zip(WIDTHS).map(|(cell, width)| format!("{cell:>width$}")).collect()
}

#[cfg(test)]
mod tests {
    use super::super::schedule::Rate;
    use super::*;

    #[test]
    fn columns_stand_in_line() {
        let mut report = Report::empty();
        report.mode = Mode::Open { rate: Rate::Steady(1_000_000) };
        (report.tally.sent, report.tally.received) = (1_234_567, 1_234_560);
        (report.tally.counted_from_ns, report.tally.stopped_ns) = (0, 1_000_000_000);
        report.tally.from_intended.saturating_record(12_345);
        let text = Table(&report).to_string();
        assert!(text.contains("sent               1,234,567   "), "{text}");
        assert!(text.contains("lost                       7   0.001 %\n"), "{text}");
        assert!(text.contains("  from intended       12.4us"), "{text}");
        assert!(text.contains("  from sent                -"), "{text}");
        assert!(text.lines().all(|line| line.len() <= 100 && line.trim_end() == line), "{text}");
    }
}
