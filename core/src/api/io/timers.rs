//! Timers.

use std::time::Instant;

use crate::api::handler::Handler;
use crate::api::io::Io;
use crate::time::timers::TimerId;
use crate::types::error::Full;
use crate::types::ids::PeerId;

/// Timers.
impl<H: Handler> Io<H> {
    /// Sets a timer. It fires in the first turn at or after `at`, never before, and never in the turn in
    /// which it is set: a time that has passed asks for the next turn.
    ///
    /// # Errors
    /// Gives the value back when [`crate::Config::max_timers`] are set.
    ///
    /// ```
    /// use shardgram_core::{Full, Handler, Io, TimerId};
    /// fn save_soon<H: Handler<Timer = u32>>(io: &mut Io<H>, what: u32) -> Option<TimerId> {
    ///     let at = io.now() + std::time::Duration::from_millis(100);
    ///     io.set_timer(at, what).inspect_err(|Full(what)| eprintln!("{what} will not be saved")).ok()
    /// }
    /// ```
    pub fn set_timer(&mut self, at: Instant, timer: H::Timer) -> Result<TimerId, Full<H::Timer>> {
        self.timers.set(self.time.now, at, timer, None).map_err(Full)
    }

    /// Sets a timer that goes with a peer: it is dropped when the peer is closed. It fires as one of
    /// [`Io::set_timer`] does, never in the turn in which it is set.
    ///
    /// # Errors
    /// Gives the value back when the peer is gone or [`crate::Config::max_timers`] are set.
    ///
    /// ```
    /// use shardgram_core::{Handler, Io, PeerId, TimerId};
    /// enum Wake { Resend(PeerId) }
    /// fn resend_later<H: Handler<Timer = Wake>>(io: &mut Io<H>, peer: PeerId) -> Option<TimerId> {
    ///     let at = io.now() + std::time::Duration::from_millis(200);
    ///     io.set_peer_timer(peer, at, Wake::Resend(peer)).ok()
    /// }
    /// ```
    pub fn set_peer_timer(
        &mut self,
        peer: PeerId,
        at: Instant,
        timer: H::Timer,
    ) -> Result<TimerId, Full<H::Timer>> {
        let Some(route) = self.routes.get_mut(peer) else { return Err(Full(timer)) };
        self.timers.set(self.time.now, at, timer, Some((peer.slot(), &mut route.timers))).map_err(Full)
    }

    /// Takes a timer back. `None` if it fired, was cancelled, or went with its peer.
    ///
    /// ```
    /// use shardgram_core::{Handler, Io, TimerId};
    /// fn acknowledged<H: Handler>(io: &mut Io<H>, resend: TimerId) {
    ///     if io.cancel(resend).is_none() {
    ///         println!("it was sent again, and need not have been");
    ///     }
    /// }
    /// ```
    pub fn cancel(&mut self, timer: TimerId) -> Option<H::Timer> {
        let owner = self.timers.owner(timer).and_then(|slot| self.routes.in_slot_mut(slot));
        self.timers.cancel(timer, owner.map(|route| &mut route.timers))
    }
}
