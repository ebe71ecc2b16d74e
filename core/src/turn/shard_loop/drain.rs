//! The end of a shard: its drain, and its last sends.
//!
//! 1. Each shard calls `on_drain` once, which says whether it may end when all that arrived is handled, or when its
//!    peers are gone.
//! 2. A turn is quiet if it brought nothing, left nothing to do, and the handler's terms are met. After two quiet turns
//!    in a row the shard reports itself quiet. It takes the report back when something comes, since other shards may
//!    still send to it; for mail it does so before the mail counts as handled.
//! 3. The server has drained when all shards were quiet at one moment with no mail in flight ([`Control`]). Who finds
//!    it so sets a latch, and then it is so for every shard.
//! 4. A shard that finds the latch set receives no more and says so, but goes on handling mail until all have said it:
//!    one that received for others in its last turn may have handed something to a shard that knew already.
//! 5. Then, or when the deadline has come, each shard handles the mail that is left, closes its peers, sends what that
//!    queued, and takes in the failures of those sends. A stop does the same at once.
//!
//! A lookup of a name is not waited for: getaddrinfo(3) cannot be broken off.
//!
//! [`Control`]: crate::turn::control::Control

use std::time::Instant;

use crate::api::handler::{Drain, Handler};
use crate::contract::driver::{Driver, Wait};
use crate::turn::panics::{Callback, Cause};
use crate::types::error::CloseReason;
use crate::types::ids::ShardInfo;

use crate::turn::shard_loop::{Draining, Ending, QUIET_TURNS, ShardLoop};

/// How often a shard that ends sends what is queued so that there is room for more. What last callbacks ask for beyond
/// that is refused as far as it does not fit, so that the end is near however many peers hear of each other's.
const LAST_OUTBOXES: u32 = 16;

impl<D: Driver, H: Handler, F: Fn(ShardInfo) -> H> ShardLoop<D, H, F> {
    #[inline]
    pub(super) fn ended(&mut self) -> Option<Ending> {
        if self.control.stopping() {
            self.finish();
            return Some(Ending::Stopped);
        }
        self.control.draining().and_then(|deadline| self.drained(deadline))
    }

    /// Takes the drain a turn further.
    #[cold]
    fn drained(&mut self, deadline: Instant) -> Option<Ending> {
        let Some(draining) = self.draining else {
            let cause = Cause::Own(Callback::Drain);
            let takes = self.stage.call(cause, |handler, cx| handler.on_drain(cx, deadline));
            let takes = takes.unwrap_or(Drain::WhenIdle);
            self.draining = Some(Draining { takes, deadline, quiet: 0, reported: false });
            return None;
        };
        let quiet = self.quiet(draining);
        self.draining = Some(Draining { quiet, ..draining });
        self.report(quiet >= QUIET_TURNS);
        let shards = self.stage.io.shards();
        let drained = self.control.all_drained(shards, self.mailbox.in_flight());
        if drained && !std::mem::replace(&mut self.deaf, true) {
            self.control.receives_no_more();
        }
        // Others may have received something since, and forwarded it to this shard.
        let over = drained && self.control.all_receive_no_more(shards);
        if !over && self.stage.io.time.now < deadline {
            return None;
        }
        self.finish();
        Some(if drained { Ending::Drained } else { Ending::DrainDeadline })
    }

    /// For how many turns nothing has come and nothing was left to do.
    fn quiet(&self, draining: Draining) -> u32 {
        let io = &self.stage.io;
        let idle = self.stage.arrivals == 0
            && io.sending.outbox.is_empty()
            && io.sending.backlog.is_empty()
            && !io.connected.has_promotions()
            && self.stage.gone.is_empty()
            && self.stage.held.is_empty()
            && io.post.wakes.is_empty()
            && !io.sockets.endpoints.has_requests()
            && !io.dials.has_work()
            && !io.dials.has_answers()
            && self.mailbox.is_empty()
            && self.driver.is_settled();
        if idle && self.may_end(draining) { draining.quiet.saturating_add(1) } else { 0 }
    }

    /// Tells the other shards, when it changes, whether this one has drained.
    pub(super) fn report(&mut self, quiet: bool) {
        if let Some(draining) = &mut self.draining
            && draining.reported != quiet
        {
            draining.reported = quiet;
            self.control.report_quiet(quiet);
        }
    }

    /// Whether the handler's terms for the drain are met, as far as its peers go.
    pub(super) fn may_end(&self, draining: Draining) -> bool {
        draining.takes == Drain::WhenIdle || self.stage.peers.is_empty()
    }

    /// Where the shard takes no further turn: sends what is queued if that leaves little room for more, so often at most,
    /// and hands over what waits for it.
    fn make_room(&mut self, often: &mut u32) {
        while self.stage.io.sending.outbox.is_crowded() || self.stage.held.has_arrivals() {
            if self.stage.io.sending.outbox.is_crowded() {
                match often.checked_sub(1) {
                    Some(left) => {
                        *often = left;
                        self.send_the_last();
                    }
                    None => self.stage.io.sending.outbox.open_the_gates(),
                }
            }
            if self.stage.panicked {
                return self.stage.lose_held();
            }
            self.stage.hand_over_held();
        }
    }

    fn send_the_last(&mut self) {
        if let Err(error) = self.send_and_wait(Wait::Poll) {
            tracing::warn!(%error, "the last sends of a draining shard failed");
        }
    }

    /// Handles the mail that is left, closes what is open, and sends what that queued.
    pub(super) fn finish(&mut self) {
        let mut often = LAST_OUTBOXES;
        self.make_room(&mut often);
        // Only what is there now: handling it may bring more, without end.
        for _ in 0..self.mailbox.len() {
            let Some(mail) = self.mailbox.take_any() else { break };
            self.stage.mail(mail);
            self.mailbox.handled();
            self.make_room(&mut often);
        }
        // A peer that is opened while others are closed would never be told of its own end.
        self.stage.io.ending = true;
        for slot in 0..self.stage.peers.extent() {
            if let Some(peer) = self.stage.peers.in_slot(slot) {
                self.stage.close(peer, CloseReason::Drained);
                self.make_room(&mut often);
            }
        }
        self.stage.settle();
        self.send_the_last();
        // A budget of nought hands over failures only, so the sends just made are accounted for.
        self.driver.receive(0, 1, &mut self.stage);
        // What could not leave in time has failed.
        self.stage.io.sending.lose_all();
        self.stage.io.stats.kernel_dropped.set(self.driver.kernel_dropped());
    }
}
