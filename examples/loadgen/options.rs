//! The command line, and what is wrong with it, in one line each.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Parser;
use clap::builder::RangedU64ValueParser;
use clap::error::ErrorKind;
use shardgram::{Backend, PathMtu};

use super::fail_if::{self, Condition};
use super::offload::Offload;
use super::pattern::{Choice, Pattern};
use super::plan::{Load, Mode};
use super::schedule::{self, MOST_PPS, Rate};
use super::search::{self, FIRST_PPS, Loss};
use super::sizes::{self, Sizes};
use super::sources::{self, Source};
use super::units;

/// Headings of `--help`.
const LOAD: &str = "Load";
const SEARCH: &str = "Search";
const GENERATOR: &str = "Generator";
const SERVER: &str = "Embedded server";
const RESULTS: &str = "Results";
/// The longest payload of UDP over IPv4 and IPv6 (RFC 768, RFC 791, RFC 8200).
pub(crate) const MAX_PAYLOAD: [usize; 2] = [65_507, 65_527];
/// The most pairs of a publisher and a subscriber.
const MAX_PAIRS: u64 = 1 << 18;
/// Replaced flows of a shard that are being opened or closed.
const RETIRED_SLACK: u32 = 64;
const DEFAULT_INTERVAL: Duration = Duration::from_secs(1);
/// For plots of short runs.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(10);
const PLOTTED_INTERVALS: u32 = 50;
/// The most intervals of a run.
const MAX_INTERVALS: u32 = 100_000;
/// The most intervals that may wait for their last replies.
const MAX_OPEN_INTERVALS: u32 = 64;
/// Descriptors beside the flows': the standard streams, rings, polls and wake-ups.
const SPARE_DESCRIPTORS: u64 = 32;

