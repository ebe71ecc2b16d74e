//! The driver: what [`shardgram_core::driver::Driver`] promises, on a ring.
//!
//! Here is what it is made of, and its turn. How things arrive is in `receive`, how they leave in `send`,
//! peers' own sockets in `own`, and the addresses under a wildcard in `addresses`.

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use shardgram_core::backlog::Backlog;
use shardgram_core::datagram::{Path, SocketId};
use shardgram_core::driver::{
    Capabilities, ConnectFault, ConnectedLimits, Driver, SendFailure, Sink, Turned, Wait,
};
use shardgram_core::gathering::Gathering;
use shardgram_core::mailbox::Bell;
use shardgram_core::outbox::Outbox;
use shardgram_core::{Capability, Config, Endpoint, JoinError, Membership, PeerId, WaitPolicy};
use shardgram_sys::accept::AcceptMode;
use shardgram_sys::interfaces::AnswerAddresses;
use shardgram_sys::socket::{self, SocketOptions};
use shardgram_sys::{ListenerChange, ListenerSocket, TRAIN_LIMITS, multicast};

use crate::addresses::{Addresses, Changes};
use crate::direct::{self, Direct};
use crate::engine::Engine;
use crate::marker::Markers;
use crate::own::Retiring;
use crate::prepare::Prepared;
use crate::receive::Completed;
use crate::ring::Ring;
use crate::sockets::{Arm, Places, Socket, Sockets};
use crate::user_data::{Kind, UserData};
use crate::wake::Fleet;

/// Deadlines farther away than this share a timer.
const COARSE: Duration = Duration::from_millis(20);

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
    // Dropped first: from then on no socket below is in use.
    pub(crate) engine: Engine,
    pub(crate) sockets: Sockets,
    pub(crate) options: SocketOptions,
    shard: u16,
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) completed: VecDeque<Completed>,
    pub(crate) failures: Vec<SendFailure>,
    /// Slots whose receive has to be armed, the one that has waited longest first.
    pub(crate) to_arm: VecDeque<u32>,
    /// Receives armed again that the loop was not yet told of: whether buffers had run out.
    pub(crate) rearmed: Vec<bool>,
    pub(crate) event_armed: bool,
    /// Sockets that rest, and until when; the first to wake up first.
    pub(crate) resting: VecDeque<(Instant, u32)>,
    /// When the one timer that outlasts waits ends one.
    pub(crate) coarse_timer: Option<Instant>,
    /// Names this turn's sends.
    pub(crate) turn: u32,
    /// Trains of this submission that were refused and may be tried again, with the error.
    pub(crate) refused: Vec<(u32, i32)>,
    /// Trains that were refused as such, which the loop was not yet told of: whose, and how long their datagrams
    /// were.
    pub(crate) train_refusals: Vec<(Option<PeerId>, u32)>,
    /// How many of this turn's trains were queued.
    pub(crate) queued: usize,
    /// How the send of something that had waited failed.
    pub(crate) late: Option<i32>,
    /// A wake-up, or room in a full socket, came out of the ring in this turn: there is nothing to wait for.
    pub(crate) woken: bool,
    pub(crate) closed_drops: u64,
    pub(crate) accept: Option<(AcceptMode, ConnectedLimits)>,
    pub(crate) markers: Markers,
    pub(crate) retiring: Retiring,
    pub(crate) addresses: Addresses,
    /// Who answers what was sent to an IPv6 group.
    pub(crate) answering: AnswerAddresses,
    /// Whether peers send more than one thing at a time.
    pub(crate) gathering: Gathering,
    /// What is received from without the ring, if anything is.
    pub(crate) direct: Option<Direct>,
    /// Whether each shard's listeners get what it owns.
    steered: bool,
}

