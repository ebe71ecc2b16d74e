//! The driver: what [`shardgram_core::driver::Driver`] promises, on a ring, put together from the rest.
//!
//! Things go one way. What is queued goes into the kernel, and what completes comes out of it, by [`crate::exchange`]. How
//! things arrive is in [`crate::inbox`], how they leave in [`crate::send`], peers' own sockets in [`crate::connected`], and
//! the addresses under a wildcard in [`crate::addresses`].

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use shardgram_core::backlog::Backlog;
use shardgram_core::datagram::{Path, SocketId};
use shardgram_core::driver::{Capabilities, ConnectFault, ConnectedLimits, Driver, Sink, Turned, Wait};
use shardgram_core::gathering::Gathering;
use shardgram_core::mailbox::Bell;
use shardgram_core::outbox::Outbox;
use shardgram_core::{Capability, Config, Endpoint, JoinError, Membership, WaitPolicy};
use shardgram_sys::accept::AcceptMode;
use shardgram_sys::interfaces::bound_interface;
use shardgram_sys::{ListenerSocket, SocketOptions, TRAIN_LIMITS, clocks, multicast};

use crate::addresses::{self, Addresses, Changes};
use crate::arrived::Arrived;
use crate::connected::Connected;
use crate::exchange::Exchange;
use crate::inbox::{self, Inbox};
use crate::marker::Markers;
use crate::places::Places;
use crate::prepare::Prepared;
use crate::retiring::Retiring;
use crate::send::{self, Sends};
use crate::socket::Socket;
use crate::sockets::Sockets;
use crate::wake::Fleet;
use crate::wakeups::Wakeups;

/// What a driver is made of.
#[derive(Debug)]
pub struct Parts<'a> {
    /// Which shard, and of how many.
    pub shard: u16,
    /// How many shards the server has.
    pub shards: u16,
    /// One of [`crate::prepare()`]'s.
    pub ring: Prepared,
    /// Bound sockets: one for each address of the configuration, in its order, and any number for addresses
    /// under its wildcards.
    pub listeners: Vec<ListenerSocket>,
    /// Where changes of the host's addresses come from, and where addresses are asked for that have no
    /// listener of their own.
    pub changes: Option<Changes>,
    /// Its bounds.
    pub config: &'a Config,
    /// What endpoints and peers' own sockets are opened with.
    pub options: SocketOptions,
    /// How peers get sockets of their own, and how many.
    pub connected: Option<(AcceptMode, ConnectedLimits)>,
    /// Whether sockets that come and go stand in the ring's table of fixed files. Before Linux 6.13 one that
    /// is taken out is kept as long as any older entry is armed.
    pub fixed_files: bool,
    /// That of the shard's mailbox.
    pub bell: &'a Bell,
    /// Shared by all shards.
    pub fleet: Arc<Fleet>,
}

/// One shard's ring with its sockets and buffers.
#[derive(Debug)]
pub struct UringDriver {
    // Dropped first, and the ring first of it: from then on no socket below is in use.
    exchange: Exchange,
    sockets: Sockets,
    inbox: Inbox,
    sends: Sends,
    connected: Connected,
    addresses: Addresses,
    /// Whether each shard's listeners get what it owns.
    steered: bool,
    /// The kernel had more to work off when it was entered last than it did: of one socket it receives 32 datagrams at a
    /// time, and of 20 sockets.
    deferred: bool,
}

