//! The report for programs: one JSON object, integers only, times in ns.

use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};
use shardgram::Snapshot;

use super::pattern::Pattern;
use super::plan::Mode;
use super::report::Report;
use super::schedule::Rate;
use super::series::Point;
use super::table::QUANTILES;

pub(crate) fn of(report: &Report) -> Value {
    let parts = [setting(report), counts(report), measures(report)];
    let fields = parts.into_iter().filter_map(|part| match part {
        Value::Object(fields) => Some(fields),
        _ => None,
    });
    Value::Object(fields.flatten().collect())
}

/// Who loads whom, with what.
fn setting(report: &Report) -> Value {
    let (window, rate) = match report.mode {
        Mode::Closed { window } => (Some(window), None),
        Mode::Open { rate } => (None, Some(rate)),
    };
    json!({
        "target": report.target,
        "server": report.embedded,
        "client": report.client,
        "mode": report.pattern.to_string(),
        "flows": report.flows,
        "subscribers": match report.pattern {
            Pattern::FanOut { subscribers, .. } => Some(subscribers),
            _ => None,
        },
        "source_addresses": report.sources,
        "window": window,
        "rate_pps": match rate { Some(Rate::Steady(rate)) => Some(rate), _ => None },
        "burst": rate.map(|_| report.burst),
        "ramp": match rate {
            Some(Rate::Ramp { from, to, over }) => {
                Some(json!({ "from_pps": from, "to_pps": to, "over_ns": over.as_nanos() as u64 }))
            }
            _ => None,
        },
        "size_bytes": (!report.sizes.vary()).then(|| report.sizes.max()),
        "sizes": report.sizes.to_string(),
        "seed": report.sizes.vary().then_some(report.seed),
        "elapsed_ns": report.elapsed_ns(),
    })
}

/// What became of the datagrams; nothing where that is unknown.
fn counts(report: &Report) -> Value {
    let (tally, known) = (&report.tally, report.is_known());
    json!({
        "asked": matches!(report.mode, Mode::Open { .. }).then_some(tally.asked),
        "sent": tally.sent,
        "due": report.due(),
        "received": known.then_some(tally.received),
        "bytes_sent": tally.bytes_sent,
        "bytes_received": known.then_some(tally.bytes_received),
        "lost": known.then(|| report.lost()),
        "unanswered": tally.pending,
        "late": tally.late,
        "refused": report.refused,
        "failed": report.failed(),
        "duplicated": tally.duplicated,
        "reordered": tally.reordered,
        "corrupted": tally.corrupted,
        "strange": tally.strange,
        "new_flows": report.new_flows.map(|_| tally.new_flows),
        "new_flows_failed": report.new_flows.map(|_| tally.new_flows_failed),
    })
}

fn measures(report: &Report) -> Value {
    let (tally, known) = (&report.tally, report.is_known());
    let open_loop = |histogram| matches!(report.mode, Mode::Open { .. }).then(|| latencies(histogram));
    let intervals: Vec<_> = report.points.iter().map(interval).collect();
    json!({
        "sent_pps": report.sent_pps(),
        "pps": known.then(|| report.pps()),
        "latency_ns": known.then(|| latencies(&tally.from_intended)),
        "latency_from_sent_ns": open_loop(&tally.from_sent),
        "send_lag_ns": open_loop(&tally.lag),
        "intervals": (!intervals.is_empty()).then_some(intervals),
        "generator_busy_percent": report.client_usage.map(|usage| usage.busy.round() as u64),
        "server_busy_percent": report.server_usage.map(|usage| usage.busy.round() as u64),
        "bottlenecks": report.bottlenecks(),
        "client_counters": counters(&report.client_counters),
        "server_counters": report.server_counters.as_ref().map(counters),
    })
}

pub(crate) fn interval(point: &Point) -> Value {
    json!({
        "start_ns": point.start_ns,
        "length_ns": point.length_ns,
        "sent": point.sent,
        "received": point.known.then_some(point.received),
        "lost": point.known.then_some(point.lost),
        "late": point.late,
        "sent_pps": point.per_second(point.sent),
        "pps": point.known.then(|| point.per_second(point.received)),
        "latency_ns": {
            "p50": point.p50_ns,
            "p90": point.p90_ns,
            "p99": point.p99_ns,
            "p99.9": point.p999_ns,
            "max": point.max_ns,
        },
    })
}

pub(crate) fn latencies(histogram: &Histogram<u64>) -> Value {
    let quantiles = QUANTILES.iter().map(|(name, q)| (*name, histogram.value_at_quantile(*q)));
    let ends = [("mean", histogram.mean() as u64), ("min", histogram.min())];
    Value::Object(quantiles.chain(ends).map(|(name, ns)| (name.to_owned(), ns.into())).collect())
}

fn counters(snapshot: &Snapshot) -> Value {
    Value::Object(
        snapshot.named().into_iter().map(|(name, count)| (name, count.into())).collect::<Map<_, _>>(),
    )
}