/// Loads a server that echoes datagrams and measures what comes back.
///
/// A datagram is lost if no intact reply came within --timeout, so sent = received + lost. Replies after
/// that are counted as late, further ones as duplicated, those overtaken by a younger one of their flow as
/// reordered, and those that differ from what was sent as corrupted. Exit code: 0; 1 if nothing came
/// back, nobody listens, datagrams are too long for the path, a search found nothing or a --fail-if condition
/// holds; 2 if it could not run.
#[derive(Parser, Debug)]
#[command(name = "loadgen", version)]
pub(crate) struct Options {
    /// Server to load, as host:port or [fe80::1%eth0]:port; without it an echo server is started in this process.
    pub(crate) target: Option<String>,
    /// What the server does with a datagram: echo it, take it (sink), or send it to all subscribers (fan-out).
    ///
    /// Sink: what arrived is known of the embedded server only. Fan-out: the first --publishers flows send,
    /// the others subscribe. A server of its own must send a datagram whose byte 30 is 1 back to its sender,
    /// and every other one unchanged to all who sent such a one.
    #[arg(help_heading = LOAD, long, default_value = "echo")]
    pub(crate) mode: Choice,
    /// Fan-out: flows that publish.
    #[arg(help_heading = LOAD, long, value_name = "N", default_value_t = 1, value_parser = range(1, 1_000))]
    pub(crate) publishers: u32,
    /// Flows, each with a socket and a port of its own.
    #[arg(help_heading = LOAD, long, value_name = "N", default_value_t = 64,
          value_parser = range(1, 1_000_000))]
    pub(crate) flows: u32,
    /// Closed loop: datagrams each flow keeps in flight.
    #[arg(help_heading = LOAD, long, value_name = "W", default_value_t = 4, value_parser = range(1, 65_536))]
    pub(crate) window: u32,
    /// Flows a second that are closed and replaced by new ones, each with another port.
    #[arg(help_heading = LOAD, long, value_name = "PER_SECOND",
          value_parser = RangedU64ValueParser::<u64>::new().range(1..=1_000_000))]
    pub(crate) new_flows: Option<u64>,
    /// Open loop: datagrams a second over all flows, whether or not replies come.
    #[arg(help_heading = LOAD, long, value_name = "PPS", conflicts_with = "window",
          value_parser = RangedU64ValueParser::<u64>::new().range(1..=MOST_PPS))]
    pub(crate) rate: Option<u64>,
    /// Open loop whose rate rises or falls evenly, as in 10000..200000/20s.
    #[arg(help_heading = LOAD, long, value_name = "PPS..PPS/TIME", conflicts_with_all = ["window", "rate", "duration"],
          value_parser = schedule::parse_ramp)]
    pub(crate) ramp: Option<Rate>,
    /// Open loop: datagrams that a flow sends at once, which may leave as a train; the rate is kept.
    #[arg(help_heading = LOAD, long, value_name = "N", default_value_t = 1, conflicts_with = "window",
          value_parser = range(1, 1_024))]
    pub(crate) burst: u32,
    /// Search for the highest rates with no more than these losses, as in 0,0.5%, by trials; then measure
    /// latency at 10, 50 and 90 % of them. --rate is the first rate to try.
    #[arg(help_heading = SEARCH, long, value_name = "LOSSES", value_delimiter = ',', value_parser = search::parse_loss,
          conflicts_with_all = ["window", "ramp", "duration", "interval", "lines", "hdr_log"])]
    pub(crate) search: Vec<Loss>,
    /// How long each trial of a search measures.
    #[arg(help_heading = SEARCH, long, value_name = "TIME", default_value = "2s", requires = "search",
          value_parser = duration(10, 3_600_000))]
    pub(crate) trial: Duration,
    /// When a search ends: the lowest rate that failed is so close to the highest that did not.
    #[arg(help_heading = SEARCH, long, value_name = "PERCENT", default_value = "2%", requires = "search",
          value_parser = search::parse_resolution)]
    pub(crate) resolution: f64,
    /// The most trials for each loss of a search.
    #[arg(help_heading = SEARCH, long, value_name = "N", default_value_t = 25, requires = "search",
          value_parser = range(1, 1_000))]
    pub(crate) max_trials: u32,
    /// Bytes of payload of each datagram, 32 or more: 64, 64-1200 for all of these equally often, imix, or
    /// sizes with their shares as in 64:7,576:4,1500:1.
    #[arg(help_heading = LOAD, long, value_name = "BYTES", default_value = "64", value_parser = sizes::parse)]
    pub(crate) size: Sizes,
    /// Local addresses that flows are bound to in turn, as in 127.0.1.0/24,fe80::9%eth0.
    #[arg(help_heading = LOAD, long, value_name = "ADDRESSES", value_delimiter = ',',
          value_parser = sources::parse)]
    pub(crate) source: Vec<Source>,
    /// What sizes are drawn by, where they vary; the same seed gives each flow the same sizes again.
    #[arg(help_heading = LOAD, long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// How long to measure, as in 5s or 500ms.
    #[arg(help_heading = LOAD, long, value_name = "TIME", default_value = "5s",
          value_parser = duration(1, 86_400_000))]
    pub(crate) duration: Duration,
    /// How long to send before what is sent counts.
    #[arg(help_heading = LOAD, long, value_name = "TIME", default_value = "500ms",
          value_parser = duration(0, 86_400_000))]
    pub(crate) warmup: Duration,
    /// When a datagram without a reply is lost.
    #[arg(help_heading = LOAD, long, value_name = "TIME", default_value = "1s",
          value_parser = duration(1, 60_000))]
    pub(crate) timeout: Duration,
    /// Shards of the generator, one thread each.
    #[arg(help_heading = GENERATOR, long, value_name = "N", default_value_t = 1)]
    pub(crate) shards: u16,
    /// Cores to pin the generator's shards to, as in 0,1.
    #[arg(help_heading = GENERATOR, long, value_name = "CORES", value_delimiter = ',')]
    pub(crate) cores: Vec<usize>,
    /// Backend of the generator: auto, uring or mio.
    #[arg(help_heading = GENERATOR, long, default_value = "auto")]
    pub(crate) backend: Backend,
    /// Trains to and from the kernel: on, off, or auto for where it takes them; on fails if none was sent.
    #[arg(help_heading = GENERATOR, long, value_name = "WHEN", default_value = "auto")]
    pub(crate) offload: Offload,
    /// What becomes of datagrams longer than the path carries: system, refuse, probe or fragment.
    #[arg(help_heading = GENERATOR, long, value_name = "MODE", default_value = "system")]
    pub(crate) path_mtu: PathMtu,
    /// Shards of the embedded server.
    #[arg(help_heading = SERVER, long, value_name = "N", default_value_t = 1, conflicts_with = "target")]
    pub(crate) server_shards: u16,
    /// Cores to pin the embedded server's shards to.
    #[arg(help_heading = SERVER, long, value_name = "CORES", value_delimiter = ',',
          conflicts_with = "target")]
    pub(crate) server_cores: Vec<usize>,
    /// Backend of the embedded server: auto, uring or mio.
    #[arg(help_heading = SERVER, long, value_name = "BACKEND", default_value = "auto",
          conflicts_with = "target")]
    pub(crate) server_backend: Backend,
    /// The same as --offload of the embedded server: off, or auto.
    #[arg(help_heading = SERVER, long, value_name = "WHEN", default_value = "auto",
          conflicts_with = "target")]
    pub(crate) server_offload: Offload,
    /// Print a line for each interval of this length, once all of its datagrams are answered or lost.
    #[arg(help_heading = RESULTS, long, value_name = "TIME", value_parser = duration(10, 3_600_000))]
    pub(crate) interval: Option<Duration>,
    /// Write interval lines as JSON to this file; without it, --json has them on standard error.
    #[arg(help_heading = RESULTS, long, value_name = "FILE")]
    pub(crate) lines: Option<String>,
    /// Write a histogram of latency for each interval to this file, for HdrHistogram's tools.
    #[arg(help_heading = RESULTS, long, value_name = "FILE")]
    pub(crate) hdr_log: Option<String>,
    /// Write one HTML file with plots, the settings and the machine; it needs no network.
    #[arg(help_heading = RESULTS, long, value_name = "FILE")]
    pub(crate) report: Option<String>,
    /// Print one JSON object instead of the table; times in it are in ns.
    #[arg(help_heading = RESULTS, long)]
    pub(crate) json: bool,
    /// Exit with 1 if any of these holds, as in "lost>0,p99>2ms,pps<100000,loss>0.5%".
    #[arg(help_heading = RESULTS, long, value_name = "CONDITIONS", value_delimiter = ',',
          value_parser = fail_if::parse)]
    pub(crate) fail_if: Vec<Condition>,
}

