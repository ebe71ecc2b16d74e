//! What became of all datagrams, in numbers.

/// What became of the datagrams the network was given. A train counts as the datagrams it is made of.
///
/// ```
/// let sim = shardgram_sim::Sim::new(1);
/// assert_eq!(sim.counts().unaccounted(), 0);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[non_exhaustive]
pub struct Counts {
    /// Given to the network.
    pub sent: u64,
    /// Made by it, in addition.
    pub duplicated: u64,
    /// Lost by it.
    pub lost: u64,
    /// Lost because the queue of a link was full ([`crate::LinkConfig::bandwidth`]).
    pub tail_dropped: u64,
    /// Not let pass by a translator ([`crate::Sim::nat`]).
    pub filtered: u64,
    /// Held back by it, so that others overtook them.
    pub held_back: u64,
    /// On their way.
    pub in_flight: u64,
    /// Arrived where no socket is bound.
    pub unclaimed: u64,
    /// Arrived at a socket whose receive buffer was full.
    pub overflowed: u64,
    /// Arrived in a socket.
    pub delivered: u64,
    /// Of those delivered: still unread when the socket was closed.
    pub discarded: u64,
    /// ICMP errors that hosts and routers have sent. They are no datagrams.
    pub errors_sent: u64,
}

impl Counts {
    /// Datagrams that are in none of the outcomes: always nought.
    pub fn unaccounted(&self) -> i64 {
        let made = self.sent + self.duplicated;
        let lost = self.lost + self.tail_dropped + self.filtered;
        let outcomes = lost + self.in_flight + self.unclaimed + self.overflowed + self.delivered;
        made.wrapping_sub(outcomes) as i64
    }
}
