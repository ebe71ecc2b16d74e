//! The result of a run, and whether the generator held it back.

use shardgram::Snapshot;

use super::cpu::Usage;
use super::pattern::Pattern;
use super::plan::Mode;
use super::schedule::Rate;
use super::series::Point;
use super::sizes::Sizes;
use super::tally::Tally;
use super::units;

/// A thread that is busy for so many percent of the time has nothing left.
const BUSY_PERCENT: f64 = 90.0;
/// The embedded server is as much to blame as the generator if it is busier, less this.
const BUSY_MARGIN: f64 = 3.0;
/// Threads that wait for a core for so many percent of the time are short of cores.
const STARVED_PERCENT: f64 = 20.0;
/// Sends this late make their own share of the latency.
const LATE_NS: u64 = 1_000_000;
/// So do those that make half of the latency, from this on.
const NOTICEABLE_NS: u64 = 250_000;

pub(crate) struct Report {
    pub(crate) target: String,
    /// Shards and backend of the embedded server.
    pub(crate) embedded: Option<String>,
    /// Shards and backend of the generator.
    pub(crate) client: String,
    pub(crate) pattern: Pattern,
    pub(crate) mode: Mode,
    /// Open loop: datagrams that a flow sends at once.
    pub(crate) burst: u32,
    pub(crate) flows: u32,
    /// Flows that were to be replaced a second.
    pub(crate) new_flows: Option<u64>,
    /// Addresses that flows were bound to; 0 if the system chose.
    pub(crate) sources: usize,
    pub(crate) sizes: Sizes,
    pub(crate) seed: u64,
    pub(crate) tally: Tally,
    /// The intervals, if they were wanted.
    pub(crate) points: Vec<Point>,
    /// The target's host says that nobody listens there.
    pub(crate) refused: bool,
    pub(crate) client_usage: Option<Usage>,
    pub(crate) server_usage: Option<Usage>,
    pub(crate) client_counters: Snapshot,
    pub(crate) server_counters: Option<Snapshot>,
}

impl Report {
    #[cfg(test)]
    pub(crate) fn empty() -> Self {
        Self {
            target: "127.0.0.1:9".to_owned(),
            embedded: None,
            client: "1 shard, mio".to_owned(),
            pattern: Pattern::Echo,
            burst: 1,
            mode: Mode::Closed { window: 1 },
            flows: 1,
            new_flows: None,
            sources: 0,
            sizes: Sizes::Fixed(64),
            seed: 0,
            tally: Tally::new(),
            points: Vec::new(),
            refused: false,
            client_usage: None,
            server_usage: None,
            client_counters: Snapshot::default(),
            server_counters: None,
        }
    }

    /// Time over which datagrams were counted as sent.
    pub(crate) fn elapsed_ns(&self) -> u64 {
        self.tally.stopped_ns.saturating_sub(self.tally.counted_from_ns)
    }

    /// Whether it was interrupted before anything counted.
    pub(crate) fn is_empty(&self) -> bool {
        self.elapsed_ns() == 0
    }

    /// Whether it is known what arrived.
    pub(crate) fn is_known(&self) -> bool {
        self.pattern != Pattern::Sink || self.embedded.is_some()
    }

    /// Datagrams that were to arrive: replies, arrivals at the sink, or deliveries to subscribers.
    pub(crate) fn due(&self) -> u64 {
        self.tally.sent * self.pattern.deliveries()
    }

    /// Sent, without reply in time, and not to be answered any more.
    pub(crate) fn lost(&self) -> u64 {
        self.due().saturating_sub(self.tally.received + self.tally.pending)
    }

    /// Datagrams that the system did not send, those of the warm-up among them.
    pub(crate) fn failed(&self) -> u64 {
        self.client_counters.send_failed()
    }

    pub(crate) fn loss_percent(&self) -> f64 {
        self.lost() as f64 * 100.0 / self.due().max(1) as f64
    }

    /// Replies a second.
    pub(crate) fn pps(&self) -> u64 {
        per_second(self.tally.received, self.elapsed_ns())
    }

    pub(crate) fn sent_pps(&self) -> u64 {
        per_second(self.tally.sent, self.elapsed_ns())
    }

    /// Payload of the replies, in millions of bits a second.
    pub(crate) fn megabits(&self) -> f64 {
        per_second(self.tally.bytes_received, self.elapsed_ns()) as f64 * 8.0 / 1e6
    }