fn range(low: u64, high: u64) -> RangedU64ValueParser<u32> {
    RangedU64ValueParser::new().range(low..=high)
}

fn duration(low_ms: u64, high_ms: u64) -> impl Fn(&str) -> Result<Duration, String> + Clone {
    let (low, high) = (Duration::from_millis(low_ms), Duration::from_millis(high_ms));
    move |text| match units::parse_duration(text)? {
        time if (low..=high).contains(&time) => Ok(time),
        _ => Err(format!("it must be {low:?} to {high:?}")),
    }
}

impl Options {
    /// Reads the command line; `--help` and `--version` end the program.
    pub(crate) fn from_command_line() -> Result<Self, String> {
        let options = Self::try_parse().map_err(|error| match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => error.exit(),
            _ => in_one_line(&error),
        })?;
        options.check()?;
        Ok(options)
    }

    fn check(&self) -> Result<(), String> {
        if u32::from(self.shards) > self.flows {
            let (shards, flows) = (self.shards, self.flows);
            return Err(format!(
                "{shards} shards cannot share {flows} flows; take --flows {shards} or more, or fewer --shards"
            ));
        }
        if self.server_offload == Offload::On {
            return Err(
                "only the generator's trains can be demanded; take --server-offload auto or off".to_owned()
            );
        }
        self.check_pattern()?;
        self.check_interval()?;
        self.check_descriptors()
    }

    /// What a single run sends, or the first trial of a search.
    pub(crate) fn load(&self) -> Load {
        let window = self.window;
        let first = (!self.search.is_empty()).then_some(FIRST_PPS);
        let rate = self.ramp.or(self.rate.or(first).map(Rate::Steady));
        let mode = rate.map_or(Mode::Closed { window }, |rate| Mode::Open { rate });
        Load { mode, duration: self.duration() }
    }

    /// How long to measure.
    pub(crate) fn duration(&self) -> Duration {
        match self.ramp {
            Some(Rate::Ramp { over, .. }) => over,
            _ if self.search.is_empty() => self.duration,
            _ => self.trial,
        }
    }

    pub(crate) fn pattern(&self) -> Pattern {
        let publishers = self.publishers;
        match self.mode {
            Choice::Echo => Pattern::Echo,
            Choice::Sink => Pattern::Sink,
            Choice::FanOut => {
                Pattern::FanOut { publishers, subscribers: self.flows.saturating_sub(publishers) }
            }
        }
    }

    fn check_pattern(&self) -> Result<(), String> {
        let pattern = self.pattern();
        if self.burst > 1 && matches!(self.load().mode, Mode::Closed { .. }) {
            return Err("--burst is for open loops; take --rate, --ramp or --search, or --window".to_owned());
        }
        if !pattern.replies() && matches!(self.load().mode, Mode::Closed { .. }) {
            return Err(format!(
                "--mode {pattern} has no replies for a closed loop; take --rate, --ramp or --search"
            ));
        }
        let outside = self.target.is_some();
        if pattern == Pattern::Sink && outside && !self.search.is_empty() {
            return Err("what arrives at another process's sink is unknown, so there is nothing to search by;                         leave out the target or take --mode echo"
                .to_owned());
        }
        if pattern == Pattern::Sink && outside && self.fail_if.iter().any(|c| !c.is_of_what_was_sent()) {
            return Err("what arrives at another process's sink is unknown, so --fail-if can only be about sent;                         leave out the target or the condition"
                .to_owned());
        }
        let Pattern::FanOut { publishers, subscribers } = pattern else { return Ok(()) };
        if subscribers == 0 {
            return Err(format!("{publishers} publishers leave no flow to subscribe; take more --flows"));
        }
        if u64::from(publishers) * u64::from(subscribers) > MAX_PAIRS {
            return Err(format!(
                "{publishers} publishers for {subscribers} subscribers are too many to tell duplicates; take fewer --flows"
            ));
        }
        match self.new_flows {
            Some(_) => Err("subscribers are not replaced; take --new-flows or --mode fan-out".to_owned()),
            None => Ok(()),
        }
    }

    /// The length of intervals, if something is to be told of them.
    pub(crate) fn step(&self) -> Option<Duration> {
        let wanted = self.ramp.is_some() || self.lines.is_some() || self.hdr_log.is_some();
        let plotted = || {
            let fine = self.duration() / PLOTTED_INTERVALS;
            fine.max(self.timeout / MAX_OPEN_INTERVALS).clamp(SHORTEST_INTERVAL, DEFAULT_INTERVAL)
        };
        let drawn = self.report.is_some() && self.search.is_empty();
        self.interval.or_else(|| drawn.then(plotted)).or(wanted.then_some(DEFAULT_INTERVAL))
    }

    /// How many flows at most are replaced and still wait for replies: those of the timeout, some more that
    /// are just being opened and closed.
    pub(crate) fn retired_flows(&self) -> u32 {
        let Some(per_second) = self.new_flows else { return 0 };
        let waiting = u128::from(per_second) * (self.timeout.as_millis() + 100) / 1_000;
        waiting as u32 + RETIRED_SLACK * u32::from(self.shards)
    }

    /// Every interval is kept in the end, and as many as fit into the timeout while they are open.
    fn check_interval(&self) -> Result<(), String> {
        let Some(step) = self.step() else { return Ok(()) };
        let least = (self.timeout / MAX_OPEN_INTERVALS).max(self.duration() / MAX_INTERVALS);
        if step >= least {
            return Ok(());
        }
        let least = units::time(least.as_nanos() as u64);
        Err(format!(
            "intervals of {step:?} are too many for this --duration or --timeout; take --interval {least} or more"
        ))
    }

    /// Every flow is a descriptor. The server raises the soft limit to the hard one, so that one counts.
    fn check_descriptors(&self) -> Result<(), String> {
        let Some(limit) = hard_descriptor_limit() else { return Ok(()) };
        let shards = u64::from(self.shards) + u64::from(self.server_shards);
        let needed = u64::from(self.flows) + u64::from(self.retired_flows()) + SPARE_DESCRIPTORS + 8 * shards;
        if needed <= limit {
            return Ok(());
        }
        let flows = self.flows;
        let (replaced, remedy) = match self.new_flows {
            Some(_) => {
                (", and replaced ones that wait for replies,", ", fewer --new-flows or a shorter --timeout")
            }
            None => ("", ""),
        };
        Err(format!(
            "{flows} flows{replaced} need {needed} descriptors and the limit is {limit}; raise it with \
             `ulimit -n {needed}` or take fewer --flows{remedy}"
        ))
    }

    /// Whether datagrams of this size can be sent to that address.
    pub(crate) fn check_size(&self, target: SocketAddr) -> Result<(), String> {
        let (family, max) =
            if target.is_ipv4() { ("IPv4", MAX_PAYLOAD[0]) } else { ("IPv6", MAX_PAYLOAD[1]) };
        let size = self.size.max();
        if size <= max {
            return Ok(());
        }
        Err(format!("--size {size} is more than UDP over {family} can carry; take --size {max} or less"))
    }
}

