//! Counters that add up.
//!
//! Each shard owns a [`Stats`] and is its only writer, so counting is a load, an add and a store; anyone
//! may read at any time. Every datagram a shard received is in exactly one of the outcomes:
//! [`Snapshot::unaccounted`] is nought whenever a shard is between turns.
//!
//! `received` and `forwarded_in` together are the sum of all outcomes and of `refused.*`. `submitted` is `sent`,
//! `send_waiting` and what failed. `queued` less `submitted` is what waits in the outbox. `kernel_dropped` and
//! `broadcast_copies` count what was never received and stand outside, as lookups and attempts do, which count no datagrams.

mod prometheus;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// A counter with one writer: the shard that owns it, or who follows what becomes of the listeners
/// ([`Stats::set_listeners_deaf`], [`Stats::set_foreign_sockets`]).
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. For the owning shard alone: the sum is read and written back in two steps.
    #[inline]
    pub(crate) fn add(&self, n: u64) {
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
    pub(crate) fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }
}

/// What a counter counts, as far as sums are made of it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Datagrams that came to the shard, from outside or from another one.
    Arrival,
    /// What became of one that came. Each has exactly one outcome.
    Outcome,
    /// What became of one that was to be sent, and was not.
    Failure,
    /// A send that the handler was refused.
    Refusal,
    /// Anything else.
    Count,
    /// The most of something, of which a sum makes no sense.
    Most,
}

impl Kind {
    /// Of two shards together.
    const fn of_both(self, one: u64, other: u64) -> u64 {
        match self {
            Self::Most if one > other => one,
            Self::Most => other,
            _ => one + other,
        }
    }
}

