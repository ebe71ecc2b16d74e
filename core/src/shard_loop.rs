//! One turn of a shard, written once for every driver.
//!
//! A turn carries out what the last one queued and waits; then come datagrams, messages, timers and the
//! search for idle peers, each under a budget; then [`Handler::on_turn_end`]. What they queue leaves with the
//! next turn. After a panic a fresh handler takes over where the turn ends: see [`Handler`].

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::backlog::Backlog;
use crate::clock::CoarseClock;
use crate::config::{Config, WaitPolicy};
use crate::context::Io;
use crate::control::Control;
use crate::cookie::CookieJar;
use crate::datagram::SocketId;
use crate::dials::Dials;
use crate::dispatch::{Dispatch, guarded};
use crate::driver::{Driver, Turned, Wait};
use crate::endpoints::{Endpoints, Request};
use crate::error::CloseReason;
use crate::groups::Groups;
use crate::handler::{Drain, Handler, ShardInfo};
use crate::idle::IdleSweep;
use crate::links::Links;
use crate::mailbox::{Budget, Mailbox, Postbox};
use crate::outbox::{Outbox, TrainLimits};
use crate::peers::Peers;
use crate::promotion::Thrift;
use crate::refused::Refused;
use crate::resolver::Resolver;
use crate::routes::Routes;
use crate::stats::Stats;
use crate::timers::TimerWheel;

/// A shard that has drained looks this often whether the others have.
const DRAIN_POLL: Duration = Duration::from_millis(1);
/// Quiet turns in a row that make a shard idle: one may fall between an arrival and its completion.
const QUIET_TURNS: u32 = 2;

/// Keys that keep remote parties from guessing hashes and cookies.
///
/// ```
/// use std::hash::{BuildHasher, Hasher, RandomState};
/// use shardgram_core::shard_loop::Secrets;
/// let draw = || RandomState::new().build_hasher().finish(); // seeded by the system
/// let cookies = (draw(), draw()); // once for all shards
/// let secrets = Secrets { table: (draw(), draw()), cookies };
/// assert_ne!(secrets.table, secrets.cookies);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Secrets {
    /// For the peer table.
    pub table: (u64, u64),
    /// For cookies; the same on every shard of a server.
    pub cookies: (u64, u64),
}

/// What a shard is made of, beside its driver and its handler.
///
/// ```
/// # use std::{sync::Arc, time::Instant};
/// # use shardgram_core::{ShardInfo, mailbox::mailboxes, shard_loop::{Secrets, Setup}};
/// let (postboxes, mut mailboxes) = mailboxes::<()>(1, 1024);
/// let setup = Setup {
///     info: ShardInfo::new(0, 1),
///     listeners: Arc::new(["127.0.0.1:9000".parse().unwrap()]),
///     mailbox: mailboxes.remove(0),
///     postboxes,
///     control: Arc::default(),
///     stats: Arc::default(),
///     secrets: Secrets { table: (1, 2), cookies: (3, 4) }, // of random bits, outside of tests
///     resolver: None,
///     start: Instant::now(),
/// };
/// assert_eq!(setup.postboxes.len(), usize::from(setup.info.shards));
/// ```
pub struct Setup<M> {
    /// Which shard.
    pub info: ShardInfo,
    /// The addresses its listeners got.
    pub listeners: Arc<[SocketAddr]>,
    /// Its own mailbox.
    pub mailbox: Mailbox<M>,
    /// The way to every shard, itself included.
    pub postboxes: Arc<[Postbox<M>]>,
    /// What the owner asks for.
    pub control: Arc<Control>,
    /// Its counters.
    pub stats: Arc<Stats>,
    /// Its keys.
    pub secrets: Secrets,
    /// Who looks names up; `None` if nobody does ([`crate::LookupError::NoResolver`]).
    pub resolver: Option<Arc<dyn Resolver>>,
    /// When the server began: the same on every shard, so that cookies agree.
    pub start: Instant,
}

