//! Runs what the bars need, and writes down what came of them.

use std::fmt::Write;

use super::bars::{Bars, Finding, Verdict};
use super::client::Outcome;
use super::contender::Contender;
use super::fingerprint::Fingerprint;
use super::report;
use super::rounds::{Measured, Plan};
use super::scenario::Scenario;

/// What came of a check.
#[derive(Debug)]
pub struct Checked {
    /// One for each bar, scenario and rival.
    pub verdicts: Vec<Verdict>,
    /// What they are based on.
    pub measured: Vec<Measured>,
}

/// Measures what the bars speak of, with the plan's contenders as far as bars need them.
///
/// # Errors
/// If a scenario cannot be run here.
pub fn run(
    bars: &Bars,
    plan: &Plan,
    progress: impl FnMut(&Scenario, &Contender, usize, &Result<Outcome, String>),
) -> Result<Checked, String> {
    let mut scenarios: Vec<Scenario> = Vec::new();
    let named = bars.bars.iter().flat_map(|bar| bar.over_scenario.iter().chain(&bar.scenarios));
    for scenario in named.filter_map(|name| bars.scenarios.get(name)) {
        if !scenarios.contains(scenario) {
            scenarios.push(scenario.clone());
        }
    }
    let measured = plan.run(&scenarios, |scenario, contender| bars.need(scenario, contender), progress)?;
    Ok(Checked { verdicts: bars.judge(&measured), measured })
}

impl Checked {
    /// Whether every bar is met.
    #[must_use]
    pub fn is_met(&self) -> bool {
        self.verdicts.iter().all(|verdict| matches!(verdict.finding, Finding::Pass(_)))
    }

    /// What is written to `RESULTS.md`.
    #[must_use]
    pub fn markdown(&self, fingerprint: &Fingerprint, plan: &Plan) -> String {
        let count =
            |is: fn(&Finding) -> bool| self.verdicts.iter().filter(|verdict| is(&verdict.finding)).count();
        let (passed, missed) =
            (count(|it| matches!(it, Finding::Pass(_))), count(|it| matches!(it, Finding::Miss(_))));
        let void = self.verdicts.len() - passed - missed;
        let (rounds, seconds) = (plan.rounds, plan.time.as_secs_f64());
        let mut text = format!(
            "# Results\n\nWritten by `cargo run --release -p shardgram-benches --features rivals --bin pps -- --check`; the bars \
             are in `bars.toml`. {rounds} interleaved rounds of {seconds} s each. {}\n\n\
             **{passed} passed, {missed} missed, {void} without a verdict.** A bar is met if both ratios are within it: \
             that of the minima, and the median of the rounds' ratios.\n\n",
            report::CAVEATS
        );
        text.push_str(
            "| bar | scenario | figure | of minima | of rounds: median (quartiles) | limit | floor | verdict |\n\
             | --- | --- | --- | ---: | ---: | --- | ---: | --- |\n",
        );
        text.extend(self.verdicts.iter().map(Verdict::markdown));
        let _ = write!(text, "\n# Measured on\n\n{}\n# Measured\n\n", fingerprint.markdown());
        text.extend(self.measured.iter().map(|measured| report::table(measured) + "\n"));
        text.truncate(text.trim_end().len());
        text + "\n"
    }
}