/// The list of counters. What follows from it: the fields, reading and adding them up, their names, and the sums of each
/// [`Kind`].
macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident: $kind:ident,)*) => {
        /// The counters of one shard.
        ///
        /// ```
        /// use shardgram_core::Stats;
        /// let stats = Stats::default();
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
                $(self.$name = Kind::$kind.of_both(self.$name, other.$name);)*
                for (reason, count) in &other.refused {
                    match self.refused.iter_mut().find(|(r, _)| r == reason) {
                        Some((_, sum)) => *sum += count,
                        None => self.refused.push((reason, *count)),
                    }
                }
            }

            /// All counters of a kind together.
            fn sum(&self, kind: Kind) -> u64 {
                let mut sum = 0;
                $(if kind == Kind::$kind {
                    sum += self.$name;
                })*
                sum
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
    received: Arrival,
    /// Their bytes.
    received_bytes: Count,
    /// Datagrams other shards forwarded here.
    forwarded_in: Arrival,
    /// Outcome so far: waiting now, until the outbox has room for what it may cause
    /// ([`crate::Config::outbox_datagrams`]), or a turn has time for it ([`crate::Config::turn_time_us`]).
    held_back: Outcome,
    /// Outcome: given to `on_datagram`.
    delivered: Outcome,
    /// Outcome: dealt with by `accept` without a peer (`Done`, `Reply`).
    stateless: Outcome,
    /// Outcome: forwarded to the shard it belongs to.
    forwarded_out: Outcome,
    /// Outcome: dropped, source port 0.
    dropped_port_zero: Outcome,
    /// Outcome: dropped, the peer table was full of peers that this side opened.
    dropped_peers_full: Outcome,
    /// Outcome: dropped, there was no room for one more path and the peer has no unused one to give up, or
    /// the peer is gone, or lives on another shard while the datagram came by an endpoint.
    dropped_paths_full: Outcome,
    /// Outcome: dropped, an endpoint got it from an address it does not speak with.
    dropped_foreign: Outcome,
    /// Outcome: dropped, the shard it belongs to had no room for more forwarded datagrams.
    dropped_forward_full: Outcome,
    /// Outcome: dropped, the handler panicked in `accept`, or over what came before it in its train.
    dropped_panicked: Outcome,
    /// Outcome: dropped unseen, since what came from its source before made the handler panic.
    dropped_refused_source: Outcome,
    /// Outcome: dropped, source or control data made no sense: among others a source that is unspecified, a multicast group
    /// or a broadcast address.
    dropped_malformed: Outcome,
    /// Outcome: dropped, the source is a listener of this process: an answer would be answered, and so on for ever.
    dropped_own_source: Outcome,
    /// Outcome: dropped, a socket hook turned on reports that left no room for what says how long a train's datagrams are,
    /// or where a datagram was sent to. What was lost counts as one, though it may have been a train.
    dropped_control_cut: Outcome,
    /// Outcome: dropped, its endpoint was closed before it was handed over, or the listener of an address that the host has
    /// lost.
    dropped_closed: Outcome,
    /// Datagrams that came by a peer's own socket from somebody else. They went where they belong.
    redispatched: Count,
    /// Copies of broadcasts that the shard which owns the sender's address handles. They are not among those received.
    broadcast_copies: Count,
    /// Dropped by the kernel because a socket's buffer was full, and never received. Read from the kernel
    /// when the statistics are.
    kernel_dropped: Count,
    /// Datagrams longer than [`crate::Config::max_datagram`]; they are delivered, flagged.
    truncated: Count,
    /// Trains of several datagrams that the kernel received as one.
    trains_received: Count,
    /// Datagrams callbacks queued.
    queued: Count,
    /// Their bytes.
    queued_bytes: Count,
    /// Datagrams the driver was given to send. What failed of them is in the `send_failed` counters, the
    /// rest left this host's socket.
    submitted: Count,
    /// Bytes that were copied on their way out: into the outbox, or to wait for room in a socket. Replies leave
    /// from the receive buffer, and what is written in place where it was written.
    copied_bytes: Count,
    /// Trains of several datagrams the driver was given to send as one.
    trains_sent: Count,
    /// Trains the system refused as such. Their datagrams were sent one by one.
    trains_refused: Count,
    /// Sends the handler was refused for want of room ([`crate::SendError::Full`]).
    send_refused_full: Refusal,
    /// Of those: because the outbox of the turn was full. The others, because too much waited for full sockets.
    send_refused_outbox: Count,
    /// Sends the handler was refused by the amplification limit.
    send_refused_unvalidated: Refusal,
    /// Stateless answers that were refused because the address had as many in that second as it may
    /// ([`crate::Config::stateless_answers_per_second`]).
    send_refused_stateless: Refusal,
    /// Sends that were refused because they were longer than their path's family can carry, or than the bytes there are
    /// ([`crate::SendError::TooLong`], [`crate::Accept::Reply`]).
    send_refused_too_long: Refusal,
    /// Datagrams that had to wait because the socket's buffer was full.
    send_deferred: Count,
    /// Of those that were submitted: waiting now.
    send_waiting: Count,
    /// Failed: the socket's buffer was full and there was no room to wait either, or it was for no peer.
    send_failed_full: Failure,
    /// Failed: the peer refused.
    send_failed_refused: Failure,
    /// Failed: no route.
    send_failed_unreachable: Failure,
    /// Failed: longer than the path carries.
    send_failed_too_long: Failure,
    /// Failed: any other reason.
    send_failed_other: Failure,
    /// Peers made.
    peers_opened: Count,
    /// Peers closed.
    peers_closed: Count,
    /// Peers of unproven address that were closed for newcomers, since the table was full
    /// ([`crate::CloseReason::Displaced`]). They are among those closed.
    peers_displaced: Count,
    /// Peers that gave up their place among those that strangers cannot displace, to another one
    /// ([`crate::Config::max_proven_peers`]). They stay open.
    peers_outweighed: Count,
    /// Peers that got a socket of their own.
    promoted: Count,
    /// Peers that lost it, or were closed with it.
    demoted: Count,
    /// Promotions refused: a cap was reached and nobody silent enough to give up a socket, or the driver has
    /// none for this peer.
    promotions_refused: Count,
    /// Promotions the system refused (descriptors, memory).
    promotions_failed: Count,
    /// Time spent making sockets for peers, in nanoseconds.
    promotion_ns: Count,
    /// Peers handed over to a socket of their own before it was certain that the listener held nothing of
    /// them.
    handovers_timed_out: Count,
    /// Errors the network reported to peers' own sockets.
    peer_errors: Count,
    /// Names that were to be looked up for dialed peers.
    lookups: Count,
    /// Of those: without any address to try, in time.
    lookups_failed: Count,
    /// Lookups refused to the handler, because as many as may were under way.
    lookups_refused: Count,
    /// Answers that nobody waited for any more.
    lookups_stale: Count,
    /// Addresses of dialed peers that were tried.
    attempts: Count,
    /// Of those: given up for silence or an error.
    attempts_failed: Count,
    /// Messages that reached `on_message`.
    messages: Count,
    /// Messages a full mailbox gave back.
    messages_refused: Count,
    /// Timers that fired.
    timers_fired: Count,
    /// Panics of the handler, or of its factory.
    restarts: Count,
    /// Turns of the loop.
    turns: Count,
    /// The longest that the shard took for one turn, or was woken too late, in nanoseconds; of several shards the longest of
    /// all. Meanwhile nothing was received or sent, and no timer fired. Turns after which the shard does not wait
    /// are looked at where they took a millisecond or more, waits where they lasted for 100 ms.
    longest_turn: Most,
    /// Times that was 200 ms or more: a callback took so long, something kept the thread from running, or the machine was
    /// suspended (Linux; found within 100 ms of running). The log says which, once a minute at most.
    stalls: Count,
    /// Receives that had to be armed again.
    rearmed: Count,
    /// Times the receive buffers ran out.
    buffers_exhausted: Count,
    /// Listeners that nothing comes by now, since the interface they are bound to is not there (Linux). Each is bound again
    /// when it returns.
    listeners_deaf: Count,
    /// Sockets of other processes that are bound where the server listens now, to its address or under its wildcard (Linux;
    /// one shard counts for all). Each may take flows, or change which shard gets which; the log names one. They are looked for
    /// every 10 s, less often where that takes more than 0.1 s, and counted when they are seen again 3 s later.
    foreign_sockets: Count,
}

