//! What is shown while it runs, if someone looks.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};

use super::link::Progress;
use super::plan::Plan;
use super::units::grouped;

/// A bar on standard error; nothing where that is no terminal.
pub(crate) struct Live {
    bar: ProgressBar,
    deliveries: u64,
    last: (Instant, u64),
}

impl Live {
    /// `quiet` if lines are shown instead.
    pub(crate) fn new(plan: &Plan, quiet: bool) -> Self {
        let bar = match std::io::stderr().is_terminal() && !quiet {
            true => ProgressBar::new(plan.duration.as_millis() as u64),
            false => ProgressBar::hidden(),
        };
        if let Ok(style) = ProgressStyle::with_template("{wide_bar} {msg}") {
            bar.set_style(style);
        }
        bar.set_message("warming up");
        Self { bar, deliveries: plan.pattern.deliveries(), last: (Instant::now(), 0) }
    }

    /// Shows what the shards counted so far, `since` the time from which they count.
    pub(crate) fn show(&mut self, since: Instant, shards: &[Progress]) {
        let now = Instant::now();
        if self.bar.is_hidden() || now < since {
            return;
        }
        let sum = |of: fn(&Progress) -> &AtomicU64| -> u64 {
            shards.iter().map(|shard| of(shard).load(Ordering::Relaxed)).sum()
        };
        let (received, lost) = (sum(|p| &p.received), sum(|p| &p.lost));
        let in_flight = (self.deliveries * sum(|p| &p.sent)).saturating_sub(received + lost);
        let span = now.duration_since(self.last.0).as_secs_f64();
        let pps = (received.saturating_sub(self.last.1) as f64 / span.max(1e-3)) as u64;
        self.last = (now, received);
        self.bar.set_position(now.duration_since(since).as_millis() as u64);
        let (pps, in_flight, lost) = (grouped(pps), grouped(in_flight), grouped(lost));
        self.bar.set_message(format!("{pps} pps, {in_flight} in flight, {lost} lost"));
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