impl<M> std::fmt::Debug for Setup<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Setup")
            .field("info", &self.info)
            .field("listeners", &self.listeners)
            .finish_non_exhaustive()
    }
}

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
    /// Its handler panicked too often, or its factory did.
    TooManyRestarts,
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
    /// An endpoint could not be opened: its slot, and the system's error number.
    Endpoint(u32, i32),
    /// The next group of those that were not joined or left.
    Group,
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
    idle: Option<IdleSweep>,
    restarts: Vec<Instant>,
    max_restarts: usize,
    draining: Option<Draining>,
    /// All shards have drained, and this one receives no more.
    deaf: bool,
    refreshed: u64,
    policy: WaitPolicy,
    /// When something last happened, as far as a shard that spins wants to know.
    last_active: Instant,
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
        let now = driver.now();
        let capabilities = driver.capabilities();
        let limits = if config.trains { capabilities.trains } else { TrainLimits::SINGLE };
        let max_peers = config.max_peers as usize;
        let info = setup.info;
        let clock = CoarseClock::new(setup.start);
        let io = Io {
            now,
            shard: info.shard,
            clock,
            stamp: clock.stamp(now),
            outbox: Outbox::new(config.outbox_bytes as usize, config.outbox_datagrams as usize, limits),
            backlog: Backlog::new(config.send_backlog_bytes as usize, config.send_queue_bytes as usize),
            refused: Refused::default(),
            links: Links::new(capabilities.connected),
            tier_policy: config.tier,
            routes: Routes::new(info.shard, max_peers, config.max_paths_per_peer, setup.secrets.table),
            timers: TimerWheel::new(config.max_timers as usize, now),
            endpoints: Endpoints::new(config.max_endpoints as usize),
            dials: Dials::new(
                setup.resolver,
                Arc::clone(setup.mailbox.bell()),
                config.max_lookups as usize,
                now,
            ),
            groups: Box::new(Groups::new(config.memberships(), capabilities.copies)),
            listeners: setup.listeners,
            closing: Vec::new(),
            postboxes: setup.postboxes,
            wakes: Vec::new(),
            cookies: CookieJar::new(setup.secrets.cookies, setup.start),
            stats: setup.stats,
            amplification_limit: config.amplification_limit,
            max_datagram: config.max_datagram as usize,
            thrift: Thrift::new(now),
            capabilities,
            stranger: None,
        };
        let handler = guarded(|| make(info)).ok_or(Ending::TooManyRestarts)?;
        let peers = Peers::new(info.shard, max_peers);
        let (orphans, gone) = (Vec::new(), Vec::new());
        let mut stage = Dispatch { handler, peers, io, panicked: false, arrivals: 0, orphans, gone };
        stage.call(|handler, cx| handler.on_start(cx)).ok_or(Ending::TooManyRestarts)?;
        Ok(Self {
            driver,
            stage,
            make,
            info,
            mailbox: setup.mailbox,
            control: setup.control,
            budget: config.turn_budget as usize,
            event_budget: config.event_budget,
            idle: config.idle_timeout.map(|timeout| IdleSweep::new(timeout, now)),
            restarts: Vec::new(),
            max_restarts: config.max_restarts_per_minute as usize,
            draining: None,
            deaf: false,
            refreshed: 0,
            policy: if capabilities.blocks { config.wait } else { WaitPolicy::Block },
            last_active: now,
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
        match self.carry_out() {
            Ok(Turned::Awake) => {}
            Ok(Turned::Asleep) => return Turn::Asleep,
            Err(error) => return Turn::Ended(Ending::Failed(error)),
        }
        self.stage.arrivals = 0;
        if self.stage.io.refused.any_to_look_at() {
            self.stage.writable();
        }
        let budget = if self.deaf { 0 } else { self.budget };
        self.driver.receive(budget, &mut self.stage);
        self.messages();
        if !self.stage.io.dials.are_none() {
            self.stage.dial_on(self.event_budget);
        }
        self.timers();
        self.sweep_idle();
        self.sweep_gone();
        self.stage.call(|handler, cx| handler.on_turn_end(cx));
        if self.stage.arrivals > 0 {
            self.last_active = self.stage.io.now;
        }
        self.refresh();
        let panicked = if self.stage.panicked { self.restart() } else { None };
        panicked.or_else(|| self.ended()).map_or(Turn::Ran, Turn::Ended)
    }

    /// The wake-ups this shard has taken on, by way of its driver.
    fn wake_neighbours(&mut self) {
        for shard in self.stage.io.wakes.drain(..) {
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
        let (closes, failures) = self.carry_out_requests();
        self.wake_neighbours();
        let to_tell = !closes.is_empty() || !failures.is_empty() || self.stage.io.links.has_retired();
        let wait = if to_tell { Wait::Poll } else { self.wait() };
        let turned = self.send_and_wait(wait)?;
        if turned == Turned::Awake {
            self.mailbox.bell().awake();
            self.stage.io.stats.turns.add(1);
            let io = &mut self.stage.io;
            io.now = self.driver.now();
            io.stamp = io.clock.stamp(io.now);
            for failure in failures {
                match failure {
                    Failure::Endpoint(slot, errno) => self.stage.endpoint_failed(slot, errno),
                    Failure::Group => self.stage.group_failed(),
                }
            }
            self.close_endpoints(&closes);
            for (slot, peer) in self.stage.io.links.take_retired() {
                let socket = SocketId::connected(slot);
                self.driver.retire(socket);
                self.stage.io.backlog.reroute(peer, socket);
            }
        }
        Ok(turned)
    }

    fn send_and_wait(&mut self, wait: Wait) -> io::Result<Turned> {
        let Io { outbox, backlog, refused, stats, .. } = &mut self.stage.io;
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

    /// Opens the endpoints that were asked for, and joins and leaves groups. Gives back the endpoints to close once the
    /// outbox is carried out, and what failed, of which handlers hear in the turn.
    fn carry_out_requests(&mut self) -> (Vec<u32>, Vec<Failure>) {
        let (mut closes, mut failures) = (Vec::new(), Vec::new());
        for request in self.stage.io.endpoints.take_requests() {
            match request {
                Request::Close(slot) => closes.push(slot),
                Request::Open(slot) => {
                    let endpoint = *self.stage.io.endpoints.config(slot);
                    let outcome = self.driver.open(SocketId::endpoint(slot), &endpoint);
                    self.stage.io.endpoints.opened(slot, outcome);
                    failures.extend(outcome.err().map(|errno| Failure::Endpoint(slot, errno)));
                }
                Request::Group => {
                    let done = self.stage.io.carry_out_group(&mut self.driver);
                    failures.extend((!done).then_some(Failure::Group));
                }
            }
        }
        self.stage.io.grant_wishes(&mut self.driver);
        (closes, failures)
    }

    fn close_endpoints(&mut self, slots: &[u32]) {
        for &slot in slots {
            self.driver.close(SocketId::endpoint(slot));
            self.lose_waiting(slot);
            self.stage.endpoint_closed(slot);
        }
    }

    /// What waits at an endpoint that is closed has failed.
    fn lose_waiting(&mut self, endpoint: u32) {
        let Io { backlog, refused, stats, .. } = &mut self.stage.io;
        let lost = backlog.drop_socket(SocketId::endpoint(endpoint));
        if lost > 0 {
            refused.look_again();
            stats.send_failed_other.add(lost);
            stats.send_waiting.set(backlog.datagrams());
        }
    }

    /// How long the coming wait may be. Raises the sleeping flag, and then looks once more for what came
    /// before it was up.
    fn wait(&self) -> Wait {
        let busy = || {
            let asked = self.control.stopping()
                || self.control.refresh_asked() != self.refreshed
                || (self.draining.is_none() && self.control.draining().is_some());
            let more = self.driver.has_more() || !self.mailbox.is_empty();
            let io = &self.stage.io;
            more || asked
                || self.stage.panicked
                || io.endpoints.has_requests()
                || io.dials.has_work()
                || io.has_promotions()
                || io.refused.any_to_look_at()
        };
        if busy() || self.must_not_sleep() {
            return Wait::Poll;
        }
        let deadline = self.deadline();
        if deadline.is_some_and(|at| at <= self.stage.io.now) || self.spins() {
            return Wait::Poll;
        }
        self.mailbox.bell().going_to_sleep();
        if busy() { Wait::Poll } else { Wait::Until(deadline) }
    }

    /// Whether the policy has the shard look again rather than sleep.
    fn spins(&self) -> bool {
        match self.policy {
            WaitPolicy::Block => false,
            WaitPolicy::Spin => true,
            WaitPolicy::SpinFor(time) => self.stage.io.now.saturating_duration_since(self.last_active) < time,
        }
    }

    fn must_not_sleep(&self) -> bool {
        let not_quiet = |d: Draining| d.quiet < QUIET_TURNS && self.may_end(d) && !self.waits_for_driver();
        !self.stage.gone.is_empty() || self.draining.is_some_and(not_quiet)
    }

    /// Whether sends wait for room, or sockets for their end: the driver wakes the shard when there is something to do.
    fn waits_for_driver(&self) -> bool {
        !self.stage.io.backlog.is_empty() || !self.driver.is_settled()
    }

    fn deadline(&self) -> Option<Instant> {
        let drain = self.draining.map(|d| {
            let poll = self.stage.io.now + DRAIN_POLL;
            if d.reported || self.waits_for_driver() { poll.min(d.deadline) } else { d.deadline }
        });
        let idle = self.idle.as_ref().and_then(|sweep| sweep.deadline(self.stage.peers.extent()));
        let io = &self.stage.io;
        [io.timers.next_deadline(), io.dials.next_deadline(), idle, drain].into_iter().flatten().min()
    }

    fn messages(&mut self) {
        // What was forwarded is as good as received here: as much of it, since its answers have the same outbox.
        let mut budget = Budget { forwards: self.budget, messages: self.event_budget as usize };
        while !self.stage.panicked {
            let Some(mail) = self.mailbox.take(&mut budget) else { return };
            // Said before the mail counts as handled, so that nobody finds all quiet in between.
            self.report(false);
            self.stage.arrivals += 1;
            self.stage.mail(mail);
            self.mailbox.handled();
        }
    }

    fn timers(&mut self) {
        for _ in 0..self.event_budget {
            if self.stage.panicked {
                return;
            }
            let io = &mut self.stage.io;
            let Some(id) = io.timers.next_due(io.now) else { return };
            let Some(timer) = io.cancel(id) else { return };
            io.stats.timers_fired.add(1);
            self.stage.call(|handler, cx| handler.on_timer(cx, timer));
        }
    }

    fn sweep_idle(&mut self) {
        let Some(sweep) = self.idle.as_mut().filter(|_| !self.stage.panicked) else { return };
        let now = self.stage.io.now;
        let Some(range) = sweep.due(now, self.stage.peers.extent()) else { return };
        let timeout = sweep.timeout;
        for slot in range {
            let Some(peer) = self.stage.peers.in_slot(slot) else { continue };
            let io = &self.stage.io;
            let idle = io.routes.get(peer).is_some_and(|r| io.clock.since(r.last_seen, now) >= timeout);
            if idle && !self.stage.panicked {
                self.stage.close(peer, CloseReason::Idle);
            }
        }
    }

    /// Closes the peers of local addresses that went.
    fn sweep_gone(&mut self) {
        if self.stage.panicked {
            return;
        }
        let extent = self.stage.peers.extent();
        let Some(gone) = self.stage.gone.last_mut() else { return };
        let (socket, ip) = (gone.socket, gone.ip);
        match gone.step(extent) {
            Some(slots) => self.stage.close_at(slots, socket, ip),
            None => drop(self.stage.gone.pop()),
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

    /// Replaces a handler that panicked.
    fn restart(&mut self) -> Option<Ending> {
        let now = self.stage.io.now;
        self.restarts.retain(|at| now.saturating_duration_since(*at) < Duration::from_secs(60));
        self.restarts.push(now);
        self.stage.io.stats.restarts.add(1);
        if self.restarts.len() > self.max_restarts {
            return Some(Ending::TooManyRestarts);
        }
        // What the failed handler queued before it failed still leaves.
        if let Err(error) = self.send_and_wait(Wait::Poll) {
            return Some(Ending::Failed(error));
        }
        let Some(fresh) = guarded(|| (self.make)(self.info)) else { return Some(Ending::TooManyRestarts) };
        let failed = std::mem::replace(&mut self.stage.handler, fresh);
        let _ = guarded(move || drop(failed));
        for slot in self.stage.io.endpoints.take_all() {
            self.driver.close(SocketId::endpoint(slot));
            self.lose_waiting(slot);
            self.stage.io.endpoints.vacate(slot);
        }
        self.stage.io.groups.begin_anew(&mut self.driver);
        self.stage.orphan_all_peers();
        self.stage.drop_timers();
        self.stage.panicked = false;
        self.stage.io.closing.clear();
        self.report(false);
        self.draining = None;
        self.stage.call(|handler, cx| handler.on_start(cx));
        self.stage.tell_of_orphans();
        None
    }

    fn ended(&mut self) -> Option<Ending> {
        if self.control.stopping() {
            self.finish();
            return Some(Ending::Stopped);
        }
        let deadline = self.control.draining()?;
        let Some(draining) = self.draining else {
            let takes = self.stage.call(|handler, cx| handler.on_drain(cx, deadline));
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
        if !over && self.stage.io.now < deadline {
            return None;
        }
        self.finish();
        Some(if drained { Ending::Drained } else { Ending::DrainDeadline })
    }

    /// For how many turns nothing has come and nothing was left to do.
    fn quiet(&self, draining: Draining) -> u32 {
        let io = &self.stage.io;
        let idle = self.stage.arrivals == 0
            && io.outbox.is_empty()
            && io.backlog.is_empty()
            && !io.has_promotions()
            && self.stage.gone.is_empty()
            && io.wakes.is_empty()
            && !io.endpoints.has_requests()
            && !io.dials.has_work()
            && self.mailbox.is_empty()
            && self.driver.is_settled();
        if idle && self.may_end(draining) { draining.quiet.saturating_add(1) } else { 0 }
    }

    /// Tells the other shards, when it changes, whether this one has drained.
    fn report(&mut self, quiet: bool) {
        if let Some(draining) = &mut self.draining
            && draining.reported != quiet
        {
            draining.reported = quiet;
            self.control.report_quiet(quiet);
        }
    }

    /// Whether the handler's terms for the drain are met, as far as its peers go.
    fn may_end(&self, draining: Draining) -> bool {
        draining.takes == Drain::WhenIdle || self.stage.peers.is_empty()
    }

    /// Handles the mail that is left, closes what is open, and sends what that queued.
    fn finish(&mut self) {
        // Only what is there now: handling it may bring more, without end.
        for _ in 0..self.mailbox.len() {
            let Some(mail) = self.mailbox.take_any() else { break };
            self.stage.mail(mail);
            self.mailbox.handled();
        }
        self.stage.close_all(CloseReason::Drained);
        if let Err(error) = self.send_and_wait(Wait::Poll) {
            tracing::warn!(%error, "the last sends of a draining shard failed");
        }
        // A budget of nought hands over failures only, so the sends just made are accounted for.
        self.driver.receive(0, &mut self.stage);
        // What could not leave in time has failed.
        let Io { backlog, stats, .. } = &mut self.stage.io;
        stats.send_failed_full.add(backlog.clear());
        stats.send_waiting.set(0);
        self.stage.io.stats.kernel_dropped.set(self.driver.kernel_dropped());
    }
}

impl<D, H: Handler, F> Drop for ShardLoop<D, H, F> {
    fn drop(&mut self) {
        // A shard that was claimed is woken by nobody else, not even by who wants it to stop.
        for shard in self.stage.io.wakes.drain(..) {
            if let Some(postbox) = self.stage.io.postboxes.get(usize::from(shard)) {
                postbox.bell().wake();
            }
        }
    }
}
