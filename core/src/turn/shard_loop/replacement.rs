//! What follows from a panic: a pause, and a handler that takes over.
//!
//! Between a panic and this no other callback runs, and the driver was told to stop handing over. Where the turn ends,
//! or after the pause:
//!
//! 1. What the failed handler had queued is sent.
//! 2. The factory makes a fresh handler on the same thread, and the failed one is dropped.
//! 3. Endpoints are closed, peers are taken out of all tables with their timers, and the other timers are dropped. With
//!    [`AfterPanic::KeepPeers`] peers stay, with their timers and the endpoints that they use.
//! 4. The fresh handler gets `on_start`, for it hears of nothing before it has started, and then `on_closed` for every
//!    peer that was closed meanwhile. Those it does not hear of because it fails in turn wait for the next one.
//!
//! Listeners and the mailbox stay. A fresh handler is asked `on_drain` anew.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use crate::api::handler::{AfterPanic, Handler};
use crate::contract::driver::{Driver, Turned, Wait};
use crate::turn::panics::{Callback, Cause, Next, drop_guarded};
use crate::types::ids::ShardInfo;

use crate::turn::shard_loop::{Ending, ShardLoop, Turn};

impl<D: Driver, H: Handler, F: Fn(ShardInfo) -> H> ShardLoop<D, H, F> {
    /// What follows from a panic, where the turn ends.
    #[cold]
    pub(super) fn after_panic(&mut self) -> Option<Ending> {
        match self.stage.panics.next {
            Next::End(panics) => {
                self.stage.lose_held();
                self.stage.panics.report_end(panics);
                let callback = self.stage.panics.last.name();
                return Some(Ending::TooManyRestarts { callback, panics });
            }
            Next::Pause(time) => {
                self.resting = Some(self.stage.io.time.now + time);
                self.report(false);
                return None;
            }
            Next::Replace => {}
        }
        // What the failed handler queued before it failed still leaves.
        if let Err(error) = self.send_and_wait(Wait::Poll) {
            return Some(Ending::Failed(error));
        }
        self.take_over();
        None
    }

    /// A turn of a shard that pauses: it sends what is queued and sleeps. What arrives waits in the sockets, and mail in
    /// the mailbox; who asks for statistics, a stop or a drain is heard.
    #[cold]
    pub(super) fn rest(&mut self, until: Instant) -> Turn {
        self.wake_neighbours();
        self.refresh();
        let deadline = self.control.draining();
        let over = |now: Instant| deadline.is_some_and(|deadline| deadline <= now);
        let ends = self.control.stopping() || over(self.driver.now());
        let wait = if ends { Wait::Poll } else { Wait::Rest(deadline.map_or(until, |at| at.min(until))) };
        match self.send_and_wait(wait) {
            Ok(Turned::Awake) => {}
            Ok(Turned::Asleep) => return Turn::Asleep,
            Err(error) => return Turn::Ended(Ending::Failed(error)),
        }
        let io = &mut self.stage.io;
        io.stats.turns.add(1);
        io.time = io.clock.at(self.driver.now());
        if !ends && io.time.now < until {
            return Turn::Ran;
        }
        self.resting = None;
        self.take_over();
        // A handler that fails again is not waited for by a shard that ends.
        match self.stage.panics.next {
            Next::End(_) if self.stage.panicked => self.after_panic().map_or(Turn::Ran, Turn::Ended),
            _ if self.control.stopping() => self.ended().map_or(Turn::Ran, Turn::Ended),
            _ if over(self.stage.io.time.now) => {
                self.finish();
                Turn::Ended(Ending::DrainDeadline)
            }
            Next::Pause(time) if self.stage.panicked => {
                self.resting = Some(self.stage.io.time.now + time);
                Turn::Ran
            }
            _ => Turn::Ran,
        }
    }

    /// Has a fresh handler take over, or the same one go on, as the handler wants it.
    fn take_over(&mut self) {
        if H::AFTER_PANIC == AfterPanic::ClosePeer && self.stage.started {
            self.stage.panicked = false;
            return self.stage.tell_of_orphans();
        }
        let keep = H::AFTER_PANIC != AfterPanic::Restart;
        match catch_unwind(AssertUnwindSafe(|| (self.make)(self.info))) {
            Ok(fresh) => drop_guarded(std::mem::replace(&mut self.stage.handler, fresh)),
            Err(payload) => {
                self.stage.started = false;
                return self.stage.failed(Cause::Own(Callback::Factory), payload);
            }
        }
        for socket in self.stage.io.sockets.endpoints.take_all(keep) {
            self.driver.close(socket);
            self.stage.io.sending.lose_waiting(socket);
            self.stage.drop_held(socket);
            self.stage.io.sockets.vacate(socket);
        }
        self.stage.io.sockets.groups.begin_anew(&mut self.driver);
        if !keep {
            self.stage.orphan_all_peers();
            self.stage.io.closing.clear();
        }
        self.stage.drop_timers();
        self.report(false);
        self.draining = None;
        self.stage.start();
        self.stage.tell_of_orphans();
    }
}
