//! What shardgram has to be, beside whom: read from `bars.toml`, so that no bar is in code.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;

use super::client::{Latency, Outcome};
use super::contender::Contender;
use super::report;
use super::rounds::Measured;
use super::scenario::Scenario;
use crate::figures::Quartiles;

/// The bars this program was built with.
pub const SHIPPED: &str = include_str!("../../bars.toml");

/// All bars, and the scenarios they speak of.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bars {
    /// Interleaved rounds, seven at least.
    pub rounds: usize,
    /// Seconds each contender is measured for in a round.
    pub seconds: f64,
    /// By name.
    pub scenarios: BTreeMap<String, Scenario>,
    /// In the order of the file.
    #[serde(rename = "bar")]
    pub bars: Vec<Bar>,
}

/// One of them: a figure of one contender over that of others.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bar {
    /// Its name.
    pub id: String,
    /// Where it holds.
    pub scenarios: Vec<String>,
    /// What is compared.
    pub metric: Metric,
    /// Whose figure: of several, that with the least median.
    pub of: Vec<String>,
    /// Over whose: each of them.
    pub over: Vec<String>,
    /// Over the least of them only.
    #[serde(default)]
    pub over_the_least: bool,
    /// Over their figure in another scenario.
    pub over_scenario: Option<String>,
    /// The ratio may be that.
    pub at_most: Option<f64>,
    /// The ratio has to be less than that.
    pub below: Option<f64>,
    /// Where the other's median is less than `cheap_below_ns`, not the ratio counts, but this: so much more.
    pub cheap_more_ns: Option<f64>,
    /// See [`Bar::cheap_more_ns`].
    pub cheap_below_ns: Option<f64>,
    /// What is known to be reachable.
    pub floor: Option<f64>,
}

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Metric {
    /// The server's CPU per datagram.
    Cpu,
    /// The median of latency.
    P50,
    /// Its 99th percentile.
    P99,
    /// Its 99.9th percentile.
    P999,
}

/// What came of a bar, beside one rival, in one scenario.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The bar's name.
    pub id: String,
    /// The scenario's.
    pub scenario: String,
    /// Whose figure over whose.
    pub what: String,
    /// What it may be.
    pub limit: String,
    /// What is known to be reachable.
    pub floor: Option<f64>,
    /// What it is.
    pub finding: Finding,
}

/// The figure, or why there is none.
#[derive(Clone, Debug, PartialEq)]
pub enum Finding {
    /// The bar is met.
    Pass(Figures),
    /// It is not.
    Miss(Figures),
    /// It could not be found out.
    Void(String),
}

/// The least of one over the least of the other, and the ratios of the rounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figures {
    /// Of the two minima.
    pub of_minima: f64,
    /// Of the rounds.
    pub of_rounds: Quartiles,
    /// The median of the rounds' differences in nanoseconds, where that is what counts.
    pub more_ns: Option<f64>,
}

impl Metric {
    fn figure(self, outcome: &Outcome) -> Option<f64> {
        let latency = |of: fn(&Latency) -> u64| outcome.latency.as_ref().map(|latency| of(latency) as f64);
        match self {
            Self::Cpu => Some(outcome.cpu_ns),
            Self::P50 => latency(|latency| latency.p50),
            Self::P99 => latency(|latency| latency.p99),
            Self::P999 => latency(|latency| latency.p999),
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cpu => "CPU",
            Self::P50 => "p50",
            Self::P99 => "p99",
            Self::P999 => "p99.9",
        })
    }
}

impl Bars {
    /// Reads them.
    ///
    /// # Errors
    /// What is wrong with the text, or names a scenario or contender that there is not.
    pub fn parse(text: &str) -> Result<Self, String> {
        let bars: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        for scenario in bars.scenarios.values() {
            if let Some(fault) = scenario.fault() {
                return Err(format!("{}: {fault}", scenario.name()));
            }
        }
        for bar in &bars.bars {
            bar.check(&bars.scenarios).map_err(|fault| format!("bar {}: {fault}", bar.id))?;
        }
        if bars.rounds < 7 {
            return Err("fewer than seven rounds tell nothing".to_owned());
        }
        Ok(bars)
    }

