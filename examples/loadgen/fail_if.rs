//! Conditions on the result that make the program fail: `lost>0`, `p99>2ms`, `loss>0.5%`.

use super::report::Report;
use super::units;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Metric {
    Sent,
    Received,
    Lost,
    Duplicated,
    Reordered,
    Corrupted,
    Pps,
    /// Lost, in percent of sent.
    Loss,
    /// A latency at this quantile, in millionths; the whole is the maximum. From the intended send time.
    Latency(u32),
}

const METRICS: [(&str, Metric); 14] = [
    ("sent", Metric::Sent),
    ("received", Metric::Received),
    ("lost", Metric::Lost),
    ("duplicated", Metric::Duplicated),
    ("reordered", Metric::Reordered),
    ("corrupted", Metric::Corrupted),
    ("pps", Metric::Pps),
    ("loss", Metric::Loss),
    ("p50", Metric::Latency(500_000)),
    ("p90", Metric::Latency(900_000)),
    ("p99", Metric::Latency(990_000)),
    ("p99.9", Metric::Latency(999_000)),
    ("p99.99", Metric::Latency(999_900)),
    ("max", Metric::Latency(1_000_000)),
];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Relation {
    AtLeast,
    AtMost,
    Equal,
    More,
    Less,
}

/// The longer ones first, so that `>=` is not taken for `>`.
const RELATIONS: [(&str, Relation); 5] = [
    (">=", Relation::AtLeast),
    ("<=", Relation::AtMost),
    ("==", Relation::Equal),
    (">", Relation::More),
    ("<", Relation::Less),
];

#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Condition {
    metric: Metric,
    relation: Relation,
    /// Latencies in ns, loss in percent.
    bound: f64,
    text: String,
}

/// Reads one condition.
pub(crate) fn parse(text: &str) -> Result<Condition, String> {
    let text = text.trim();
    let found = RELATIONS.iter().find_map(|(sign, relation)| Some((text.split_once(sign)?, *relation)));
    let Some(((name, bound), relation)) = found else {
        return Err(format!("'{text}' has no comparison; write it as in lost>0 or p99>=2ms"));
    };
    let Some((_, metric)) = METRICS.iter().find(|(known, _)| *known == name.trim()) else {
        let known: Vec<_> = METRICS.iter().map(|(name, _)| *name).collect();
        return Err(format!("'{}' is no metric; there are {}", name.trim(), known.join(" ")));
    };
    let bound = bound.trim();
    let value = match metric {
        Metric::Latency(_) => units::parse_ns(bound).map(|ns| ns as f64),
        Metric::Loss => bound.strip_suffix('%').and_then(|percent| percent.trim_end().parse().ok()),
        _ => bound.parse::<u64>().ok().map(|count| count as f64),
    };
    let Some(bound) = value.filter(|value| value.is_finite() && *value >= 0.0) else {
        let expected = match metric {
            Metric::Latency(_) => "a time with its unit, as in 2ms or 300us",
            Metric::Loss => "percent, as in 0.5%",
            _ => "a whole number",
        };
        return Err(format!("'{text}' compares with '{bound}'; write {expected}"));
    };
    Ok(Condition { metric: *metric, relation, bound, text: text.to_owned() })
}

/// Those that hold, in one line.
pub(crate) fn violations(conditions: &[Condition], report: &Report) -> Option<String> {
    let violations: Vec<_> = conditions.iter().filter_map(|c| c.violation(report)).collect();
    (!violations.is_empty()).then(|| format!("failed: {}", violations.join(", ")))
}

impl Condition {
    /// Whether it can be judged without knowing what arrived.
    pub(crate) fn is_of_what_was_sent(&self) -> bool {
        self.metric == Metric::Sent
    }

    /// If it holds: itself and the value.
    pub(crate) fn violation(&self, report: &Report) -> Option<String> {
        let value = self.metric.of(report);
        let holds = match self.relation {
            Relation::AtLeast => value >= self.bound,
            Relation::AtMost => value <= self.bound,
            Relation::Equal => value == self.bound,
            Relation::More => value > self.bound,
            Relation::Less => value < self.bound,
        };
        holds.then(|| format!("{} ({})", self.text, self.metric.show(value)))
    }
}

impl Metric {
    fn of(self, report: &Report) -> f64 {
        let tally = &report.tally;
        let count = match self {
            Self::Sent => tally.sent,
            Self::Received => tally.received,
            Self::Lost => report.lost(),
            Self::Duplicated => tally.duplicated,
            Self::Reordered => tally.reordered,
            Self::Corrupted => tally.corrupted,
            Self::Pps => report.pps(),
            Self::Loss => return report.loss_percent(),
            Self::Latency(millionths) => tally.from_intended.value_at_quantile(f64::from(millionths) / 1e6),
        };
        count as f64
    }

    fn show(self, value: f64) -> String {
        match self {
            Self::Latency(_) => units::time(value as u64),
            Self::Loss => format!("{value:.3}%"),
            _ => units::grouped(value as u64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn violations(conditions: &str, report: &Report) -> Vec<String> {
        conditions.split(',').filter_map(|c| parse(c).expect("a condition").violation(report)).collect()
    }

    #[test]
    fn conditions_are_read_and_hold_or_not() {
        let mut report = Report::empty();
        report.tally.sent = 1_000;
        report.tally.received = 990;
        (1..=990).for_each(|ms| report.tally.from_intended.saturating_record(ms * 1_000_000));
        let violated =
            violations("lost>0, p50 >= 2ms ,loss>0.5%,sent==1000,received<990,corrupted>0", &report);
        assert_eq!(
            violated,
            ["lost>0 (10)", "p50 >= 2ms (495ms)", "loss>0.5% (1.000%)", "sent==1000 (1,000)"]
        );
        assert_eq!(violations("max>1s,p99.99<=1s,lost<10,lost<=10", &report).len(), 2);
    }

    #[test]
    fn what_is_no_condition_is_refused_with_what_would_be() {
        for (text, remedy) in [
            ("", "lost>0"),
            ("lost", "lost>0"),
            ("lost=0", "lost>0"),
            ("p98>1ms", "p99"),
            ("p99>2", "2ms"),
            ("p99>-2ms", "2ms"),
            ("lost>some", "a whole number"),
            ("lost>1ms", "a whole number"),
            ("loss>1", "0.5%"),
            ("loss>nan%", "0.5%"),
            ("lost>>1", "a whole number"),
        ] {
            let refusal = parse(text).expect_err(text);
            assert!(refusal.contains(remedy) && !refusal.contains('\n'), "{refusal}");
        }
    }
}
