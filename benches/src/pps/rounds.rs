//! Contenders in turns.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::child::Server;
use super::client::{self, Outcome};
use super::contender::Contender;
use super::scenario::{Rate, Scenario};
use super::servers::{Task, Wait};
use crate::figures::Quartiles;

/// Descriptors that are open beside the flows' sockets.
const OTHER_DESCRIPTORS: u64 = 64;
/// The least part of a closed loop that tells what a contender is capable of.
const CAPACITY_TIME: Duration = Duration::from_millis(500);

/// What to run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The program whose `serve` is a contender: this one, but for tests.
    pub program: PathBuf,
    /// Who.
    pub contenders: Vec<Contender>,
    /// How often.
    pub rounds: usize,
    /// How long each is measured in a round.
    pub time: Duration,
    /// The core of the server.
    pub server_core: usize,
    /// Servers take and send no trains, where that is for them to say.
    pub no_trains: bool,
}

/// What a contender did in a scenario.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Its name.
    pub contender: &'static str,
    /// What came out, round by round; or why nothing did.
    pub rounds: Vec<Result<Outcome, String>>,
    /// What it wrote to standard error in the first round.
    pub complaint: String,
}

/// A scenario that was run.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    /// Which.
    pub scenario: Scenario,
    /// Datagrams a second, if they were the same for all.
    pub rate: Option<u64>,
    /// Each contender's.
    pub rows: Vec<Row>,
    /// Contenders that were left out, and why.
    pub left_out: Vec<(&'static str, &'static str)>,
}

impl Row {
    /// A figure of each round that went well.
    pub fn figures(&self, figure: impl Fn(&Outcome) -> Option<f64>) -> Vec<f64> {
        self.rounds.iter().filter_map(|round| figure(round.as_ref().ok()?)).collect()
    }

    /// Least, quartiles and most of a figure; `None` if no round went well.
    pub fn quartiles(&self, figure: impl Fn(&Outcome) -> Option<f64>) -> Option<Quartiles> {
        let figures = self.figures(figure);
        (!figures.is_empty()).then(|| Quartiles::of(&figures))
    }

    /// What went wrong first: a round that failed, or lost or corrupted datagrams.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        let fault = |round: &Result<Outcome, String>| match round {
            Ok(outcome) => outcome.fault(),
            Err(error) => Some(error.clone()),
        };
        let faults: Vec<_> = self.rounds.iter().filter_map(fault).collect();
        let first = faults.first()?;
        Some(format!("{first} ({} of {} rounds)", faults.len(), self.rounds.len()))
    }
}

impl Measured {
    /// The row of a contender.
    #[must_use]
    pub fn row(&self, name: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.contender == name)
    }

    /// A figure of one contender over that of another, round by round; rounds in which either failed are missing.
    pub fn ratios(&self, of: &str, over: &str, figure: impl Fn(&Outcome) -> Option<f64>) -> Vec<f64> {
        let (Some(of), Some(over)) = (self.row(of), self.row(over)) else { return Vec::new() };
        let pairs = of.rounds.iter().zip(&over.rounds);
        pairs
            .filter_map(|(of, over)| Some(figure(of.as_ref().ok()?)? / figure(over.as_ref().ok()?)?))
            .filter(|ratio| ratio.is_finite())
            .collect()
    }
}

impl Plan {
    fn task(&self, contender: Contender, scenario: &Scenario) -> Task {
        Task {
            contender: contender.name.to_owned(),
            mode: scenario.mode,
            core: self.server_core,
            wait: scenario.wait,
            no_trains: self.no_trains,
            peers: scenario.shape.flows,
            size: scenario.size,
            tally: None,
        }
    }

    fn one(
        &self,
        contender: Contender,
        scenario: &Scenario,
        time: Duration,
        rate: Option<u64>,
    ) -> (Result<Outcome, String>, String) {
        let mut server = match Server::start(&self.program, &self.task(contender, scenario)) {
            Ok(server) => server,
            Err(error) => return (Err(error.to_string()), String::new()),
        };
        let outcome = client::run(&scenario.load(time, rate), &server);
        let died = !server.is_alive();
        let complaint = server.complaints();
        let outcome = match outcome {
            _ if died => Err(format!("its process ended: {complaint}")),
            Err(error) => Err(format!("{error}{}{complaint}", if complaint.is_empty() { "" } else { ": " })),
            Ok(outcome) => Ok(outcome),
        };
        (outcome, complaint)
    }

    /// Half of what the slowest of those that work can do in a closed loop.
    fn half_of_slowest(&self, scenario: &Scenario, contenders: &[Contender]) -> Option<u64> {
        let closed = Scenario { rate: Rate::Closed, ..scenario.clone() };
        let capacities = contenders.iter().filter_map(|contender| {
            let outcome = self.one(*contender, &closed, self.time.max(CAPACITY_TIME), None).0.ok()?;
            (outcome.datagrams > 0).then_some(outcome.pps as u64)
        });
        capacities.min().map(|slowest| (slowest / 2).max(1))
    }

