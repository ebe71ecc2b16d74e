//! The highest rate at which no more is lost than allowed, by trials, as RFC 2544, section 26.1 has it: the
//! rate is doubled until a trial fails, and then the gap between failure and success is halved.

use std::collections::BTreeMap;

use super::fail_if::{self, Condition};
use super::options::Options;
use super::outputs::Outputs;
use super::plan::{Load, Mode};
use super::report::Report;
use super::run::Bench;
use super::schedule::{MOST_PPS, Rate};

/// The first rate that is tried unless --rate says otherwise.
pub(crate) const FIRST_PPS: u64 = 10_000;
/// Percent of a found rate at which latency is measured.
pub(crate) const LATENCY_AT: [u64; 3] = [10, 50, 90];
/// A trial that sends less than this part of what it should says nothing of the server.
const KEPT_UP_PERCENT: u64 = 99;

/// An allowed loss, in percent.
#[derive(Clone, Copy, PartialEq, PartialOrd, Debug)]
pub(crate) struct Loss(pub(crate) f64);

/// Reads `0` or `0.5%`.
pub(crate) fn parse_loss(text: &str) -> Result<Loss, String> {
    let percent = percent(text).filter(|percent| (0.0..100.0).contains(percent));
    percent.map(Loss).ok_or_else(|| format!("'{text}' is no loss of 0 to below 100 %; write 0 or 0.5%"))
}

/// Reads `2%`.
pub(crate) fn parse_resolution(text: &str) -> Result<f64, String> {
    let percent = percent(text).filter(|percent| (0.01..=50.0).contains(percent));
    percent.ok_or_else(|| format!("'{text}' is not 0.01 to 50 percent; write 2%"))
}

fn percent(text: &str) -> Option<f64> {
    let text = text.trim();
    match text.strip_suffix('%') {
        Some(number) => number.trim_end().parse().ok(),
        None => text.parse().ok().filter(|number| *number == 0.0),
    }
}

/// One trial.
pub(crate) struct Trial {
    pub(crate) rate_pps: u64,
    pub(crate) report: Report,
}

impl Trial {
    /// Whether the generator sent what it was asked for.
    pub(crate) fn kept_up(&self) -> bool {
        self.report.tally.sent * 100 >= self.report.tally.asked * KEPT_UP_PERCENT
    }

    fn outcome(&self) -> Outcome {
        Outcome { loss_percent: self.report.loss_percent(), kept_up: self.kept_up() }
    }
}

/// What a search needs to know of a trial.
#[derive(Clone, Copy, Debug)]
struct Outcome {
    loss_percent: f64,
    kept_up: bool,
}

impl Outcome {
    fn passes(self, allowed: Loss) -> bool {
        self.kept_up && self.loss_percent <= allowed.0
    }
}

/// Why the next rate up is too much.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Limit {
    /// More was lost than allowed.
    Loss,
    /// The generator could not send it.
    Generator,
    /// None was too much before trials ran out, or before the greatest rate there is.
    Unknown,
}

/// What came of the search for one loss.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Found {
    pub(crate) allowed: Loss,
    /// The highest rate that passed, if any did.
    pub(crate) rate_pps: Option<u64>,
    /// The lowest that failed, if any did.
    pub(crate) failed_pps: Option<u64>,
    pub(crate) limit: Limit,
    /// Whether the two are as close as asked for.
    pub(crate) resolved: bool,
}

pub(crate) struct Search {
    pub(crate) trials: Vec<Trial>,
    pub(crate) found: Vec<Found>,
    /// Each found rate, with trials at so many percent of it.
    pub(crate) latency: BTreeMap<u64, Vec<(u64, Trial)>>,
    /// Why it ended before it was done.
    pub(crate) cut_short: Option<String>,
}

/// The bounds of a search.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    first_pps: u64,
    /// As a part of the rate.
    resolution: f64,
    max_trials: u32,
}