    /// Why the generator was the bottleneck; nothing if it was not, as far as it can know.
    pub(crate) fn bottlenecks(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        self.say_what_the_schedule_lost(&mut reasons);
        self.say_what_its_sockets_lost(&mut reasons);
        self.say_how_busy_it_was(&mut reasons);
        reasons
    }

    fn say_what_the_schedule_lost(&self, reasons: &mut Vec<String>) {
        let Mode::Open { rate } = self.mode else { return };
        let tally = &self.tally;
        if tally.sent * 100 < tally.asked * 99 {
            let sent = units::grouped(per_second(tally.sent, self.elapsed_ns()));
            reasons.push(match rate {
                Rate::Steady(rate) => {
                    format!("it sent {sent} datagrams a second of {}", units::grouped(rate))
                }
                Rate::Ramp { .. } => {
                    let asked = units::grouped(tally.asked);
                    format!("it sent {} datagrams of {asked}", units::grouped(tally.sent))
                }
            });
        }
        let (lag, latency) = (tally.lag.value_at_quantile(0.99), tally.from_intended.value_at_quantile(0.99));
        if lag >= LATE_NS || (lag >= NOTICEABLE_NS && lag >= latency / 2) {
            reasons.push(format!("1 % of its sends left {} or more behind schedule", units::time(lag)));
        }
    }

    fn say_what_its_sockets_lost(&self, reasons: &mut Vec<String>) {
        let counters = &self.client_counters;
        let losses = [
            (self.tally.refused, "of its sends found the outbox full"),
            (counters.send_failed_full, "of its sends found the socket's send buffer full"),
            (counters.kernel_dropped, "of the replies found its socket's receive buffer full"),
        ];
        let happened = losses.iter().filter(|(count, _)| *count > 0);
        reasons.extend(happened.map(|(count, what)| format!("{} {what}", units::grouped(*count))));
    }

    fn say_how_busy_it_was(&self, reasons: &mut Vec<String>) {
        let Some(client) = self.client_usage else { return };
        if client.busy >= BUSY_PERCENT {
            match self.server_usage {
                None => reasons.push(format!("its threads were busy {:.0} % of the time", client.busy)),
                Some(server) if server.busy + BUSY_MARGIN < client.busy => reasons.push(format!(
                    "its threads were busy {:.0} % of the time, the server's {:.0} %",
                    client.busy, server.busy
                )),
                Some(_) => {}
            }
        }
        if client.starved >= STARVED_PERCENT {
            reasons.push(format!("its threads waited {:.0} % of the time for a core", client.starved));
        }
    }
}

fn per_second(count: u64, elapsed_ns: u64) -> u64 {
    (u128::from(count) * 1_000_000_000 / u128::from(elapsed_ns.max(1))) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_adds_up() {
        let mut report = Report::empty();
        (report.tally.sent, report.tally.received, report.tally.pending) = (100, 90, 4);
        (report.tally.counted_from_ns, report.tally.stopped_ns) = (1_000, 500_001_000);
        assert_eq!((report.lost(), report.pps(), report.sent_pps()), (6, 180, 200));
        assert!(!report.is_empty() && Report::empty().is_empty());
    }

    #[test]
    fn a_generator_that_keeps_up_is_no_bottleneck() {
        let mut report = Report::empty();
        report.client_usage = Some(Usage { busy: 80.0, starved: 1.0 });
        assert_eq!(report.bottlenecks(), Vec::<String>::new());
        report.client_usage = Some(Usage { busy: 97.0, starved: 1.0 });
        report.server_usage = Some(Usage { busy: 98.0, starved: 1.0 });
        assert_eq!(report.bottlenecks(), Vec::<String>::new());
    }

    #[test]
    fn each_reason_is_told() {
        let mut report = Report::empty();
        report.mode = Mode::Open { rate: Rate::Steady(1_000) };
        (report.tally.sent, report.tally.asked) = (900, 1_000);
        (report.tally.counted_from_ns, report.tally.stopped_ns) = (0, 1_000_000_000);
        report.tally.lag.saturating_record(2_000_000);
        report.tally.refused = 3;
        report.client_counters.kernel_dropped = 5;
        report.client_usage = Some(Usage { busy: 99.0, starved: 30.0 });
        report.server_usage = Some(Usage { busy: 50.0, starved: 0.0 });
        let reasons = report.bottlenecks();
        for (reason, part) in
            reasons.iter().zip(["900 datag", "2ms", "3 of its sends", "5 of the replies", "50 %", "30 %"])
        {
            assert!(reason.contains(part), "{reason}");
        }
        assert_eq!(reasons.len(), 6);
    }
}
