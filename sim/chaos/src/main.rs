//! Runs seeds until one fails or the time is up: see CONTRIBUTING.md, "Randomised run".

use std::hash::{BuildHasher, Hasher, RandomState};
use std::ops::Range;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use shardgram_chaos::{Part, Plan, Reached, run, shrink};

const USAGE: &str = "shardgram-chaos [--known FILE] [--seconds N] [--first SEED] [--count N] [--reached]
shardgram-chaos --seed SEED [--keep A-B,C-D] [--without PART,PART]

--known FILE   first the seeds of a file, one a line, with a word on why after it
--seconds N    then fresh seeds for N seconds, from the system's randomness
--first SEED   with these beginning here
--count N      at most N of them
--reached      say at the end how often each thing happened
--seed SEED    only this one, with the last lines of what happened
--keep A-B     of its actions only A and following before B
--without PART without Faults, Panics, ...";

/// How long a failing run is made shorter.
const SHRINKING: Duration = Duration::from_secs(20);

#[derive(Default)]
struct Options {
    known: Vec<(u64, String)>,
    seconds: u64,
    first: Option<u64>,
    count: Option<u64>,
    reached: bool,
    one: Option<Plan>,
}

fn options() -> Result<Options, String> {
    let mut options = Options::default();
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        if name == "--reached" {
            options.reached = true;
            continue;
        }
        let value =
            arguments.next().ok_or_else(|| format!("{name} wants a value, or is none of these:\n{USAGE}"))?;
        let number = || value.parse::<u64>().map_err(|_| format!("{name}: {value} is no number"));
        let of_one = |one: &mut Option<Plan>| one.take().ok_or_else(|| format!("{name} comes after --seed"));
        match name.as_str() {
            "--known" => options.known = known(&value)?,
            "--seconds" => options.seconds = number()?,
            "--first" => options.first = Some(number()?),
            "--count" => options.count = Some(number()?),
            "--seed" => options.one = Some(Plan::of(number()?)),
            "--keep" => {
                let keep = value.split(',').map(range).collect::<Result<_, _>>()?;
                options.one = Some(Plan { keep: Some(keep), ..of_one(&mut options.one)? });
            }
            "--without" => {
                let without = value.split(',').map(part).collect::<Result<_, _>>()?;
                options.one = Some(Plan { without, ..of_one(&mut options.one)? });
            }
            _ => return Err(format!("what is {name}?\n{USAGE}")),
        }
    }
    Ok(options)
}

fn known(file: &str) -> Result<Vec<(u64, String)>, String> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))?;
    let lines = text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
    let seed = |line: &str| {
        let (seed, why) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let number = seed.parse().map_err(|_| format!("{file}: {seed} is no seed"))?;
        Ok((number, why.trim().to_owned()))
    };
    lines.map(seed).collect()
}

fn range(text: &str) -> Result<Range<u32>, String> {
    let ends = text.split_once('-').and_then(|(a, b)| Some(a.parse().ok()?..b.parse().ok()?));
    ends.ok_or_else(|| format!("{text} is not like 3-7"))
}

fn part(text: &str) -> Result<Part, String> {
    let found = Part::ALL.into_iter().find(|part| format!("{part:?}").eq_ignore_ascii_case(text));
    found.ok_or_else(|| format!("{text} is none of {:?}", Part::ALL))
}

/// What was done in all.
#[derive(Default)]
struct Sum {
    seeds: u64,
    steps: u64,
    datagrams: u64,
    virtual_time: Duration,
    reached: Reached,
}

impl Sum {
    /// Runs a seed; false if it fails.
    fn run(&mut self, seed: u64) -> bool {
        let plan = Plan::of(seed);
        let report = run(&plan, false);
        self.seeds += 1;
        self.steps += report.steps;
        self.datagrams += report.datagrams;
        self.virtual_time += report.elapsed;
        self.reached.add(&report.reached);
        let Some(failure) = &report.failure else { return true };
        println!("FAILED: seed {seed} {failure}");
        println!("replay: {}", plan.command());
        let shorter = shrink(&plan, &report, SHRINKING);
        show(&shorter);
        false
    }
}

/// Runs one plan and shows how it ends.
fn show(plan: &Plan) -> bool {
    let report = run(plan, true);
    report.lines.iter().for_each(|line| println!("  {line}"));
    match &report.failure {
        Some(failure) => println!("FAILED: seed {} {failure}\nreplay: {}", plan.seed, plan.command()),
        None => println!("seed {} passed: {} steps, {:?}", plan.seed, report.steps, report.elapsed),
    }
    report.failure.is_none()
}

fn main() -> ExitCode {
    let options = match options() {
        Ok(options) => options,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    if let Some(plan) = &options.one {
        return if show(plan) { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let (start, mut sum) = (Instant::now(), Sum::default());
    let mut passed = true;
    for (seed, why) in &options.known {
        let well = sum.run(*seed);
        if !well {
            println!("seed {seed} had failed before: {why}");
        }
        passed &= well;
    }
    println!("{} known seeds in {:.1?}", options.known.len(), start.elapsed());
    let first = options.first.unwrap_or_else(|| RandomState::new().build_hasher().finish());
    let (fresh, limit) = (Instant::now(), Duration::from_secs(options.seconds));
    let most = options.count.unwrap_or(if options.seconds == 0 { 0 } else { u64::MAX });
    for index in 0..most {
        if !passed || (options.seconds > 0 && fresh.elapsed() >= limit) {
            break;
        }
        passed &= sum.run(first.wrapping_add(index));
    }
    println!(
        "{} seeds, the fresh ones from {first} on: {} steps, {} datagrams, {:.1?} of virtual time, in {:.1?}",
        sum.seeds,
        sum.steps,
        sum.datagrams,
        sum.virtual_time,
        start.elapsed()
    );
    if options.reached {
        sum.reached.all().for_each(|(name, count)| println!("{count:>10} {name}"));
    }
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