/// Narrows the gap between the highest rate that passes and the lowest above it that does not. `None` from
/// `try_rate` ends it.
fn narrow(
    allowed: Loss,
    bounds: Bounds,
    known: &mut Vec<(u64, Outcome)>,
    mut try_rate: impl FnMut(u64) -> Result<Option<Outcome>, String>,
) -> Result<Found, String> {
    let mut trials = 0;
    loop {
        let failed = known.iter().filter(|(_, o)| !o.passes(allowed)).min_by_key(|(rate, _)| *rate).copied();
        let ceiling = failed.map_or(u64::MAX, |(rate, _)| rate);
        let passing = known.iter().filter(|(rate, o)| o.passes(allowed) && *rate < ceiling);
        let passed = passing.map(|(rate, _)| *rate).max();
        let limit = match failed {
            None => Limit::Unknown,
            Some((_, outcome)) if outcome.kept_up => Limit::Loss,
            Some(_) => Limit::Generator,
        };
        let next = next_rate(passed, failed.map(|(rate, _)| rate), bounds);
        let result = Found {
            allowed,
            rate_pps: passed,
            failed_pps: failed.map(|(rate, _)| rate),
            limit,
            resolved: next.is_none(),
        };
        let Some(rate) = next.filter(|_| trials < bounds.max_trials) else { return Ok(result) };
        let Some(outcome) = try_rate(rate)? else { return Ok(result) };
        trials += 1;
        known.push((rate, outcome));
    }
}

/// The rate to try next, `None` if there is nothing more to learn.
fn next_rate(passed: Option<u64>, failed: Option<u64>, bounds: Bounds) -> Option<u64> {
    match (passed, failed) {
        (None, None) => Some(bounds.first_pps),
        (Some(passed), None) => (passed < MOST_PPS).then(|| (2 * passed).min(MOST_PPS)),
        (None, Some(failed)) => (failed > 1).then_some(failed / 2),
        (Some(passed), Some(failed)) => {
            let close = ((passed as f64 * bounds.resolution) as u64).max(1);
            (failed - passed > close).then_some(passed.midpoint(failed))
        }
    }
}

/// Runs the whole search, telling `show` of each trial as it ends.
pub(crate) fn run(
    options: &Options,
    outputs: &mut Outputs,
    mut show: impl FnMut(&Trial) -> Result<(), String>,
) -> Result<Search, String> {
    let bench = Bench::set_up(options)?;
    let mut all = Search { trials: Vec::new(), found: Vec::new(), latency: BTreeMap::new(), cut_short: None };
    let bounds = Bounds {
        first_pps: options.rate.unwrap_or(FIRST_PPS),
        resolution: options.resolution / 100.0,
        max_trials: options.max_trials,
    };
    let mut measure = |rate_pps| -> Result<Result<Trial, String>, String> {
        let load = Load { mode: Mode::Open { rate: Rate::Steady(rate_pps) }, duration: options.trial };
        let report = bench.measure(load, outputs)?;
        // A signal ends a run early, and then the whole search.
        let whole = u128::from(report.elapsed_ns()) * 10 >= options.trial.as_nanos() * 9;
        Ok(match report.refused {
            true => {
                Err(format!("nobody listens at {}: its host refuses datagrams to that port", report.target))
            }
            false if whole => Ok(Trial { rate_pps, report }),
            false => Err("the search was interrupted".to_owned()),
        })
    };
    let mut allowed = options.search.clone();
    allowed.sort_by(|a, b| a.0.total_cmp(&b.0));
    allowed.dedup();
    let mut known = Vec::new();
    for allowed in allowed {
        let found = narrow(allowed, bounds, &mut known, |rate| {
            let trial = match measure(rate)? {
                Ok(trial) => trial,
                Err(why) => {
                    all.cut_short = Some(why);
                    return Ok(None);
                }
            };
            show(&trial)?;
            let outcome = trial.outcome();
            all.trials.push(trial);
            Ok(Some(outcome))
        })?;
        all.found.push(found);
        if all.cut_short.is_some() {
            break;
        }
    }
    for rate in all.found.iter().filter_map(|found| found.rate_pps) {
        if all.cut_short.is_some() || all.latency.contains_key(&rate) {
            continue;
        }
        let trials = all.latency.entry(rate).or_default();
        for percent in LATENCY_AT {
            match measure((rate * percent / 100).max(1))? {
                Ok(trial) => trials.push((percent, trial)),
                Err(why) => {
                    all.cut_short = Some(why);
                    break;
                }
            }
        }
    }
    bench.take_down()?;
    Ok(all)
}