impl Stats {
    /// How many of the shard's listeners nothing comes by now. For the one thread that follows the interfaces of a server.
    ///
    /// ```
    /// let stats = shardgram_core::Stats::default();
    /// stats.set_listeners_deaf(1);
    /// assert_eq!(stats.snapshot().listeners_deaf, 1);
    /// ```
    pub fn set_listeners_deaf(&self, listeners: u64) {
        self.listeners_deaf.set(listeners);
    }

    /// How many sockets of other processes are bound where the server listens now. For the one thread that looks.
    ///
    /// ```
    /// let stats = shardgram_core::Stats::default();
    /// stats.set_foreign_sockets(1);
    /// assert_eq!(stats.snapshot().foreign_sockets, 1);
    /// ```
    pub fn set_foreign_sockets(&self, sockets: u64) {
        self.foreign_sockets.set(sockets);
    }
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
        let outcomes = self.sum(Kind::Outcome) + refused;
        self.sum(Kind::Arrival).wrapping_sub(outcomes) as i64
    }

    /// Datagrams whose send failed.
    ///
    /// ```
    /// use shardgram_core::Snapshot;
    /// let snapshot = Snapshot { send_failed_full: 1, send_failed_refused: 2, ..Snapshot::default() };
    /// assert_eq!(snapshot.send_failed(), 3);
    /// ```
    pub fn send_failed(&self) -> u64 {
        self.sum(Kind::Failure)
    }

    /// Sends that the handler was refused, for whatever reason is counted. Nothing of them was queued.
    ///
    /// ```
    /// use shardgram_core::Snapshot;
    /// let snapshot = Snapshot { send_refused_full: 2, send_refused_too_long: 1, ..Snapshot::default() };
    /// assert_eq!(snapshot.send_refused(), 3);
    /// ```
    pub fn send_refused(&self) -> u64 {
        self.sum(Kind::Refusal)
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
            .saturating_sub(self.held_back + self.delivered + self.stateless + self.forwarded_out);
        write!(
            f,
            "received={} sent={} dropped={} kernel_dropped={} send_failed={} send_refused={} peers={} connected={}",
            self.received,
            self.sent(),
            dropped,
            self.kernel_dropped,
            self.send_failed(),
            self.send_refused(),
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
    fn the_longest_of_several_shards_is_no_sum() {
        let mut total = Snapshot { longest_turn: 3, stalls: 1, ..Snapshot::default() };
        total.add(&Snapshot { longest_turn: 5, stalls: 2, ..Snapshot::default() });
        total.add(&Snapshot { longest_turn: 4, ..Snapshot::default() });
        assert_eq!((total.longest_turn, total.stalls), (5, 3));
    }

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
