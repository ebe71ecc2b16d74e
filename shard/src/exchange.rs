//! Entering the kernel: what is queued is submitted, and what has completed is taken out and sorted by whom it is for.
//!
//! When the kernel takes nothing for too long the sends of a turn are taken back ([`Strain`] says how long that is): they
//! wait in the backlog as those of a full socket do, or have failed, and the turn goes on.
//!
//! The invariant: no send is left in the submission queue when [`Exchange::submit_all`] returns without an error. The
//! kernel has taken it, and then is done with it, or its entry was overwritten. Everything else that may be left there
//! points to memory that lives as long as the ring. After an error nothing is submitted any more.

use std::collections::HashSet;
use std::io;
use std::time::{Duration, Instant};

use io_uring::cqueue::more;

use crate::arrived::{Arrived, Completed};
use crate::engine::Engine;
use crate::errno::NOT_TAKEN;
use crate::faults;
use crate::sockets::Sockets;
use crate::strain::Strain;
use crate::user_data::{Kind, UserData};
use crate::wakeups::Wakeups;

/// Submissions without a rest, at most, while something moves, and while nothing does.
const TRIES: u32 = 10_000;
const IDLE_TRIES: u32 = 16;

/// What became of sends, for whoever queued them.
#[derive(Debug, Default)]
pub(crate) struct Outcomes {
    /// Sends of trains that failed: by their names, with the error.
    pub(crate) failed: Vec<(UserData, i32)>,
    /// How the send of something that had waited failed.
    pub(crate) late: Option<i32>,
    /// Places of sockets that have room again, and an error to tell.
    pub(crate) erring: Vec<u32>,
}

/// What goes into the kernel, and what comes out of it.
#[derive(Debug)]
pub(crate) struct Exchange {
    // Dropped first: from then on no socket is in use.
    pub(crate) engine: Engine,
    /// Receives and watches that wait to be handed over.
    pub(crate) arrived: Arrived,
    pub(crate) wakeups: Wakeups,
    pub(crate) outcomes: Outcomes,
    /// How hard the ring is to be entered.
    strain: Strain,
}

impl Exchange {
    pub(crate) fn new(engine: Engine, arrived: Arrived, wakeups: Wakeups) -> Self {
        Self { engine, arrived, wakeups, outcomes: Outcomes::default(), strain: Strain::default() }
    }

    #[inline]
    pub(crate) fn begin_turn(&mut self) {
        self.arrived.sort_mixed();
        self.strain.begin_turn();
        self.wakeups.begin_turn();
    }

    /// Has the ring receive by sockets that need it, and wait for wake-ups.
    #[inline]
    pub(crate) fn arm(&mut self, sockets: &mut Sockets) {
        self.wakeups.arm(&mut self.engine);
        sockets.arm(&mut self.engine, self.arrived.len());
    }

    /// Takes completions out of the queue: failures of sends are noted with their names, receives wait to be handed over.
    /// Whether there were any.
    fn reap(&mut self, sockets: &mut Sockets) -> bool {
        let Self { engine, arrived, wakeups, outcomes, .. } = self;
        let mut any = false;
        for entry in engine.ring.completions() {
            any = true;
            let Some(data) = UserData::from_bits(entry.user_data()) else { continue };
            if faults::loses() {
                continue;
            }
            match data.kind {
                Kind::Receive | Kind::Watch => {
                    let (result, flags) = (entry.result(), entry.flags());
                    if !more(flags) {
                        sockets.ended(data);
                    }
                    arrived.push(Completed { data, result, flags });
                }
                Kind::Send if entry.result() < 0 => outcomes.failed.push((data, -entry.result())),
                Kind::Late => outcomes.late = Some(-entry.result()),
                Kind::Writable => {
                    if sockets.watch_ended(data) {
                        wakeups.skip_wait();
                        if entry.result() & i32::from(libc::POLLERR) != 0 {
                            outcomes.erring.push(data.index);
                        }
                    }
                }
                Kind::Event | Kind::Wake | Kind::Timer | Kind::WakeFailed => {
                    wakeups.completed(data, entry.result());
                }
                Kind::Send | Kind::Cancel => {}
            }
        }
        for (bits, result) in faults::completions() {
            match UserData::from_bits(bits) {
                Some(data) if data.kind == Kind::Late => outcomes.late = Some(-result),
                data => outcomes.failed.extend(data.map(|data| (data, -result))),
            }
        }
        any
    }

