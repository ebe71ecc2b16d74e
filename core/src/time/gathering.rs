//! When a shard that sleeps should not be woken by the first thing that comes.
//!
//! A client that sends one datagram at a time, many in a row, is slower than a turn: each of its datagrams would wake the
//! shard, and go back alone. Given a little time it sends many more, which cost one wake-up and leave as one train
//! (64 flows of 16 in flight: half of the processor time for each datagram, and no longer round trips). But a client that
//! waits for an answer sends nothing meanwhile, and one that sends trains has sent many already: for them the time
//! would be lost. So it is given after a turn in which datagrams of one peer came in a row, one by one.

use std::net::SocketAddr;
use std::time::Duration;

/// Decides it, for a driver that can wait so briefly: [`crate::Config::gather_us`].
///
/// ```
/// use std::time::Duration;
/// use shardgram_core::gathering::Gathering;
/// let mut gathering = Gathering::new(Some(Duration::from_micros(100)));
/// let peer = ([127, 0, 0, 1], 9_000).into();
/// gathering.came(peer);
/// assert_eq!(gathering.wait(), None); // one datagram: its sender may wait for the answer
/// gathering.came(peer);
/// gathering.came(peer);
/// assert_eq!(gathering.wait(), Some(Duration::from_micros(100)));
/// ```
#[derive(Debug)]
pub struct Gathering {
    patience: Option<Duration>,
    last: Option<SocketAddr>,
    in_a_row: bool,
}

impl Gathering {
    /// For so long; `None` for not at all.
    ///
    /// ```
    /// use shardgram_core::{Config, gathering::Gathering};
    /// let gathering = Gathering::new(Config::new().settings().gather_time());
    /// # drop(gathering);
    /// ```
    pub fn new(patience: Option<Duration>) -> Self {
        Self { patience, last: None, in_a_row: false }
    }

    /// A datagram came by itself, and not in a train.
    ///
    /// ```
    /// use shardgram_core::{driver::Arrival, gathering::Gathering};
    /// fn saw(gathering: &mut Gathering, arrival: &Arrival<'_>) {
    ///     if arrival.segment == 0 {
    ///         gathering.came(arrival.remote);
    ///     }
    /// }
    /// ```
    #[inline]
    pub fn came(&mut self, from: SocketAddr) {
        self.in_a_row |= self.last == Some(from);
        self.last = Some(from);
    }

    /// How long the coming wait may be for many things rather than one. What came before is forgotten.
    ///
    /// ```
    /// use shardgram_core::gathering::Gathering;
    /// fn before_sleep(gathering: &mut Gathering) {
    ///     if let Some(time) = gathering.wait() {
    ///         std::thread::sleep(time);
    ///     }
    /// }
    /// ```
    #[inline]
    pub fn wait(&mut self) -> Option<Duration> {
        self.last = None;
        if std::mem::take(&mut self.in_a_row) { self.patience } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_came_in_a_row_is_waited_for() {
        let some = Some(Duration::from_micros(50));
        let mut gathering = Gathering::new(some);
        let from = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let mut turn = |ports: &[u16]| {
            ports.iter().for_each(|port| gathering.came(from(*port)));
            gathering.wait()
        };
        assert_eq!([turn(&[]), turn(&[1]), turn(&[1]), turn(&[1, 2, 1])], [None; 4]);
        assert_eq!([turn(&[1, 2, 2, 3]), turn(&[3]), turn(&[3, 3])], [some, None, some]);
        let mut never = Gathering::new(None);
        (0..2).for_each(|_| never.came(from(1)));
        assert_eq!(never.wait(), None);
    }
}