    /// Whether a bar needs this contender in this scenario.
    #[must_use]
    pub fn need(&self, scenario: &Scenario, contender: &Contender) -> bool {
        let named = |names: &[String]| names.iter().any(|name| name == contender.name);
        let here = |name: &String| self.scenarios.get(name) == Some(scenario);
        self.bars.iter().any(|bar| {
            let over_here = bar.over_scenario.as_ref().map_or_else(|| bar.scenarios.iter().any(here), here);
            named(&bar.of) && bar.scenarios.iter().any(here) || named(&bar.over) && over_here
        })
    }

    /// Judges all bars by what was measured.
    #[must_use]
    pub fn judge(&self, all: &[Measured]) -> Vec<Verdict> {
        let find = |name: &String| {
            let scenario = self.scenarios.get(name)?;
            all.iter().find(|measured| measured.scenario == *scenario)
        };
        let mut verdicts = Vec::new();
        for bar in &self.bars {
            for name in &bar.scenarios {
                let (here, there) = (find(name), find(bar.over_scenario.as_ref().unwrap_or(name)));
                for over in bar.rivals(there) {
                    let finding = match (here, there) {
                        (Some(here), Some(there)) => bar.find(here, there, &over),
                        _ => Finding::Void("the scenario was not run".to_owned()),
                    };
                    verdicts.push(bar.verdict(name, here, &over, finding));
                }
            }
        }
        verdicts
    }
}

impl Bar {
    fn check(&self, scenarios: &BTreeMap<String, Scenario>) -> Result<(), String> {
        let all = self.scenarios.iter().chain(&self.over_scenario);
        if let Some(unknown) = all.clone().find(|name| !scenarios.contains_key(*name)) {
            return Err(format!("there is no scenario {unknown}"));
        }
        let names = self.of.iter().chain(&self.over);
        if let Some(unknown) = names.clone().find(|name| Contender::named(name).is_none()) {
            return Err(format!("there is no contender {unknown}"));
        }
        if self.scenarios.is_empty() || self.of.is_empty() || self.over.is_empty() {
            return Err("it compares nothing".to_owned());
        }
        if self.at_most.is_some() == self.below.is_some() {
            return Err("it needs either at_most or below".to_owned());
        }
        if self.cheap_more_ns.is_some() != self.cheap_below_ns.is_some() {
            return Err("cheap_more_ns and cheap_below_ns go together".to_owned());
        }
        Ok(())
    }

