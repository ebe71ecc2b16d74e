//! One turn of a shard, written once for every driver.
//!
//! A turn carries out what the last one queued and waits; then come datagrams, messages, timers and the
//! search for idle peers, each under a budget; then [`Handler::on_turn_end`]. What they queue leaves with the
//! next turn. After a panic a fresh handler takes over where the turn ends, or after a pause, in which nothing is taken
//! from sockets and mailbox: see [`Handler`].
//!
//! When the outbox is so full that another callback might find no room, no other begins in that turn, whatever is
//! left; the next turn begins with the kind of callbacks that comes after the one that was called last. So each
//! kind has its turn with an empty outbox, mail is taken out of the mailbox however much others queue, and no two
//! shards can wait for each other: a shard waits for the kernel alone, which takes what it takes at once.

mod drain;
mod replacement;
mod requests;
mod stalls;
mod waiting;
mod work;

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::api::handler::{Drain, Handler};
use crate::api::io::Io;
use crate::config::{Config, WaitPolicy};
use crate::contract::capability::Capability;
use crate::contract::driver::{Driver, Turned, Wait};
use crate::messages::mailbox::Mailbox;
use crate::peers::idle::IdleSweep;
use crate::peers::states::Peers;
use crate::send::sending::Sending;
use crate::time::moment::Moment;
use crate::time::pace::Pace;
use crate::time::silence::Silence;
use crate::turn::control::Control;
use crate::turn::dispatch::Dispatch;
use crate::turn::hearing::Hearing;
use crate::turn::panics::{Callback, Cause, Panics};
pub use crate::turn::setup::{Secrets, Setup};
use crate::types::datagram::SocketId;
use crate::types::ids::ShardInfo;

use stalls::Stalls;

/// Quiet turns in a row that make a shard idle: one may fall between an arrival and its completion.
const QUIET_TURNS: u32 = 2;

/// For how long it is put off at most to give an attempt up for silence, where the shard does not come to hand over all that
/// has arrived.
const DIALS_PUT_OFF: Duration = Duration::from_secs(1);

/// How a shard ended.
///
/// ```
/// use shardgram_core::shard_loop::Ending;
/// fn ended_well(ending: &Ending) -> bool {
///     matches!(ending, Ending::Drained | Ending::Stopped)
/// }
/// assert!(!ended_well(&Ending::DrainDeadline));
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum Ending {
    /// It drained.
    Drained,
    /// The deadline of the drain came first.
    DrainDeadline,
    /// It was told to stop.
    Stopped,
    /// Its handler panicked more often than it may ([`Config::max_restarts_per_minute`]), or before it had started.
    TooManyRestarts {
        /// What panicked last: `on_datagram`, say.
        callback: &'static str,
        /// How many panics there were within a minute.
        panics: u32,
    },
    /// The driver failed.
    Failed(io::Error),
}

/// What one turn came to.
///
/// ```
/// use shardgram_core::{Handler, ShardInfo, driver::Driver, shard_loop::{ShardLoop, Turn}};
/// fn settle<D: Driver, H: Handler, F: Fn(ShardInfo) -> H>(shard: &mut ShardLoop<D, H, F>) {
///     while let Turn::Ran = shard.turn() {} // until it sleeps or has ended
/// }
/// ```
#[derive(Debug)]
pub enum Turn {
    /// It ran; there may be more to do.
    Ran,
    /// There is nothing to do and the driver cannot block: see [`Turned::Asleep`]. No callback was called.
    Asleep,
    /// It was the last.
    Ended(Ending),
}

/// What could not be done that a handler asked for.
#[derive(Clone, Copy)]
enum Failure {
    /// An endpoint could not be opened, for this error of the system.
    Endpoint(SocketId, i32),
    /// The next group of those that were not joined or left.
    Group,
}

/// What is left to do of what handlers asked for.
#[derive(Default)]
struct Requested {
    /// Endpoints to close.
    closes: Vec<SocketId>,
    failures: Vec<Failure>,
}

/// How much of each kind of work a turn does, as far as time goes.
struct Paces {
    arrivals: Pace,
    mail: Pace,
    dials: Pace,
    timers: Pace,
    closing: Pace,
}

impl Paces {
    fn new(share: Duration) -> Self {
        let [arrivals, mail, dials, timers, closing] = [(); 5].map(|()| Pace::new(share));
        Self { arrivals, mail, dials, timers, closing }
    }
}

/// What a turn calls under budgets, in order. `on_turn_end` comes after all of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Writable,
    Arrivals,
    Mail,
    Dials,
    Timers,
    Walks,
}