impl UringDriver {
    /// The driver of a shard; call it on the thread that will run it.
    ///
    /// # Errors
    /// What the kernel refuses; [`crate::probe()`] says beforehand whether and why it would.
    pub fn new(parts: Parts<'_>) -> io::Result<Self> {
        let shard = parts.shard;
        let places = places(&parts);
        let engine = parts.ring.enable()?;
        let places = register(&engine.ring, places, parts.fixed_files)?;
        let event = parts.fleet.event(shard).ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))?;
        let waker = Arc::clone(event);
        parts.bell.connect(Box::new(move || waker.ring()));
        let mut driver = Self {
            sockets: Sockets::new(places, parts.fixed_files),
            engine,
            options: parts.options,
            shard,
            markers: Markers::new(shard, parts.shards, Arc::clone(parts.fleet.markers())),
            fleet: parts.fleet,
            completed: VecDeque::new(),
            failures: Vec::new(),
            to_arm: VecDeque::new(),
            rearmed: Vec::new(),
            event_armed: false,
            resting: VecDeque::new(),
            coarse_timer: None,
            turn: 0,
            refused: Vec::new(),
            train_refusals: Vec::new(),
            queued: 0,
            late: None,
            woken: false,
            closed_drops: 0,
            accept: parts.connected,
            retiring: Retiring::default(),
            addresses: Addresses::new(parts.changes),
            answering: AnswerAddresses::default(),
            gathering: Gathering::new(parts.config.gather_time()),
            steered: true,
            direct: (parts.config.wait_policy() == WaitPolicy::Spin).then(Direct::default),
        };
        for listener in parts.listeners {
            driver.listen(listener)?;
        }
        driver.fleet.joined(shard, driver.engine.ring.fd());
        Ok(driver)
    }

    /// Receives on a listener's socket.
    fn listen(&mut self, listener: ListenerSocket) -> io::Result<()> {
        self.steered &= listener.steered;
        if listener.local.is_some() {
            return self.change(ListenerChange::Added(listener));
        }
        let ListenerSocket { listen, socket, .. } = listener;
        let id = SocketId::listener(listen);
        let local = socket.local_addr()?;
        self.install(u32::from(listen), Socket::new(socket, id, local))
    }

    /// Puts a socket into its place and has it armed with the next turn, unless it is to wait.
    pub(crate) fn install(&mut self, slot: u32, socket: Socket) -> io::Result<()> {
        if self.sockets.is_fixed(slot) {
            let fd = std::os::fd::AsRawFd::as_raw_fd(&socket.socket);
            self.engine.ring.set_file(slot, fd)?;
        }
        let mut socket = socket;
        if let (Some(direct), Arm::Needed) = (&mut self.direct, socket.arm)
            && direct.slots.len() < direct::SOCKETS
            && socket.own.is_none()
        {
            direct.slots.push(slot);
            socket.arm = Arm::Direct;
        }
        if socket.arm == Arm::Needed {
            self.to_arm.push_back(slot);
        }
        self.sockets.insert(slot, socket);
        Ok(())
    }

    /// Takes a socket whose receive has ended out of its place and closes it.
    pub(crate) fn take_out(&mut self, slot: u32) -> Option<Socket> {
        let watched = UserData::on_slot(Kind::Writable, slot, self.sockets.generation(slot));
        let socket = self.sockets.remove(slot)?;
        if let Some(direct) = &mut self.direct {
            direct.slots.retain(|at| *at != slot);
        }
        if socket.credit.blocked
            && let Err(error) = self.engine.operands.push_cancel(&mut self.engine.ring, watched)
        {
            tracing::warn!(%error, id = ?socket.id, "a closed socket stays until there is room in its buffer");
        }
        self.closed_drops += socket::drop_count(&socket.socket).unwrap_or(0);
        if self.sockets.is_fixed(slot)
            && let Err(error) = self.engine.ring.set_file(slot, -1)
        {
            tracing::warn!(%error, id = ?socket.id, "a fixed file could not be taken out");
        }
        Some(socket)
    }

    /// Queues the receives that have to be armed. Without a buffer in the kernel they would end at once,
    /// so then they wait until some came back.
    fn arm(&mut self) -> io::Result<()> {
        if !self.event_armed
            && let Some(event) = self.fleet.event(self.shard)
        {
            self.engine.operands.push_event_read(&mut self.engine.ring, event.fd())?;
            self.event_armed = true;
        }
        if self.engine.buffers.in_kernel() == 0 {
            return Ok(());
        }
        while self.resting.front().is_some_and(|(until, _)| *until <= Instant::now()) {
            self.to_arm.extend(self.resting.pop_front().map(|(_, slot)| slot));
        }
        while let Some(slot) = self.to_arm.pop_front() {
            let name = UserData::receive(slot, self.sockets.generation(slot));
            let Some(socket) = self.sockets.get_mut(slot) else { continue };
            if matches!(socket.arm, Arm::Armed | Arm::Held | Arm::Direct) {
                continue;
            }
            let (starved, told) = (socket.arm == Arm::Starved, socket.told);
            socket.arm = Arm::Armed;
            let Engine { ring, operands, .. } = &mut self.engine;
            operands.push_receive(ring, socket.target, name, told, starved)?;
        }
        Ok(())
    }

    /// The one kernel entry of a turn: submits what is queued and waits, if there is reason to. More is not
    /// fetched while the kernel says that more is deferred: the next turn's entry does that with its sends,
    /// and further entries in between measured no better.
    fn enter(&mut self, outbox: &Outbox, backlog: &mut Backlog, wait: Wait) -> io::Result<()> {
        if let Wait::Until(deadline) = wait
            && !self.has_more()
            && self.to_arm.is_empty()
            && self.refused.is_empty()
            && !self.woken
        {
            let rest = self.resting.front().map(|(until, _)| *until);
            let deadline = [deadline, rest, self.markers.deadline(), self.retiring.deadline()];
            let timeout = self.timeout(deadline.into_iter().flatten().min())?;
            match self.gathering.wait() {
                Some(patience) => self.engine.ring.submit_and_gather(timeout, patience)?,
                None => self.engine.ring.submit_and_wait(timeout)?,
            }
            self.reap(outbox);
            if self.engine.ring.is_submitted() {
                self.engine.operands.submitted();
                return self.settle(outbox, backlog);
            }
        }
        self.submit_all(outbox)?;
        self.settle(outbox, backlog)
    }

    /// How long a wait until `deadline` may last, unless the coarse timer ends it. A timer that is set and
    /// taken back with every wait costs more than a percent of a datagram; far deadlines, which mostly
    /// do not come near, share one that stays.
    fn timeout(&mut self, deadline: Option<Instant>) -> io::Result<Option<Duration>> {
        let Some(at) = deadline else { return Ok(None) };
        if self.coarse_timer.is_some_and(|set| set <= at) {
            return Ok(None);
        }
        let left = at.saturating_duration_since(Instant::now());
        if self.coarse_timer.is_some() || left <= COARSE {
            return Ok(Some(left));
        }
        self.engine.operands.push_timer(&mut self.engine.ring, left)?;
        self.coarse_timer = Some(at);
        Ok(None)
    }
}

