//! Makes a failing run shorter, by leaving out parts and actions as long as it still fails.

use std::time::{Duration, Instant};

use crate::part::Part;
use crate::plan::Plan;
use crate::run::{Report, run};

/// The shortest plan found within a time that fails, if in another way perhaps.
///
/// ```
/// use shardgram_chaos::{Plan, run, shrink};
/// let plan = Plan::of(1);
/// let report = run(&plan, false);
/// if report.failure.is_some() {
///     println!("{}", shrink(&plan, &report, std::time::Duration::from_secs(10)).command());
/// }
/// ```
pub fn shrink(plan: &Plan, report: &Report, limit: Duration) -> Plan {
    let end = Instant::now() + limit;
    let mut shortest = Shortest { plan: plan.clone(), end };
    let begun: Vec<u32> = (0..report.actions.0).filter(|index| plan.keeps(*index)).collect();
    shortest.keep(&begun[..begun.len().min(report.actions.1 as usize)]);
    for part in Part::ALL {
        let mut without = shortest.plan.without.clone();
        without.push(part);
        let fewer = Plan { without, ..shortest.plan.clone() };
        shortest.try_it(fewer);
    }
    // Halves first, then quarters, down to single actions.
    let mut kept: Vec<u32> = (0..report.actions.0).filter(|index| shortest.plan.keeps(*index)).collect();
    let mut size = kept.len().div_ceil(2);
    while size > 0 {
        let mut at = 0;
        while at < kept.len() {
            let mut fewer = kept.clone();
            fewer.drain(at..kept.len().min(at + size));
            if shortest.keep(&fewer) {
                kept = fewer;
            } else {
                at += size;
            }
        }
        size = if size == 1 { 0 } else { size.div_ceil(2) };
    }
    shortest.plan
}

struct Shortest {
    plan: Plan,
    end: Instant,
}

impl Shortest {
    fn try_it(&mut self, plan: Plan) -> bool {
        let fails = Instant::now() < self.end && run(&plan, false).failure.is_some();
        if fails {
            self.plan = plan;
        }
        fails
    }

    fn keep(&mut self, actions: &[u32]) -> bool {
        let ranges = actions.chunk_by(|a, b| a + 1 == *b).map(|run| run[0]..run[run.len() - 1] + 1);
        let plan = Plan { keep: Some(ranges.collect()), ..self.plan.clone() };
        self.try_it(plan)
    }
}