    /// Submits until the kernel has taken every entry, so that every send is done, and has told of every one that
    /// failed; or, when it does not for too long, takes the sends back.
    pub(crate) fn submit_all(&mut self, sockets: &mut Sockets) -> io::Result<()> {
        let (mut tries, mut queued) = (0, usize::MAX);
        loop {
            let entered = self.engine.ring.submit()?;
            let came = self.reap(sockets);
            self.strain.note(entered);
            if self.engine.ring.is_submitted() {
                self.engine.operands.submitted();
                self.strain.over();
                return Ok(());
            }
            tries += 1;
            let left = self.engine.ring.queued();
            let moves = came || left < std::mem::replace(&mut queued, left);
            if tries < if moves { TRIES } else { IDLE_TRIES } {
                continue;
            }
            tries = 0;
            if !self.strain.rest() {
                self.take_back();
                return Ok(());
            }
        }
    }

    /// Submits what is queued and waits until something completes or the deadline has come, with `patience` for as much as
    /// comes in that time; whether the kernel has taken everything.
    #[inline]
    pub(crate) fn wait(
        &mut self,
        sockets: &mut Sockets,
        deadline: Option<Instant>,
        patience: Option<Duration>,
    ) -> io::Result<bool> {
        let timeout = self.wakeups.timeout(&mut self.engine, deadline);
        let entered = match patience {
            Some(patience) => self.engine.ring.submit_and_gather(timeout, patience)?,
            None => self.engine.ring.submit_and_wait(timeout)?,
        };
        let came = self.reap(sockets);
        self.strain.waited(entered, came);
        let submitted = self.engine.ring.is_submitted();
        if submitted {
            self.engine.operands.submitted();
        }
        Ok(submitted)
    }

    /// Takes the sends back that the kernel has not taken.
    #[cold]
    fn take_back(&mut self) {
        let Outcomes { failed, late, .. } = &mut self.outcomes;
        self.engine.ring.take_back(|bits| match UserData::from_bits(bits) {
            Some(name) if name.kind == Kind::Send => {
                failed.push((name, NOT_TAKEN));
                true
            }
            Some(name) if name.kind == Kind::Late => {
                *late = Some(NOT_TAKEN);
                true
            }
            _ => false,
        });
        self.engine.operands.submitted();
    }

    /// Makes good that the kernel dropped completions, of which nobody knows what they were: everything is cancelled
    /// and begins anew. What is lost are the datagrams that the dropped completions would have brought, which
    /// nobody counts, and errors of sends.
    #[cold]
    pub(crate) fn begin_anew(&mut self, sockets: &mut Sockets) -> io::Result<()> {
        // What is still queued would be outstanding later, beside what is armed anew.
        self.submit_all(sockets)?;
        if self.engine.ring.queued() > 0 {
            return Ok(());
        }
        let cancelled = self.engine.ring.cancel_all();
        self.reap(sockets);
        if let Err(error) = cancelled {
            // What is armed is not known. It stays noted, so it is tried again in the next turn, after a rest.
            tracing::debug!(%error, "what is outstanding could not be cancelled");
            self.strain.rest();
            return Ok(());
        }
        if let Err(error) = self.renew_buffers() {
            // It stays noted, so it is tried again in the next turn, after a rest.
            tracing::debug!(%error, "the receive buffers could not be given to the kernel anew");
            self.strain.rest();
            return Ok(());
        }
        self.make_up_ends(sockets);
        sockets.forget_watches();
        self.wakeups.begin_anew();
        self.engine.ring.lost = false;
        Ok(())
    }

    /// Gives the kernel its buffers anew, but those that it has filled.
    fn renew_buffers(&mut self) -> io::Result<()> {
        let filled: HashSet<_> = self.arrived.iter().filter_map(Completed::buffer).collect();
        let Engine { ring, buffers, .. } = &mut self.engine;
        buffers.renew(ring, |id| filled.contains(&id))
    }

    /// For every end that was lost one is made up, and everybody does what is to be done at an end.
    fn make_up_ends(&mut self, sockets: &Sockets) {
        let ends = self.arrived.iter().filter(|done| done.is_last());
        let ended: HashSet<_> = ends.map(Completed::name).collect();
        for name in sockets.armed().filter(|name| !ended.contains(&name.bits())) {
            self.arrived.push(Completed::cancelled(name));
        }
    }
}