impl Kind {
    const ALL: [Self; 6] =
        [Self::Writable, Self::Arrivals, Self::Mail, Self::Dials, Self::Timers, Self::Walks];

    fn next(self) -> Self {
        Self::ALL[(self as usize + 1) % Self::ALL.len()]
    }
}

#[derive(Clone, Copy)]
struct Draining {
    takes: Drain,
    deadline: Instant,
    quiet: u32,
    reported: bool,
}

/// A shard: a driver, a handler, and the loop between them.
///
/// See the [documentation of drivers](crate::driver) for one that runs to its end.
///
/// ```
/// use shardgram_core::{Config, Handler, ShardInfo, driver::Driver};
/// use shardgram_core::shard_loop::{Ending, Setup, ShardLoop};
/// fn serve<D: Driver, H: Handler + Default>(driver: D, setup: Setup<H::Message>) -> Ending {
///     match ShardLoop::new(driver, setup, &Config::new(), |_| H::default()) {
///         Ok(shard) => shard.run(),
///         Err(ending) => ending,
///     }
/// }
/// ```
pub struct ShardLoop<D, H: Handler, F> {
    // Dropped first: it stops the kernel from writing to what the rest owns.
    driver: D,
    stage: Dispatch<H>,
    make: F,
    info: ShardInfo,
    mailbox: Mailbox<H::Message>,
    control: Arc<Control>,
    budget: usize,
    event_budget: u32,
    paces: Paces,
    idle: Option<IdleSweep>,
    dials: Silence,
    hearing: Hearing,
    stalls: Stalls,
    /// The time of the turn before.
    before: Moment,
    /// In this turn the driver was asked for arrivals until it had no more.
    handed_over_all: bool,
    /// No handler is called before this, after a panic that nobody outside brought about.
    resting: Option<Instant>,
    draining: Option<Draining>,
    /// All shards have drained, and this one receives no more.
    deaf: bool,
    refreshed: u64,
    /// What of [`Control::asked`] was done.
    asked: u64,
    policy: WaitPolicy,
    /// When something last happened, as far as a shard that spins wants to know.
    last_active: Instant,
    /// What the next turn begins with: the first kind, unless the outbox was crowded.
    first: Kind,
    /// The last look at the mailbox left something in it.
    mail_left: bool,
}

impl<D, H: Handler, F> std::fmt::Debug for ShardLoop<D, H, F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ShardLoop").field("info", &self.info).finish_non_exhaustive()
    }
}

impl<D: Driver, H: Handler, F: Fn(ShardInfo) -> H> ShardLoop<D, H, F> {
    /// A shard ready to run; its handler is made here, on the thread that will run it, and started.
    ///
    /// # Errors
    /// If the factory or `on_start` panics.
    ///
    /// ```
    /// # use shardgram_core::{Config, Handler, ShardInfo, driver::Driver};
    /// # use shardgram_core::shard_loop::{Ending, Setup, ShardLoop};
    /// fn starts<D: Driver, H: Handler + From<u16>>(driver: D, setup: Setup<H::Message>) -> bool {
    ///     ShardLoop::new(driver, setup, &Config::new(), |info| H::from(info.shard)).is_ok()
    /// }
    /// ```
    pub fn new(driver: D, setup: Setup<H::Message>, config: &Config, make: F) -> Result<Self, Ending> {
        let (now, config) = (driver.now(), config.settings());
        let (info, table, blocks) = (setup.info, setup.secrets.table, driver.capabilities().blocks);
        let steered = driver.capabilities().has(Capability::SteeredListeners);
        let (io, mailbox, control) = setup.into_parts(config, driver.capabilities(), now);
        let mut panics = Box::new(Panics::new(info.shard, table, config.max_restarts_per_minute));
        let not_started =
            |callback: Callback| Ending::TooManyRestarts { callback: callback.name(), panics: 1 };
        let handler = catch_unwind(AssertUnwindSafe(|| make(info))).map_err(|payload| {
            panics.not_started(Callback::Factory, now, payload);
            not_started(Callback::Factory)
        })?;
        let peers = Peers::new(info.shard, config.max_peers as usize);
        let stalls = Stalls::new(info.shard, blocks, Arc::clone(&io.stats), driver.suspended());
        let mut stage = Dispatch::new(handler, peers, io, panics);
        stage.others_receive = info.shards > 1 && !steered;
        stage.start();
        if !stage.started {
            return Err(not_started(Callback::Start));
        }
        // What the factory and `on_start` took is no turn's.
        stage.io.time = stage.io.clock.at(driver.now());
        let before = stage.io.time;
        Ok(Self {
            driver,
            stage,
            make,
            info,
            mailbox,
            control,
            budget: config.turn_budget as usize,
            event_budget: config.event_budget,
            paces: Paces::new(config.turn_time()),
            idle: config.idle_timeout.map(|timeout| IdleSweep::new(timeout, now)),
            dials: Silence::new(DIALS_PUT_OFF),
            hearing: Hearing::default(),
            stalls,
            before,
            handed_over_all: false,
            resting: None,
            draining: None,
            deaf: false,
            refreshed: 0,
            asked: 0,
            policy: if blocks { config.wait } else { WaitPolicy::Block },
            last_active: now,
            first: Kind::Writable,
            mail_left: false,
        })
    }