    fn least(&self, names: &[String], measured: &Measured) -> Option<&'static str> {
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        report::better(measured, &names, |outcome| self.metric.figure(outcome))
    }

    /// Beside whom it is judged, one by one.
    fn rivals(&self, there: Option<&Measured>) -> Vec<String> {
        match there.and_then(|there| self.least(&self.over, there)).filter(|_| self.over_the_least) {
            Some(least) => vec![least.to_owned()],
            None => self.over.clone(),
        }
    }

    fn find(&self, here: &Measured, there: &Measured, over: &str) -> Finding {
        let figure = |outcome: &Outcome| self.metric.figure(outcome);
        let Some(of) = self.least(&self.of, here).and_then(|name| here.row(name)) else {
            return Finding::Void(format!("{} has no figure", self.of.join(", ")));
        };
        let Some(over) = there.row(over) else { return Finding::Void(format!("{over} did not take part")) };
        // A figure of a contender that fails proves nothing, whichever way it points.
        for row in [of, over] {
            if let Some(fault) = row.fault() {
                return Finding::Void(format!("{} failed: {fault}", row.contender));
            }
        }
        let (Some(ours), Some(theirs)) = (of.quartiles(figure), over.quartiles(figure)) else {
            return Finding::Void("no figure".to_owned());
        };
        let pairs: Vec<_> = of.figures(figure).into_iter().zip(over.figures(figure)).collect();
        let ratios: Vec<_> = pairs.iter().map(|(of, over)| of / over).collect();
        let more: Vec<_> = pairs.iter().map(|(of, over)| of - over).collect();
        let cheap = self.cheap_below_ns.is_some_and(|limit| theirs.median() < limit);
        let figures = Figures {
            of_minima: ours.min() / theirs.min(),
            of_rounds: Quartiles::of(&ratios),
            more_ns: cheap.then(|| Quartiles::of(&more).median()),
        };
        let within = |ratio: f64| {
            self.at_most.is_none_or(|limit| ratio <= limit) && self.below.is_none_or(|limit| ratio < limit)
        };
        let met = match (figures.more_ns, self.cheap_more_ns) {
            (Some(more), Some(limit)) => more <= limit && ours.min() - theirs.min() <= limit,
            _ => within(figures.of_minima) && within(figures.of_rounds.median()),
        };
        if met { Finding::Pass(figures) } else { Finding::Miss(figures) }
    }

    fn verdict(&self, scenario: &str, here: Option<&Measured>, over: &str, finding: Finding) -> Verdict {
        let label = |name: &str| Contender::named(name).map_or("?", |contender| contender.label);
        let of = here.and_then(|here| self.least(&self.of, here)).unwrap_or(&self.of[0]);
        let there = self.over_scenario.as_ref().map(|name| format!(" in {name}")).unwrap_or_default();
        let limit = match (self.at_most, self.below) {
            (Some(limit), _) => format!("at most {}", ratio(limit)),
            (None, limit) => format!("below {}", ratio(limit.unwrap_or_default())),
        };
        let cheap = self.cheap_more_ns.zip(self.cheap_below_ns);
        let cheap = cheap.map(|(more, below)| format!(", or {more} ns more below {below} ns"));
        Verdict {
            id: self.id.clone(),
            scenario: scenario.to_owned(),
            what: format!("{}: {} over {}{there}", self.metric, label(of), label(over)),
            limit: limit + &cheap.unwrap_or_default(),
            floor: self.floor,
            finding,
        }
    }
}

/// As the table has it: small ratios as parts of 1.
fn ratio(value: f64) -> String {
    if value < 0.95 {
        format!("1/{:.4}", 1.0 / value).trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        format!("{value}")
    }
}

impl Verdict {
    /// A row of the table of results.
    #[must_use]
    pub fn markdown(&self) -> String {
        let Self { id, scenario, what, limit, .. } = self;
        let figures = |figures: &Figures| {
            let (rounds, least) = (figures.of_rounds, figures.of_minima);
            let (low, high) = rounds.spread();
            let more = figures.more_ns.map(|more| format!(", {more:+.1} ns")).unwrap_or_default();
            format!("{least:.3} | {:.3} ({low:.3} to {high:.3}){more}", rounds.median())
        };
        let (figure, verdict) = match &self.finding {
            Finding::Pass(found) => (figures(found), "pass".to_owned()),
            Finding::Miss(found) => (figures(found), "**miss**".to_owned()),
            Finding::Void(why) => ("- | -".to_owned(), format!("**no verdict**: {why}")),
        };
        let floor = self.floor.map_or_else(|| "not known".to_owned(), |floor| format!("{floor}"));
        format!("| {id} | {scenario} | {what} | {figure} | {limit} | {floor} | {verdict} |\n")
    }
}

#[cfg(test)]
mod tests {
    use super::{Bars, Finding, SHIPPED};
    use crate::pps::contender::Contender;
    use crate::pps::report::tests::{measured, row};