/// What is wrong with the result, in one line. Conditions hold for the trial at each found rate.
pub(crate) fn fault(search: &Search, conditions: &[Condition]) -> Option<String> {
    if search.cut_short.is_some() {
        return search.cut_short.clone();
    }
    for found in &search.found {
        let Some(rate) = found.rate_pps else {
            let last = search.trials.iter().min_by_key(|trial| trial.rate_pps);
            let lost = last.map_or(0.0, |trial| trial.report.loss_percent());
            return Some(format!(
                "no rate was found at which {} % or less is lost: at {} datagrams a second it was {lost:.3} %",
                found.allowed.0,
                last.map_or(0, |trial| trial.rate_pps),
            ));
        };
        let best = search.trials.iter().find(|trial| trial.rate_pps == rate);
        if let Some(violations) = best.and_then(|trial| fail_if::violations(conditions, &trial.report)) {
            return Some(violations);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { first_pps: 1_000, resolution: 0.01, max_trials: 40 };

    /// A server that loses what is above 70,000 a second; the generator can send 3,000,000.
    fn outcome(rate: u64) -> Outcome {
        let lost = rate.saturating_sub(70_000) as f64 * 100.0 / rate as f64;
        Outcome { loss_percent: lost, kept_up: rate <= 3_000_000 }
    }

    fn find(allowed: f64, bounds: Bounds, known: &mut Vec<(u64, Outcome)>) -> Found {
        narrow(Loss(allowed), bounds, known, |rate| Ok(Some(outcome(rate)))).expect("no errors")
    }

    #[test]
    fn the_highest_rate_is_found_and_known_trials_are_used() {
        let mut known = Vec::new();
        let none = find(0.0, BOUNDS, &mut known);
        let rate = none.rate_pps.expect("found");
        assert!((69_300..=70_000).contains(&rate) && none.resolved && none.limit == Limit::Loss, "{none:?}");
        assert!(known.len() < 20, "{}", known.len());
        let before = known.len();
        let half = find(0.5, BOUNDS, &mut known);
        assert!(half.rate_pps.is_some_and(|rate| (69_600..=70_352).contains(&rate)), "{half:?}");
        assert!(known.len() < before + 8, "most was known");
        let generator = find(99.9, BOUNDS, &mut known);
        assert_eq!(generator.limit, Limit::Generator, "{generator:?}");
    }

    #[test]
    fn it_ends_where_nothing_passes_or_trials_run_out() {
        let bad = |rate| Ok(Some(Outcome { loss_percent: 1.0, ..outcome(rate) }));
        let found = narrow(Loss(0.0), BOUNDS, &mut Vec::new(), bad).expect("no errors");
        assert_eq!((found.rate_pps, found.failed_pps, found.resolved), (None, Some(1), true));
        let found = find(0.0, Bounds { max_trials: 3, ..BOUNDS }, &mut Vec::new());
        assert_eq!((found.rate_pps, found.failed_pps, found.resolved), (Some(4_000), None, false));
        let found = narrow(Loss(0.0), BOUNDS, &mut Vec::new(), |_| Ok(None)).expect("no errors");
        assert_eq!((found.rate_pps, found.resolved), (None, false), "it was interrupted");
    }

    #[test]
    fn losses_and_resolutions_are_read() {
        assert_eq!(parse_loss("0"), Ok(Loss(0.0)));
        assert_eq!(parse_loss("0.5%"), Ok(Loss(0.5)));
        for text in ["", "1", "-1%", "100%", "nan%", "some"] {
            assert!(parse_loss(text).is_err_and(|refusal| refusal.contains("; write 0 or 0.5%")), "{text}");
        }
        assert_eq!(parse_resolution("2%"), Ok(2.0));
        assert!(parse_resolution("0").is_err() && parse_resolution("60%").is_err());
    }
}
