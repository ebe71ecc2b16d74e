//! A turn: how much work of each kind it does, and for how long it may.

use crate::config::Config;

impl Config {
    /// Receives handled in a turn before sends leave; a train received whole is one. As many that other shards have
    /// forwarded are handled beside them. Default 64, range 1 to 65,536. More is cheaper per datagram, fewer is kinder to the tail of the latency.
    #[must_use]
    pub fn turn_budget(mut self, turn_budget: u32) -> Self {
        self.settings.turn_budget = turn_budget;
        self
    }

    /// Microseconds that each kind of work may take of a turn, beside its budget: datagrams, mail, dialed names, timers,
    /// and ends of peers. What is left waits for the next turn, so a handler of 100 us has sends, timers and other
    /// sockets wait for five datagrams and not for 64. Default 500, range 10 to 1,000,000. Less is kinder to timers and
    /// to the tail of the latency, more is cheaper where handlers are slow; those that take less than 5 us a datagram
    /// see no difference. Datagrams of a train count one by one, unless the handler takes it whole; where they are slow the
    /// rest of the train waits, which costs a copy of it a turn. A callback is never interrupted, and one that is slower
    /// than those before it is noticed after 16 of its kind at most, or two trains, so a turn may take longer by that.
    #[must_use]
    pub fn turn_time_us(mut self, turn_time_us: u32) -> Self {
        self.settings.turn_time_us = turn_time_us;
        self
    }

    /// Timers and messages handled in a turn, each. Default 256, range 1 to 65,536.
    #[must_use]
    pub fn event_budget(mut self, event_budget: u32) -> Self {
        self.settings.event_budget = event_budget;
        self
    }

    /// Microseconds that a shard gives peers to send more, on Linux: with io_uring from 6.12 on, and with mio. Default 100,
    /// range 0 to 10,000; 0 turns it off. When a peer has sent several datagrams in a row, the shard's next sleep lasts
    /// until this time is over and something has come; with io_uring until 32 things have, if that is earlier. What comes
    /// then goes back, and is handled, in longer trains, for half of the processor time; it may be handled later by this
    /// time at most (with mio by 50 us more, timer slack in prctl(2)). Peers that wait for an answer before they send more
    /// are not kept waiting.
    #[must_use]
    pub fn gather_us(mut self, gather_us: u32) -> Self {
        self.settings.gather_us = gather_us;
        self
    }
}