impl UringDriver {
    /// The driver of a shard; call it on the thread that will run it.
    ///
    /// # Errors
    /// What the kernel refuses; [`crate::probe()`] says beforehand whether and why it would.
    pub fn new(parts: Parts<'_>) -> io::Result<Self> {
        let (shard, fleet) = (parts.shard, parts.fleet.clone());
        let places = places(&parts);
        let spins = parts.config.settings().wait == WaitPolicy::Spin;
        let engine = parts.ring.enable()?;
        let sockets = Sockets::new(&engine.ring, places, parts.options, parts.fixed_files, spins)?;
        let event = fleet.event(shard).ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))?;
        let waker = Arc::clone(event);
        parts.bell.connect(Box::new(move || waker.ring()));
        let arrived = Arrived::new(sockets.places().total(), sockets.places().own());
        let markers = Markers::new(shard, parts.shards, Arc::clone(fleet.markers()));
        let retiring = Retiring::new(Arc::clone(&fleet));
        let addresses = Addresses::new(parts.changes, fleet.lister());
        let mut driver = Self {
            exchange: Exchange::new(engine, arrived, Wakeups::new(shard, fleet)),
            sockets,
            inbox: Inbox::new(Gathering::new(parts.config.settings().gather_time())),
            sends: Sends::new(spins),
            connected: Connected::new(parts.connected, markers, retiring),
            addresses,
            steered: true,
            deferred: false,
        };
        for listener in parts.listeners {
            driver.listen(listener)?;
        }
        driver.exchange.wakeups.join(&driver.exchange.engine.ring)?;
        Ok(driver)
    }

    /// Receives on a listener's socket.
    fn listen(&mut self, listener: ListenerSocket) -> io::Result<()> {
        self.steered &= listener.steered;
        let ring = &self.exchange.engine.ring;
        if listener.local.is_some() {
            return addresses::listen(&mut self.sockets, ring, listener);
        }
        let ListenerSocket { listen, socket, .. } = listener;
        let id = SocketId::listener(listen);
        let local = socket.local_addr()?;
        let interface = bound_interface(&socket);
        let socket = Socket { interface, ..Socket::new(socket, id, local) };
        self.sockets.install(ring, u32::from(listen), socket)
    }

    /// What is sent in this turn, and who sends it.
    #[inline]
    fn sending<'a>(&'a mut self, outbox: &'a Outbox) -> (&'a mut Sends, send::Means<'a>) {
        let Self { exchange, sockets, sends, .. } = self;
        (sends, send::Means { outbox, exchange, sockets })
    }

    /// Makes good what an earlier turn could not do, and takes in what has changed since.
    fn begin_turn(&mut self, outbox: &Outbox) -> io::Result<()> {
        self.sends.begin_turn();
        self.exchange.begin_turn();
        if self.exchange.engine.ring.lost {
            self.exchange.begin_anew(&mut self.sockets)?;
            let (sends, mut means) = self.sending(outbox);
            sends.note_failed(&mut means);
        }
        let Self { exchange, sockets, connected, addresses, .. } = self;
        sockets.catch_up(&mut exchange.engine);
        addresses.take_changes(sockets, &exchange.engine.ring, connected);
        connected.tend(sockets, exchange);
        exchange.arm(sockets);
        Ok(())
    }

    /// The one kernel entry of a turn: submits what is queued and waits, if there is reason to. More is not
    /// fetched while the kernel says that more is deferred: the next turn's entry does that with its sends,
    /// and further entries in between measured no better.
    fn enter(&mut self, outbox: &Outbox, backlog: &mut Backlog, wait: Wait) -> io::Result<()> {
        if let Some(deadline) = self.waits_until(wait) {
            let patience = self.inbox.patience();
            let submitted = self.exchange.wait(&mut self.sockets, deadline, patience)?;
            let (sends, mut means) = self.sending(outbox);
            sends.note_failed(&mut means);
            if submitted {
                return sends.settle(&mut means, backlog);
            }
        }
        let (sends, mut means) = self.sending(outbox);
        sends.carry_out(&mut means, backlog)
    }

    /// Until when there is something to wait for; `None` if nothing is waited for.
    fn waits_until(&self, wait: Wait) -> Option<Option<Instant>> {
        let deadline = match wait {
            Wait::Poll => return None,
            Wait::Until(_) if self.has_more() || self.sockets.to_arm() > 0 => return None,
            Wait::Until(deadline) => deadline,
            // What waits to be handed over may keep all buffers, and then receives wait to be armed.
            Wait::Rest(until) => Some(until),
        };
        let is_idle = !self.sends.any_refused() && !self.sockets.any_unwatched();
        let rest = self.sockets.deadline();
        (is_idle && !self.exchange.wakeups.skips_wait())
            .then(|| [deadline, rest, self.connected.deadline()].into_iter().flatten().min())
    }
}

/// How many places are wanted.
fn places(parts: &Parts<'_>) -> Places {
    let named = parts.listeners.iter().filter(|listener| listener.local.is_some()).count() as u32;
    let listeners = parts.listeners.len() as u32 - named;
    let wildcards =
        parts.config.settings().listen.iter().filter(|address| address.ip().is_unspecified()).count();
    let under_them =
        if parts.changes.is_some() { parts.config.settings().max_local_addresses.into() } else { 0 };
    Places {
        listeners,
        addresses: named.max((wildcards * under_them) as u32),
        connected: parts.connected.map_or(0, |(_, limits)| limits.total),
        endpoints: parts.config.settings().max_endpoints,
    }
}

