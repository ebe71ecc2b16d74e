//! What a shard counted, and the sum of all shards.

use hdrhistogram::Histogram;
use shardgram::PeerError;

/// Latencies are kept to three digits up to this; longer ones count as this long.
const LONGEST_NS: u64 = 60_000_000_000;

pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST_NS, 3).expect("bounds that are in order")
}

/// Counts datagrams that were sent after the warm-up.
#[derive(Clone, Debug)]
pub(crate) struct Tally {
    pub(crate) sent: u64,
    /// First replies in time.
    pub(crate) received: u64,
    /// Payload of what was sent, and of the first replies in time.
    pub(crate) bytes_sent: u64,
    pub(crate) bytes_received: u64,
    pub(crate) duplicated: u64,
    pub(crate) reordered: u64,
    pub(crate) corrupted: u64,
    /// First replies after the timeout; they are lost all the same.
    pub(crate) late: u64,
    /// Intact datagrams of other runs.
    pub(crate) strange: u64,
    /// Datagrams that may still be answered in time.
    pub(crate) pending: u64,
    /// Sends the shard refused because its outbox was full; they were made later.
    pub(crate) refused: u64,
    /// Why the first of the sends failed that failed afterwards.
    pub(crate) failure: Option<PeerError>,
    /// Flows that took the place of others; those that could not, and why the first of them.
    pub(crate) new_flows: u64,
    pub(crate) new_flows_failed: u64,
    pub(crate) new_flow_failure: Option<String>,
    /// Open loop: datagrams that were to be sent.
    pub(crate) asked: u64,
    /// Latency from the intended send time. In a closed loop that is the actual one.
    pub(crate) from_intended: Histogram<u64>,
    /// Open loop: latency from the actual send time, and how far that was behind the intended one.
    pub(crate) from_sent: Histogram<u64>,
    pub(crate) lag: Histogram<u64>,
    /// When counting began and sending ended.
    pub(crate) counted_from_ns: u64,
    pub(crate) stopped_ns: u64,
}

impl Tally {
    pub(crate) fn new() -> Self {
        Self {
            sent: 0,
            received: 0,
            bytes_sent: 0,
            bytes_received: 0,
            duplicated: 0,
            reordered: 0,
            corrupted: 0,
            late: 0,
            strange: 0,
            pending: 0,
            refused: 0,
            failure: None,
            new_flows: 0,
            new_flows_failed: 0,
            new_flow_failure: None,
            asked: 0,
            from_intended: histogram(),
            from_sent: histogram(),
            lag: histogram(),
            counted_from_ns: u64::MAX,
            stopped_ns: 0,
        }
    }

    /// Adds another shard's.
    pub(crate) fn add(&mut self, other: &Self) {
        let sums = [
            (&mut self.sent, other.sent),
            (&mut self.received, other.received),
            (&mut self.bytes_sent, other.bytes_sent),
            (&mut self.bytes_received, other.bytes_received),
            (&mut self.duplicated, other.duplicated),
            (&mut self.reordered, other.reordered),
            (&mut self.corrupted, other.corrupted),
            (&mut self.late, other.late),
            (&mut self.strange, other.strange),
            (&mut self.pending, other.pending),
            (&mut self.refused, other.refused),
            (&mut self.new_flows, other.new_flows),
            (&mut self.new_flows_failed, other.new_flows_failed),
            (&mut self.asked, other.asked),
        ];
        for (sum, value) in sums {
            *sum += value;
        }
        self.new_flow_failure = self.new_flow_failure.take().or_else(|| other.new_flow_failure.clone());
        self.failure = self.failure.or(other.failure);
        self.counted_from_ns = self.counted_from_ns.min(other.counted_from_ns);
        self.stopped_ns = self.stopped_ns.max(other.stopped_ns);
        let histograms = [
            (&mut self.from_intended, &other.from_intended),
            (&mut self.from_sent, &other.from_sent),
            (&mut self.lag, &other.lag),
        ];
        for (sum, histogram) in histograms {
            sum.add(histogram).expect("equal bounds");
        }
    }
}