    /// Runs until it ends.
    ///
    /// ```
    /// # use shardgram_core::{Handler, ShardInfo, driver::Driver, shard_loop::ShardLoop};
    /// fn serve<D: Driver, H: Handler, F: Fn(ShardInfo) -> H>(shard: ShardLoop<D, H, F>) {
    ///     let ending = shard.run();
    ///     println!("{ending:?}");
    /// }
    /// ```
    pub fn run(mut self) -> Ending {
        loop {
            if let Turn::Ended(ending) = self.turn() {
                return ending;
            }
        }
    }

    /// One turn.
    ///
    /// ```
    /// # use shardgram_core::{Handler, ShardInfo, driver::Driver};
    /// # use shardgram_core::shard_loop::{Ending, ShardLoop, Turn};
    /// type Of<D, H> = ShardLoop<D, H, fn(ShardInfo) -> H>;
    /// fn step<D: Driver, H: Handler>(shard: &mut Of<D, H>) -> Option<Ending> {
    ///     if let Turn::Ended(ending) = shard.turn() { Some(ending) } else { None }
    /// }
    /// ```
    pub fn turn(&mut self) -> Turn {
        if let Some(until) = self.resting {
            return self.rest(until);
        }
        match self.carry_out() {
            Ok(Turned::Awake) => {}
            Ok(Turned::Asleep) => return Turn::Asleep,
            Err(error) => return Turn::Ended(Ending::Failed(error)),
        }
        self.stage.arrivals = 0;
        self.callbacks();
        self.stage.io.sending.outbox.callbacks_end();
        self.stage.call(Cause::Own(Callback::TurnEnd), |handler, cx| handler.on_turn_end(cx));
        self.stage.io.sending.outbox.turn_ends();
        self.stage.io.routes.turn_ends();
        if self.stage.arrivals > 0 {
            self.last_active = self.stage.io.time.now;
        }
        if self.stage.io.sockets.groups.any_wait() {
            self.forget_groups();
        }
        if self.hearing.waits() {
            self.hearing.look(&self.stage.io.post);
        }
        if self.control.asked() != self.asked {
            self.heed();
        }
        let mut ending = if self.stage.panicked { self.after_panic() } else { None };
        if !self.stage.panicked {
            ending = ending.or_else(|| self.ended());
        }
        ending.map_or(Turn::Ran, Turn::Ended)
    }

    /// Has each kind of callbacks called in turn, until the outbox is crowded.
    #[inline]
    fn callbacks(&mut self) {
        if self.first != Kind::Writable {
            return self.callbacks_in_rotation();
        }
        if self.crowds(Kind::Writable) {
            // Failures of sends are told whatever is queued.
            self.handed_over_all = false;
            self.driver.receive(0, 1, &mut self.stage);
            return;
        }
        let _ = self.crowds(Kind::Arrivals)
            || self.crowds(Kind::Mail)
            || self.crowds(Kind::Dials)
            || self.crowds(Kind::Timers)
            || self.crowds(Kind::Walks);
    }

    /// The same after a turn in which some were not called.
    #[cold]
    fn callbacks_in_rotation(&mut self) {
        let (mut kind, mut received) = (std::mem::replace(&mut self.first, Kind::Writable), false);
        for _ in Kind::ALL {
            received |= kind == Kind::Arrivals;
            if self.crowds(kind) {
                break;
            }
            kind = kind.next();
        }
        if !received {
            self.handed_over_all = false;
            self.driver.receive(0, 1, &mut self.stage);
        }
    }