    const TWO: &str = r#"
        rounds = 7
        seconds = 1.0
        [scenarios.bulk]
        shape = "64x16"
        [[bar]]
        id = "half"
        scenarios = ["bulk"]
        metric = "cpu"
        of = ["shardgram-uring-listener", "shardgram-uring-connected"]
        over = ["recvmmsg", "mio"]
        at_most = 0.5
        floor = 0.4
        [[bar]]
        id = "bare"
        scenarios = ["bulk"]
        metric = "cpu"
        of = ["shardgram-uring-listener"]
        over = ["bare-uring"]
        at_most = 1.03
        cheap_more_ns = 15
        cheap_below_ns = 1000
    "#;

    #[test]
    fn the_shipped_bars_are_well_formed() {
        let bars = Bars::parse(SHIPPED).expect("bars.toml");
        assert!(bars.rounds >= 7);
        let scenario = &bars.scenarios["1x1"];
        assert!(bars.need(scenario, &Contender::named("recvfrom").expect("one")));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (from, to, why) in [
            ("[\"bulk\"]", "[\"other\"]", "no scenario other"),
            ("\"mio\"", "\"nobody\"", "no contender nobody"),
            ("at_most = 0.5", "", "either at_most or below"),
            ("at_most = 0.5", "at_most = 0.5\nbelow = 1.0", "either at_most or below"),
            ("rounds = 7", "rounds = 6", "seven"),
            ("cheap_more_ns = 15", "", "go together"),
            ("64x16", "64x", "FLOWSxWINDOW"),
            ("metric = \"cpu\"", "metric = \"luck\"", "luck"),
        ] {
            let error = Bars::parse(&TWO.replacen(from, to, 1)).expect_err(why);
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn the_better_tier_is_judged_beside_each_rival() {
        let bars = Bars::parse(TWO).expect("bars");
        let all = [measured(vec![
            row("shardgram-uring-listener", &[1200.0, 1250.0, 1230.0]),
            row("shardgram-uring-connected", &[1000.0, 1100.0, 1050.0]),
            row("recvmmsg", &[2500.0, 2000.0, 2400.0]),
            row("mio", &[2000.0, 2100.0, 2090.0]),
            row("bare-uring", &[1190.0, 1200.0, 1210.0]),
        ])];
        let verdicts = bars.judge(&all);
        assert_eq!(verdicts.len(), 3);
        assert!(matches!(verdicts[0].finding, Finding::Pass(figures) if figures.of_minima == 0.5));
        assert!(matches!(verdicts[1].finding, Finding::Miss(_)), "the median of rounds is above");
        assert!(matches!(verdicts[2].finding, Finding::Pass(_)), "{:?}", verdicts[2]);
        let text = verdicts[1].markdown();
        assert!(text.contains("CPU: shardgram uring connected over mio | 0.500 | 0.502"), "{text}");
        assert!(text.contains("| at most 1/2 | 0.4 | **miss** |"), "{text}");
    }

    #[test]
    fn where_datagrams_are_cheap_nanoseconds_count() {
        let bars = Bars::parse(TWO).expect("bars");
        for (ours, met) in [(114.0, true), (116.0, false)] {
            let all = [measured(vec![row("shardgram-uring-listener", &[ours]), row("bare-uring", &[100.0])])];
            let verdicts = bars.judge(&all);
            assert_eq!(matches!(verdicts[2].finding, Finding::Pass(_)), met, "{:?}", verdicts[2]);
        }
    }

    #[test]
    fn a_rival_that_fails_gives_no_verdict() {
        let bars = Bars::parse(TWO).expect("bars");
        let mut broken = row("recvmmsg", &[2000.0]);
        broken.rounds.push(Err("it broke".to_owned()));
        let all = [measured(vec![row("shardgram-uring-listener", &[1.0, 1.0]), broken])];
        let verdicts = bars.judge(&all);
        assert!(matches!(&verdicts[0].finding, Finding::Void(why) if why.contains("it broke")));
        assert!(matches!(&verdicts[1].finding, Finding::Void(why) if why.contains("did not take part")));
    }
}