    fn prepare(&self, scenario: &Scenario) -> Result<(Vec<Contender>, Measured), String> {
        if let Some(fault) = scenario.fault() {
            return Err(format!("{}: {fault}", scenario.name()));
        }
        let (descriptors, _) = super::system::limit(libc::RLIMIT_NOFILE);
        let needed = u64::from(scenario.shape.flows) + OTHER_DESCRIPTORS;
        if needed > descriptors {
            let name = scenario.name();
            return Err(format!("{name} needs {needed} descriptors, RLIMIT_NOFILE allows {descriptors}"));
        }
        let can = |contender: &Contender| scenario.wait != Wait::Spin || contender.spins;
        let (contenders, others): (Vec<_>, Vec<_>) = self.contenders.iter().copied().partition(can);
        let left_out = others.iter().map(|contender| (contender.name, "cannot spin")).collect();
        let rate = match scenario.rate {
            Rate::Closed => None,
            Rate::HalfOfSlowest => {
                Some(self.half_of_slowest(scenario, &contenders).ok_or("no contender works")?)
            }
        };
        let row = |contender: &Contender| Row {
            contender: contender.name,
            rounds: Vec::with_capacity(self.rounds),
            complaint: String::new(),
        };
        let rows = contenders.iter().map(row).collect();
        Ok((contenders, Measured { scenario: scenario.clone(), rate, rows, left_out }))
    }

    /// Runs scenarios: in each round every scenario, and in that every contender once, another one first each time.
    /// So the rounds of all are spread over the whole run. `wanted` says who takes part, `progress` hears of each.
    ///
    /// # Errors
    /// If a scenario makes no sense, or this process may not open so many sockets.
    pub fn run(
        &self,
        scenarios: &[Scenario],
        wanted: impl Fn(&Scenario, &Contender) -> bool,
        mut progress: impl FnMut(&Scenario, &Contender, usize, &Result<Outcome, String>),
    ) -> Result<Vec<Measured>, String> {
        let mut all = Vec::with_capacity(scenarios.len());
        for scenario in scenarios {
            let contenders = self.contenders.iter().copied().filter(|contender| wanted(scenario, contender));
            let plan = Self { contenders: contenders.collect(), ..self.clone() };
            all.push(plan.prepare(scenario)?);
        }
        for round in 0..self.rounds {
            for (contenders, measured) in &mut all {
                for turn in 0..contenders.len() {
                    let at = order(contenders.len(), round, turn);
                    let scenario = &measured.scenario;
                    let (outcome, complaint) = self.one(contenders[at], scenario, self.time, measured.rate);
                    progress(scenario, &contenders[at], round, &outcome);
                    let row = &mut measured.rows[at];
                    if round == 0 {
                        row.complaint = complaint;
                    }
                    row.rounds.push(outcome);
                }
            }
        }
        Ok(all.into_iter().map(|(_, measured)| measured).collect())
    }
}

/// Who is next: each round begins with another contender, and every other one goes the other way round.
fn order(contenders: usize, round: usize, turn: usize) -> usize {
    let step = if round.is_multiple_of(2) { turn } else { contenders - turn };
    (round + step) % contenders
}

#[cfg(test)]
mod tests {
    use super::{Measured, Outcome, Row, order};
    use crate::pps::scenario::{Scenario, Shape};

    fn row(contender: &'static str, cpu: &[Option<f64>]) -> Row {
        let round = |cpu: &Option<f64>| {
            let outcome = |cpu_ns| Outcome { datagrams: 1, cpu_ns, ..Outcome::default() };
            cpu.map(outcome).ok_or_else(|| "it broke".to_owned())
        };
        Row { contender, rounds: cpu.iter().map(round).collect(), complaint: String::new() }
    }

    #[test]
    fn every_round_has_everybody_once_and_another_first() {
        let rounds: Vec<Vec<_>> =
            (0..6).map(|round| (0..5).map(|turn| order(5, round, turn)).collect()).collect();
        for round in &rounds {
            let mut sorted = round.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, [0, 1, 2, 3, 4]);
        }
        assert!(rounds.windows(2).all(|pair| pair[0][0] != pair[1][0]), "{rounds:?}");
    }

    #[test]
    fn ratios_are_of_the_same_round() {
        let scenario = Scenario::new(Shape { flows: 1, window: 1 });
        let rows = vec![
            row("a", &[Some(1.0), Some(2.0), None, Some(3.0)]),
            row("b", &[Some(2.0), Some(8.0), Some(1.0), None]),
        ];
        let measured = Measured { scenario, rate: None, rows, left_out: Vec::new() };
        assert_eq!(measured.ratios("a", "b", |outcome| Some(outcome.cpu_ns)), [0.5, 0.25]);
        assert!(measured.ratios("a", "c", |outcome| Some(outcome.cpu_ns)).is_empty());
        let fault = measured.rows[1].fault();
        assert_eq!(fault.as_deref(), Some("it broke (1 of 4 rounds)"));
    }
}
