//! What ends a wait of a shard beside arrivals: wake-ups by other threads, and the timer that outlasts waits.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::engine::Engine;
use crate::ring::{NoRoom, Ring};
use crate::user_data::{Kind, UserData};
use crate::wake::Fleet;

/// Deadlines farther away than this share a timer.
const COARSE: Duration = Duration::from_millis(20);

/// How a shard is woken, and wakes others.
#[derive(Debug)]
pub(crate) struct Wakeups {
    shard: u16,
    fleet: Arc<Fleet>,
    event_armed: bool,
    /// When the one timer that outlasts waits ends one.
    coarse_timer: Option<Instant>,
    /// A wake-up, or room in a full socket, came out of the ring in this turn, or something could not be queued and is
    /// to be tried again: there is nothing to wait for.
    woken: bool,
}

impl Wakeups {
    /// Those of this shard.
    pub(crate) fn new(shard: u16, fleet: Arc<Fleet>) -> Self {
        Self { shard, fleet, event_armed: false, coarse_timer: None, woken: false }
    }

    /// Others may wake this shard by its ring.
    ///
    /// # Errors
    /// EMFILE.
    pub(crate) fn join(&self, ring: &Ring) -> io::Result<()> {
        self.fleet.joined(self.shard, ring.as_fd())
    }

    /// Nobody may any more.
    pub(crate) fn leave(&self) {
        self.fleet.left(self.shard);
    }

    pub(crate) fn begin_turn(&mut self) {
        self.woken = false;
    }

    /// Something woke the shard, or could not be queued, and nothing tells when it can be: this turn does not wait.
    pub(crate) fn skip_wait(&mut self) {
        self.woken = true;
    }

    /// Whether this turn is not to wait.
    pub(crate) fn skips_wait(&self) -> bool {
        self.woken
    }

    /// Has the ring read the event descriptor, by which threads without a ring wake this shard.
    #[inline]
    pub(crate) fn arm(&mut self, engine: &mut Engine) {
        if !self.event_armed {
            self.read_event(engine);
        }
    }

    fn read_event(&mut self, engine: &mut Engine) {
        if let Some(event) = self.fleet.event(self.shard) {
            let Engine { ring, operands, .. } = engine;
            self.event_armed = operands.push_event_read(ring, event.fd()).is_ok();
            self.woken |= !self.event_armed;
        }
    }

    /// How long a wait until `deadline` may last, unless the coarse timer ends it. A timer that is set and
    /// taken back with every wait costs more than a percent of a datagram; far deadlines, which mostly
    /// do not come near, share one that stays.
    pub(crate) fn timeout(&mut self, engine: &mut Engine, deadline: Option<Instant>) -> Option<Duration> {
        let at = deadline?;
        if self.coarse_timer.is_some_and(|set| set <= at) {
            return None;
        }
        let left = at.saturating_duration_since(Instant::now());
        if self.coarse_timer.is_some()
            || left <= COARSE
            || engine.operands.push_timer(&mut engine.ring, left) == Err(NoRoom)
        {
            return Some(left);
        }
        self.coarse_timer = Some(at);
        None
    }

    /// Wakes another shard.
    pub(crate) fn wake(&self, engine: &mut Engine, shard: u16) {
        let sent = match self.fleet.ring(shard) {
            Some(ring) => engine.operands.push_wake(&mut engine.ring, ring, shard).is_ok(),
            None => false,
        };
        if !sent && let Some(event) = self.fleet.event(shard) {
            event.ring();
        }
    }

    /// One of the operations completed by which shards wake each other and themselves.
    pub(crate) fn completed(&mut self, name: UserData, result: i32) {
        match name.kind {
            Kind::Event => {
                self.event_armed = false;
                self.woken = true;
            }
            Kind::Wake => self.woken = true,
            Kind::Timer => self.coarse_timer = None,
            Kind::WakeFailed if result < 0 => {
                if let Some(event) = self.fleet.event(name.index as u16) {
                    event.ring();
                }
            }
            _ => {}
        }
    }

    /// Everything that was armed was cancelled.
    #[cold]
    pub(crate) fn begin_anew(&mut self) {
        self.event_armed = false;
        self.coarse_timer = None;
        self.woken = true;
    }
}