    /// Has callbacks of this kind called; whether the outbox is crowded. Then the next turn begins with those that
    /// come after these.
    #[inline(always)]
    fn crowds(&mut self, kind: Kind) -> bool {
        match kind {
            Kind::Writable if self.stage.io.sending.refused.any_to_look_at() => {
                self.stalls.did(Kind::Writable);
                self.stage.writable();
            }
            Kind::Writable => {}
            Kind::Arrivals => self.receive(),
            Kind::Mail => self.messages(),
            Kind::Dials if self.stage.io.dials.are_none() => {}
            Kind::Dials => self.dial_on(),
            Kind::Timers => self.timers(),
            Kind::Walks => {
                self.sweep_idle();
                self.sweep_gone();
            }
        }
        let crowded = self.stage.io.sending.outbox.is_crowded();
        if crowded {
            self.first = kind.next();
        }
        crowded
    }

    /// The wake-ups this shard has taken on, by way of its driver.
    #[inline]
    fn wake_neighbours(&mut self) {
        if !self.stage.io.post.wakes.is_empty() {
            self.wake_all();
        }
    }

    #[cold]
    fn wake_all(&mut self) {
        for shard in self.stage.io.post.wakes.drain(..) {
            self.driver.wake(shard);
        }
    }

    /// The driver, for tests that look at it between turns.
    ///
    /// ```
    /// # use shardgram_core::{Handler, ShardInfo, driver::Driver, shard_loop::ShardLoop};
    /// fn busy<D: Driver, H: Handler, F: Fn(ShardInfo) -> H>(shard: &ShardLoop<D, H, F>) -> bool {
    ///     shard.driver().has_more()
    /// }
    /// ```
    pub fn driver(&self) -> &D {
        &self.driver
    }

    /// Sends what is queued, waits, and reads the clock.
    fn carry_out(&mut self) -> io::Result<Turned> {
        let requested = self.stage.io.sockets.endpoints.has_requests().then(|| self.carry_out_requests());
        self.grant_wishes();
        self.wake_neighbours();
        let to_tell = requested.is_some() || self.stage.io.connected.links.has_retired();
        let wait = if to_tell { Wait::Poll } else { self.wait() };
        self.before = self.stage.io.time;
        self.stalls.turn_ended(wait, self.before.now, || self.driver.now());
        let turned = self.send_and_wait(wait)?;
        if turned == Turned::Awake {
            self.mailbox.bell().awake();
            self.stage.io.stats.turns.add(1);
            let io = &mut self.stage.io;
            io.time = io.clock.at(self.driver.now());
            io.sending.outbox.turn_begins(io.time.stamp);
            self.stalls.turn_begins(self.before, io.time, || self.driver.suspended());
            if let Some(requested) = requested {
                self.tell_of_requests(requested);
            }
            if self.stage.io.connected.links.has_retired() {
                self.retire();
            }
        }
        Ok(turned)
    }

    fn send_and_wait(&mut self, wait: Wait) -> io::Result<Turned> {
        let Io { sending: Sending { outbox, backlog, refused, .. }, stats, .. } = &mut self.stage.io;
        let (datagrams, waited, left) = (outbox.datagrams() as u64, backlog.datagrams(), backlog.left());
        let (long, copied) = (outbox.long_trains() as u64, backlog.copied());
        let result = self.driver.turn(outbox, backlog, wait);
        outbox.clear();
        backlog.expect_no_more();
        stats.submitted.add(datagrams);
        stats.trains_sent.add(long);
        if waited + backlog.datagrams() > 0 {
            stats.send_waiting.set(backlog.datagrams());
            stats.send_deferred.set(backlog.deferred());
            stats.copied_bytes.add(backlog.copied() - copied);
        }
        if backlog.left() != left {
            refused.look_again();
        }
        result
    }

    /// Does what the shards are asked for: statistics, and whether others may still hear of this one what they do not know.
    #[cold]
    fn heed(&mut self) {
        let asked = self.control.asked();
        self.refresh();
        let heard_all = self.deaf || self.has_heard_all();
        let Self { hearing, control, mailbox, stage, .. } = self;
        if hearing.answer(heard_all, control, mailbox, &mut stage.io.post) {
            self.asked = asked;
        }
    }

    /// Reads what only the driver knows, when someone asked for statistics.
    fn refresh(&mut self) {
        let asked = self.control.refresh_asked();
        if asked != self.refreshed {
            self.refreshed = asked;
            self.stage.io.stats.kernel_dropped.set(self.driver.kernel_dropped());
            self.control.refresh_done();
        }
    }
}

impl<D, H: Handler, F> Drop for ShardLoop<D, H, F> {
    fn drop(&mut self) {
        // A shard that was claimed is woken by nobody else, not even by who wants it to stop.
        for shard in self.stage.io.post.wakes.drain(..) {
            if let Some(postbox) = self.stage.io.post.postboxes.get(usize::from(shard)) {
                postbox.bell().wake();
            }
        }
    }
}