/// How many places are wanted.
fn places(parts: &Parts<'_>) -> Places {
    let named = parts.listeners.iter().filter(|listener| listener.local.is_some()).count() as u32;
    let listeners = parts.listeners.len() as u32 - named;
    let wildcards =
        parts.config.listen_addrs().iter().filter(|address| address.ip().is_unspecified()).count();
    let under_them = if parts.changes.is_some() { parts.config.local_address_capacity() } else { 0 };
    Places {
        listeners,
        addresses: named.max((wildcards * under_them) as u32),
        connected: parts.connected.map_or(0, |(_, limits)| limits.total),
        endpoints: parts.config.endpoint_capacity() as u32,
    }
}

/// Makes the table of fixed files. It cannot be larger than the limit of descriptors (RLIMIT_NOFILE), so
/// endpoints get what is left of it; one beyond fails to open with EMFILE.
fn register(ring: &Ring, mut places: Places, fixed_files: bool) -> io::Result<Places> {
    loop {
        let size = if fixed_files { places.total() } else { places.listeners + places.addresses };
        match ring.register_files(size.max(1)) {
            Ok(()) => return Ok(places),
            Err(e) if e.raw_os_error() == Some(libc::EMFILE) && places.endpoints > 0 => {
                places.endpoints -= (places.endpoints / 8).max(1);
            }
            Err(e) => return Err(e),
        }
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
        let connected = self.accept.map_or(ConnectedLimits::NONE, |(_, limits)| limits);
        // A sandbox may refuse the program, and then the kernel chooses among the listeners.
        let steered: &[_] = if self.steered { &[Capability::SteeredListeners] } else { &[] };
        Capabilities::new(TRAIN_LIMITS)
            .connected(connected)
            .with(&ABLE)
            .with(steered)
            .with_copies(multicast::EACH_HAS_A_COPY)
    }

    fn now(&self) -> Instant {
        Instant::now()
    }

    fn open(&mut self, id: SocketId, endpoint: &Endpoint) -> Result<SocketAddr, i32> {
        let errno = |e: io::Error| e.raw_os_error().unwrap_or(libc::EIO);
        let slot = self.sockets.slot_of(id).ok_or(libc::EMFILE)?;
        let told = endpoint.takes_any_source() && endpoint.bind_address().ip().is_unspecified();
        let options = SocketOptions { packet_info: told, ..self.options.clone() };
        let socket = socket::open_endpoint(endpoint, &options).map_err(|error| {
            tracing::debug!(%error, "an endpoint was not opened");
            error.errno()
        })?;
        let local = socket.local_addr().map_err(errno)?;
        let socket = Socket { told, ..Socket::new(socket, id, local) };
        self.install(slot, socket).map_err(errno)?;
        Ok(local)
    }

    fn join(&mut self, id: SocketId, membership: &Membership) -> Result<(), JoinError> {
        multicast::join(self.socket_of(id)?, membership)
    }

    fn leave(&mut self, id: SocketId, membership: &Membership) -> Result<(), JoinError> {
        multicast::leave(self.socket_of(id)?, membership)
    }

    fn close(&mut self, socket: SocketId) {
        let Some(slot) = self.sockets.slot_of(socket) else { return };
        let Some(open) = self.sockets.get_mut(slot) else { return };
        // Closing the socket ends neither its receive nor the watch for room, which would keep it and its port.
        let full = std::mem::take(&mut open.credit.blocked);
        let pending = [(open.arm == Arm::Armed, Kind::Receive), (full, Kind::Writable)];
        for kind in pending.into_iter().filter_map(|(pending, kind)| pending.then_some(kind)) {
            let name = UserData::on_slot(kind, slot, self.sockets.generation(slot));
            if let Err(error) = self.engine.ring.submit() {
                tracing::warn!(%error, ?socket, "what is pending on a closed endpoint could not be cancelled");
            }
            self.engine.ring.cancel(name.bits());
        }
        self.take_out(slot);
    }

    fn connect(&mut self, socket: SocketId, path: &Path) -> Result<(), ConnectFault> {
        self.connect_peer(socket, path)
    }

    fn retire(&mut self, socket: SocketId) {
        self.retire_peer(socket);
    }

    fn wake(&mut self, shard: u16) {
        let sent = match self.fleet.ring(shard) {
            Some(ring) => self.engine.operands.push_wake(&mut self.engine.ring, ring, shard).is_ok(),
            None => false,
        };
        if !sent && let Some(event) = self.fleet.event(shard) {
            event.ring();
        }
    }

    fn turn(&mut self, outbox: &Outbox, backlog: &mut Backlog, wait: Wait) -> io::Result<Turned> {
        self.turn = self.turn.wrapping_add(1);
        self.queued = 0;
        self.take_changes();
        self.tend_own_sockets()?;
        self.arm()?;
        self.woken = false;
        let flushed = !backlog.is_empty() && self.flush(outbox, backlog)?;
        // Where there is room again handlers may want to know.
        let wait = if flushed { Wait::Poll } else { wait };
        self.queue_sends(outbox, backlog)?;
        if !self.to_arm.is_empty() || self.engine.buffers.is_low() {
            // Starved, or nearly: the sends give buffers back before anything waits for arrivals.
            self.submit_all(outbox)?;
            self.settle(outbox, backlog)?;
            self.release(outbox);
            self.arm()?;
            self.enter(outbox, backlog, wait)?;
        } else {
            self.enter(outbox, backlog, wait)?;
            self.release(outbox);
        }
        if self.retiring.any_leaving() {
            self.turn_away();
        }
        Ok(Turned::Awake)
    }

    fn receive(&mut self, budget: usize, sink: &mut impl Sink) {
        self.report(sink);
        let mut left = budget;
        while left > 0
            && let Some(done) = self.completed.pop_front()
        {
            left -= 1;
            if self.hand_over(done, sink) {
                left = 0;
            }
        }
        self.receive_directly(left, sink);
        for exhausted in self.rearmed.drain(..) {
            sink.rearmed(exhausted);
        }
    }

    fn has_more(&self) -> bool {
        !self.completed.is_empty()
            || !self.failures.is_empty()
            || self.retiring.has_closed()
            || self.addresses.any_gone()
    }

    fn is_settled(&self) -> bool {
        !self.has_more() && !self.markers.any() && self.retiring.is_empty()
    }

    fn kernel_dropped(&mut self) -> u64 {
        let open: u64 = self.sockets.iter().map(|s| socket::drop_count(&s.socket).unwrap_or(0)).sum();
        (open + self.closed_drops).saturating_add_signed(-self.markers.lost())
    }
}

impl UringDriver {
    fn socket_of(&self, id: SocketId) -> Result<&UdpSocket, JoinError> {
        let socket = self.sockets.slot_of(id).and_then(|slot| self.sockets.get(slot));
        socket.map(|socket| &socket.socket).ok_or(JoinError::NoSuchSocket)
    }

    /// Tells what is known beside arrivals.
    fn report(&mut self, sink: &mut impl Sink) {
        for failure in std::mem::take(&mut self.failures) {
            sink.send_failed(failure);
        }
        for (peer, segment) in self.train_refusals.drain(..) {
            sink.train_refused(peer, segment);
        }
        self.retiring.report(sink);
        self.addresses.report(sink);
    }

    /// Watches a full socket for room.
    pub(crate) fn watch_for_room(&mut self, slot: u32) -> io::Result<()> {
        let name = UserData::on_slot(Kind::Writable, slot, self.sockets.generation(slot));
        let Some(socket) = self.sockets.get(slot) else { return Ok(()) };
        self.engine.operands.push_poll(&mut self.engine.ring, socket.target, libc::POLLOUT, name)
    }
}

impl Drop for UringDriver {
    fn drop(&mut self) {
        self.fleet.left(self.shard);
    }
}