/// The hard limit of open descriptors, `None` where it is not to be read without a system call.
fn hard_descriptor_limit() -> Option<u64> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// clap explains itself in several lines; this keeps the cause, the tip, and the way to the rest.
fn in_one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let mut cause = Vec::new();
    let mut tips = Vec::new();
    for line in text.lines().map(str::trim) {
        match line.strip_prefix("tip: ") {
            Some(tip) => tips.push(tip),
            None if line.starts_with("Usage:") || line.starts_with("For more information") => break,
            None if !line.is_empty() => cause.push(line),
            None => {}
        }
    }
    let cause = cause.join(" ");
    let cause = cause.strip_prefix("error: ").unwrap_or(&cause);
    tips.push("see --help");
    format!("{cause}; {}", tips.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(arguments: &[&str]) -> String {
        let arguments = std::iter::once(&"loadgen").chain(arguments);
        match Options::try_parse_from(arguments) {
            Ok(options) => options.check().expect_err("it is wrong"),
            Err(error) => in_one_line(&error),
        }
    }

    #[test]
    fn mistakes_are_explained_in_one_line_with_a_remedy() {
        let cases: [(&[&str], &str); 12] = [
            (&["--flow", "1"], "tip: a similar argument"),
            (&["--size", "31"], "take 32 or more"),
            (&["--size", "many"], "invalid value 'many' for '--size <BYTES>'"),
            (&["--flows", "0"], "0 is not in 1..=1000000"),
            (&["--rate", "0"], "0 is not in"),
            (&["--rate", "9", "--window", "9"], "cannot be used with"),
            (&["--flows", "2", "--shards", "3"], "take --flows 3 or more"),
            (&["--flows", "1000000"], "ulimit -n"),
            (&["--duration", "5h"], "write a time with its unit"),
            (&["--timeout", "2m"], "it must be 1ms to 60s"),
            (&["--fail-if", "p98>1ms"], "p98"),
            (&["a:1", "--server-shards", "2"], "cannot be used with"),
        ];
        for (arguments, expected) in cases {
            let text = error(arguments);
            let expected = expected.strip_prefix("tip: ").unwrap_or(expected);
            assert!(text.contains(expected) && text.contains("; "), "{text}");
            assert!(!text.contains('\n') && !text.contains("error:") && !text.contains("Usage"), "{text}");
        }
    }
}
