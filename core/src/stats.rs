//! Counters that add up.
//!
//! Each shard owns a [`Stats`] and is its only writer, so counting is a load, an add and a store; anyone
//! may read at any time. Every datagram a shard received is in exactly one of the outcomes:
//! [`Snapshot::unaccounted`] is nought whenever a shard is between turns.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// A counter with one writer.
///
/// ```
/// use shardgram_core::stats::Counter;
/// let counter = Counter::default();
/// counter.add(2);
/// counter.add(3);
/// assert_eq!(counter.get(), 5);
/// ```
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. Only the owning shard may call this.
    ///
    /// ```
    /// fn delivered(stats: &shardgram_core::Stats, datagrams: u64) { stats.delivered.add(datagrams); }
    /// ```
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// The value now.
    ///
    /// ```
    /// fn has_restarted(stats: &shardgram_core::Stats) -> bool { stats.restarts.get() > 0 }
    /// ```
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Replaces the value, for figures that are read from elsewhere.
    ///
    /// ```
    /// let counter = shardgram_core::stats::Counter::default();
    /// counter.set(7); // as the kernel said
    /// assert_eq!(counter.get(), 7);
    /// ```
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// The counters of one shard.
        ///
        /// ```
        /// use shardgram_core::Stats;
        /// let stats = Stats::default();
        /// stats.received.add(3);
        /// stats.delivered.add(3);
        /// assert_eq!(stats.snapshot().unaccounted(), 0);
        /// ```
        #[derive(Debug, Default)]
        #[repr(align(128))]
        pub struct Stats {
            $($(#[$doc])* pub $name: Counter,)*
            refused: [Refusal; REFUSALS],
        }

        /// Counters read at one moment, of one shard or the sum of several.
        ///
        /// ```
        /// use shardgram_core::Snapshot;
        /// let mut total = Snapshot::default();
        /// total.add(&Snapshot { received: 2, delivered: 2, ..Snapshot::default() });
        /// assert_eq!(total.unaccounted(), 0);
        /// ```
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct Snapshot {
            $($(#[$doc])* pub $name: u64,)*
            /// Datagrams that [`crate::Accept::Drop`] refused, by reason.
            pub refused: Vec<(&'static str, u64)>,
        }

        impl Stats {
            /// Reads all counters.
            ///
            /// ```
            /// use shardgram_core::Stats;
            /// fn line(stats: &Stats) -> String { stats.snapshot().to_string() }
            /// assert!(line(&Stats::default()).starts_with("received=0 sent=0"));
            /// ```
            pub fn snapshot(&self) -> Snapshot {
                Snapshot {
                    $($name: self.$name.get(),)*
                    refused: self.refused.iter().filter_map(Refusal::read).collect(),
                }
            }
        }

        impl Snapshot {
            /// Adds another shard's.
            ///
            /// ```
            /// use shardgram_core::{Snapshot, Stats};
            /// fn total(shards: &[Stats]) -> Snapshot {
            ///     let mut total = Snapshot::default();
            ///     shards.iter().for_each(|shard| total.add(&shard.snapshot()));
            ///     total
            /// }
            /// ```
            pub fn add(&mut self, other: &Self) {
                $(self.$name += other.$name;)*
                for (reason, count) in &other.refused {
                    match self.refused.iter_mut().find(|(r, _)| r == reason) {
                        Some((_, sum)) => *sum += count,
                        None => self.refused.push((reason, *count)),
                    }
                }
            }

            /// Every counter with its name, refusals as `refused.<reason>`.
            ///
            /// ```
            /// use shardgram_core::Snapshot;
            /// let snapshot = Snapshot { received: 2, refused: vec![("empty", 2)], ..Snapshot::default() };
            /// let named = snapshot.named();
            /// assert!(named.contains(&("received".to_owned(), 2)));
            /// assert!(named.contains(&("refused.empty".to_owned(), 2)));
            /// ```
            pub fn named(&self) -> Vec<(String, u64)> {
                let mut all = vec![$((stringify!($name).to_owned(), self.$name),)*];
                all.extend(self.refused.iter().map(|(r, n)| (format!("refused.{r}"), *n)));
                all
            }
        }
    };
}

counters! {
    /// Datagrams the driver handed over.
    received,
    /// Their bytes.
    received_bytes,
    /// Datagrams other shards forwarded here.
    forwarded_in,
    /// Outcome: given to `on_datagram`.
    delivered,
    /// Outcome: dealt with by `accept` without a peer (`Done`, `Reply`).
    stateless,
    /// Outcome: forwarded to the shard it belongs to.
    forwarded_out,
    /// Outcome: dropped, source port 0.
    dropped_port_zero,
    /// Outcome: dropped, the peer table was full.
    dropped_peers_full,
    /// Outcome: dropped, there was no room for one more path and the peer has no unused one to give up, or
    /// the peer is gone, or lives on another shard while the datagram came by an endpoint.
    dropped_paths_full,
    /// Outcome: dropped, an endpoint got it from an address it does not speak with.
    dropped_foreign,
    /// Outcome: dropped, the shard it belongs to had no room for more forwarded datagrams.
    dropped_forward_full,
    /// Outcome: dropped, the handler panicked in `accept`.
    dropped_panicked,
    /// Outcome: dropped, source or control data made no sense.
    dropped_malformed,
    /// Outcome: dropped, its endpoint was closed before it was handed over.
    dropped_closed,
    /// Datagrams that came by a peer's own socket from somebody else. They went where they belong.
    redispatched,
    /// Copies of broadcasts that the shard which owns the sender's address handles. They are not among those received.
    broadcast_copies,
    /// Dropped by the kernel because a socket's buffer was full, and never received. Read from the kernel
    /// when the statistics are.
    kernel_dropped,
    /// Datagrams longer than [`crate::Config::max_datagram`]; they are delivered, flagged.
    truncated,
    /// Trains of several datagrams that the kernel received as one.
    trains_received,
    /// Datagrams callbacks queued.
    queued,
    /// Their bytes.
    queued_bytes,
    /// Datagrams the driver was given to send. What failed of them is in the `send_failed` counters, the
    /// rest left this host's socket.
    submitted,
    /// Bytes that were copied on their way out: into the outbox, or to wait for room in a socket. Replies leave
    /// from the receive buffer, and what is written in place where it was written.
    copied_bytes,
    /// Trains of several datagrams the driver was given to send as one.
    trains_sent,
    /// Trains the system refused as such. Their datagrams were sent one by one.
    trains_refused,
    /// Sends the handler was refused because the outbox was full.
    send_refused_full,
    /// Sends the handler was refused by the amplification limit.
    send_refused_unvalidated,
    /// Datagrams that had to wait because the socket's buffer was full.
    send_deferred,
    /// Of those that were submitted: waiting now.
    send_waiting,
    /// Failed: the socket's buffer was full and there was no room to wait either, or it was for no peer.
    send_failed_full,
    /// Failed: the peer refused.
    send_failed_refused,
    /// Failed: no route.
    send_failed_unreachable,
    /// Failed: longer than the path carries.
    send_failed_too_long,
    /// Failed: any other reason.
    send_failed_other,
    /// Peers made.
    peers_opened,
    /// Peers closed.
    peers_closed,
    /// Peers that got a socket of their own.
    promoted,
    /// Peers that lost it, or were closed with it.
    demoted,
    /// Promotions refused: a cap was reached and nobody silent enough to give up a socket, or the driver has
    /// none for this peer.
    promotions_refused,
    /// Promotions the system refused (descriptors, memory).
    promotions_failed,
    /// Time spent making sockets for peers, in nanoseconds.
    promotion_ns,
    /// Peers handed over to a socket of their own before it was certain that the listener held nothing of
    /// them.
    handovers_timed_out,
    /// Errors the network reported to peers' own sockets.
    peer_errors,
    /// Names that were to be looked up for dialed peers.
    lookups,
    /// Of those: without any address to try, in time.
    lookups_failed,
    /// Lookups refused to the handler, because as many as may were under way.
    lookups_refused,
    /// Answers that nobody waited for any more.
    lookups_stale,
    /// Addresses of dialed peers that were tried.
    attempts,
    /// Of those: given up for silence or an error.
    attempts_failed,
    /// Messages that reached `on_message`.
    messages,
    /// Messages a full mailbox gave back.
    messages_refused,
    /// Timers that fired.
    timers_fired,
    /// Handler panics survived.
    restarts,
    /// Turns of the loop.
    turns,
    /// Receives that had to be armed again.
    rearmed,
    /// Times the receive buffers ran out.
    buffers_exhausted,
}

impl Snapshot {
    /// Datagrams that were received and are in none of the outcomes: nought between turns.
    ///
    /// ```
    /// use shardgram_core::Snapshot;
    /// let snapshot = Snapshot { received: 5, delivered: 3, stateless: 1, ..Snapshot::default() };
    /// assert_eq!(snapshot.unaccounted(), 1); // one is being handled
    /// ```
    pub fn unaccounted(&self) -> i64 {
        let refused: u64 = self.refused.iter().map(|(_, n)| n).sum();
        let outcomes = self.delivered
            + self.stateless
            + refused
            + self.forwarded_out
            + self.dropped_port_zero
            + self.dropped_peers_full
            + self.dropped_paths_full
            + self.dropped_foreign
            + self.dropped_forward_full
            + self.dropped_panicked
            + self.dropped_malformed
            + self.dropped_closed;
        (self.received + self.forwarded_in).wrapping_sub(outcomes) as i64
    }

    /// Datagrams whose send failed.
    ///
    /// ```
    /// use shardgram_core::Snapshot;
    /// let snapshot = Snapshot { send_failed_full: 1, send_failed_refused: 2, ..Snapshot::default() };
    /// assert_eq!(snapshot.send_failed(), 3);
    /// ```
    pub fn send_failed(&self) -> u64 {
        self.send_failed_full
            + self.send_failed_refused
            + self.send_failed_unreachable
            + self.send_failed_too_long
            + self.send_failed_other
    }

    /// Peers with a socket of their own.
    ///
    /// ```
    /// use shardgram_core::Snapshot;
    /// let snapshot = Snapshot { promoted: 5, demoted: 2, ..Snapshot::default() };
    /// assert_eq!(snapshot.connected(), 3);
    /// ```
    pub fn connected(&self) -> u64 {
        self.promoted.saturating_sub(self.demoted)
    }

    /// Datagrams that left.
    ///
    /// ```
    /// use shardgram_core::Snapshot;
    /// let snapshot = Snapshot { submitted: 10, send_failed_refused: 2, ..Snapshot::default() };
    /// assert_eq!(snapshot.sent(), 8);
    /// ```
    pub fn sent(&self) -> u64 {
        self.submitted.saturating_sub(self.send_failed() + self.send_waiting)
    }

    /// Peers open now.
    ///
    /// ```
    /// use shardgram_core::Snapshot;
    /// let snapshot = Snapshot { peers_opened: 10, peers_closed: 4, ..Snapshot::default() };
    /// assert_eq!(snapshot.peers(), 6);
    /// ```
    pub fn peers(&self) -> u64 {
        self.peers_opened.saturating_sub(self.peers_closed)
    }
}

/// One line: what came, what left, what was lost and where.
impl std::fmt::Display for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let dropped = (self.received + self.forwarded_in)
            .saturating_sub(self.delivered + self.stateless + self.forwarded_out);
        write!(
            f,
            "received={} sent={} dropped={} kernel_dropped={} send_failed={} peers={} connected={}",
            self.received,
            self.sent(),
            dropped,
            self.kernel_dropped,
            self.send_failed(),
            self.peers(),
            self.connected()
        )
    }
}

/// Reasons a handler may have to refuse, at most; further ones are counted as "other".
const REFUSALS: usize = 32;

#[derive(Debug, Default)]
struct Refusal {
    reason: OnceLock<&'static str>,
    count: Counter,
}

impl Refusal {
    fn read(&self) -> Option<(&'static str, u64)> {
        Some((self.reason.get()?, self.count.get()))
    }
}

impl Stats {
    /// Counts a refusal under its reason.
    pub(crate) fn refuse(&self, reason: &'static str) {
        for (i, refusal) in self.refused.iter().enumerate() {
            let label = if i + 1 == REFUSALS { "other" } else { reason };
            if *refusal.reason.get_or_init(|| label) == label {
                refusal.count.add(1);
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_counted_by_reason_and_bounded() {
        let stats = Stats::default();
        let reasons: Vec<&'static str> = (0..40).map(|i| &*format!("reason {i}").leak()).collect();
        for reason in &reasons {
            stats.refuse(reason);
            stats.refuse(reason);
        }
        let snapshot = stats.snapshot();
        assert_eq!(snapshot.refused.len(), REFUSALS);
        assert_eq!(snapshot.refused[0], ("reason 0", 2));
        assert_eq!(snapshot.refused[REFUSALS - 1], ("other", 2 * (40 - 31)));
    }
}