/// What it can do beside that, on every kernel it runs on.
const ABLE: [Capability; 8] = [
    Capability::TrainsIn,
    Capability::EcnOut,
    Capability::EcnIn,
    Capability::Timestamps,
    Capability::PathMtu,
    Capability::KernelDrops,
    Capability::BalancedListeners,
    Capability::Backlog,
];

impl Driver for UringDriver {
    fn capabilities(&self) -> Capabilities {
        // A sandbox may refuse the program, and then the kernel chooses among the listeners.
        let steered: &[_] = if self.steered { &[Capability::SteeredListeners] } else { &[] };
        Capabilities::new(TRAIN_LIMITS)
            .connected(self.connected.limits())
            .with(&ABLE)
            .with(steered)
            .with_copies(multicast::EACH_HAS_A_COPY)
    }

    fn now(&self) -> Instant {
        Instant::now()
    }

    fn suspended(&self) -> Duration {
        clocks::suspended()
    }

    fn open(&mut self, id: SocketId, endpoint: &Endpoint) -> Result<SocketAddr, i32> {
        self.sockets.open(&self.exchange.engine.ring, id, endpoint)
    }

    fn join(&mut self, id: SocketId, membership: &Membership) -> Result<(), JoinError> {
        multicast::join(self.sockets.system(id)?, membership)
    }

    fn leave(&mut self, id: SocketId, membership: &Membership) -> Result<(), JoinError> {
        multicast::leave(self.sockets.system(id)?, membership)
    }

    fn close(&mut self, socket: SocketId) {
        let Exchange { engine, arrived, .. } = &mut self.exchange;
        self.sockets.close(engine, arrived, socket);
    }

    fn connect(&mut self, socket: SocketId, path: &Path) -> Result<(), ConnectFault> {
        self.connected.connect(&mut self.sockets, &mut self.exchange.engine, socket, path)
    }

    fn retire(&mut self, socket: SocketId) {
        self.connected.retire(&self.sockets, socket);
    }

    fn wake(&mut self, shard: u16) {
        let Exchange { engine, wakeups, .. } = &mut self.exchange;
        wakeups.wake(engine, shard);
    }

    fn turn(&mut self, outbox: &Outbox, backlog: &mut Backlog, wait: Wait) -> io::Result<Turned> {
        self.begin_turn(outbox)?;
        let (sends, mut means) = self.sending(outbox);
        let flushed = !backlog.is_empty() && sends.flush(&mut means, backlog)?;
        // Where there is room again handlers may want to know.
        let wait = if flushed { Wait::Poll } else { wait };
        sends.queue(&mut means, backlog)?;
        if self.sockets.to_arm() > 0 || self.exchange.engine.buffers.is_low() {
            // Starved, or nearly: the sends give buffers back before anything waits for arrivals.
            let (sends, mut means) = self.sending(outbox);
            sends.carry_out(&mut means, backlog)?;
            send::release(outbox, &mut self.exchange.engine.buffers);
            self.exchange.arm(&mut self.sockets);
            self.enter(outbox, backlog, wait)?;
        } else {
            self.enter(outbox, backlog, wait)?;
            send::release(outbox, &mut self.exchange.engine.buffers);
        }
        self.deferred = self.exchange.engine.ring.has_deferred();
        self.connected.turn_away(&mut self.sockets, &mut self.exchange.arrived);
        Ok(Turned::Awake)
    }

    fn receive(&mut self, budget: usize, each: usize, sink: &mut impl Sink) -> usize {
        let Self { exchange, sockets, inbox, sends, connected, addresses, .. } = self;
        sends.reports.tell(sink);
        connected.report(sink);
        addresses.report(sink);
        inbox.receive(&mut inbox::Means { exchange, sockets, connected, addresses }, budget, each, sink)
    }

    fn has_more(&self) -> bool {
        !self.exchange.arrived.is_empty()
            || self.inbox.any_left()
            || self.sends.reports.any()
            || self.connected.has_reports()
            || self.addresses.any_gone()
    }

    fn is_caught_up(&self) -> bool {
        !self.has_more()
            && !self.deferred
            && self.sockets.to_arm() == 0
            && !self.exchange.engine.ring.lost
            && !self.connected.holds_back()
    }

    fn is_settled(&self) -> bool {
        !self.has_more() && self.connected.is_settled()
    }

    fn kernel_dropped(&mut self) -> u64 {
        self.sockets.dropped().saturating_add_signed(-self.connected.lost_markers())
    }
}

impl Drop for UringDriver {
    fn drop(&mut self) {
        self.exchange.wakeups.leave();
    }
}
