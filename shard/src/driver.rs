//! The driver: what [`shardgram_core::driver::Driver`] promises, on a ring.

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use io_uring::cqueue;
use shardgram_core::datagram::{Meta, SocketId};
use shardgram_core::driver::{Arrival, Capabilities, Driver, SendFailure, SendFault, Sink, Turned, Wait};
use shardgram_core::mailbox::Bell;
use shardgram_core::outbox::{Outbox, Source, Train, TrainLimits};
use shardgram_core::{Config, Endpoint, PeerError};
use shardgram_sys::socket::{self, SocketOptions};

use crate::engine::Engine;
use crate::errno::send_fault;
use crate::op::{Destination, Operands};
use crate::prepare::Prepared;
use crate::ring::{Ring, SUBMIT_TRIES};
use crate::sockets::{Arm, Sockets};
use crate::user_data::{Kind, UserData};
use crate::wake::Fleet;

/// Receives in a row that may fail without bringing anything before the socket rests, and how long.
const RECEIVE_FAILURES: u32 = 16;
const REST: Duration = Duration::from_millis(100);
/// Deadlines farther away than this share a timer.
const COARSE: Duration = Duration::from_millis(20);

/// A completion of a receive that was not yet handed over.
#[derive(Clone, Copy, Debug)]
struct Completed {
    data: UserData,
    result: i32,
    flags: u32,
}

/// One shard's ring with its sockets and buffers.
#[derive(Debug)]
pub struct UringDriver {
    // Dropped first: from then on no socket below is in use.
    engine: Engine,
    sockets: Sockets,
    options: SocketOptions,
    shard: u16,
    fleet: Arc<Fleet>,
    capacity: usize,
    completed: VecDeque<Completed>,
    failures: Vec<SendFailure>,
    /// Slots whose receive has to be armed, the one that has waited longest first.
    to_arm: VecDeque<u32>,
    /// Receives armed again that the loop was not yet told of: whether buffers had run out.
    rearmed: Vec<bool>,
    event_armed: bool,
    /// Sockets that rest, and until when; the first to wake up first.
    resting: VecDeque<(Instant, u32)>,
    /// When the one timer that outlasts waits ends one.
    coarse_timer: Option<Instant>,
    /// Names this turn's sends.
    turn: u32,
    closed_drops: u64,
}

impl UringDriver {
    /// The driver of shard `shard` on a ring of [`crate::prepare()`]'s; call it on the thread that will run
    /// it. `listeners` are bound sockets in the order of the configuration; `options` serve for endpoints.
    ///
    /// # Errors
    /// What the kernel refuses; [`crate::probe()`] says beforehand whether and why it would.
    pub fn new(
        shard: u16,
        ring: Prepared,
        listeners: Vec<UdpSocket>,
        config: &Config,
        options: SocketOptions,
        bell: &Bell,
        fleet: Arc<Fleet>,
    ) -> io::Result<Self> {
        let engine = ring.enable()?;
        let slots = table_size(&engine.ring, listeners.len(), config.endpoint_capacity())?;
        let event = fleet.event(shard).ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))?;
        let waker = Arc::clone(event);
        bell.connect(Box::new(move || waker.ring()));
        let mut driver = Self {
            sockets: Sockets::new(listeners.len(), slots),
            engine,
            options,
            shard,
            fleet,
            capacity: config.datagram_capacity(),
            completed: VecDeque::new(),
            failures: Vec::new(),
            to_arm: VecDeque::new(),
            rearmed: Vec::new(),
            event_armed: false,
            resting: VecDeque::new(),
            coarse_timer: None,
            turn: 0,
            closed_drops: 0,
        };
        for (index, listener) in listeners.into_iter().enumerate() {
            let id = SocketId::listener(index as u16);
            driver.install(index as u32, listener, id)?;
        }
        driver.fleet.joined(shard, driver.engine.ring.fd());
        Ok(driver)
    }

    /// Makes a socket a fixed file and has it armed with the next turn.
    fn install(&mut self, slot: u32, socket: UdpSocket, id: SocketId) -> io::Result<SocketAddr> {
        let local = socket.local_addr()?;
        self.engine.ring.set_file(slot, socket.as_raw_fd())?;
        self.sockets.insert(slot, socket, id, local);
        self.to_arm.push_back(slot);
        Ok(local)
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
            let generation = self.sockets.generation(slot);
            let Some(socket) = self.sockets.current(slot, generation) else { continue };
            if socket.arm == Arm::Armed {
                continue;
            }
            let (starved, wildcard) = (socket.arm == Arm::Starved, socket.wildcard);
            socket.arm = Arm::Armed;
            self.engine.operands.push_receive(&mut self.engine.ring, slot, generation, wildcard, starved)?;
        }
        Ok(())
    }

    /// Queues every train of the outbox, submitting whenever the operands are used up.
    fn queue_sends(&mut self, outbox: &Outbox) -> io::Result<()> {
        for (index, train) in outbox.trains().iter().enumerate() {
            if !self.engine.operands.has_room() {
                self.submit_all(outbox)?;
            }
            self.queue_send(outbox, train, index as u32)?;
        }
        Ok(())
    }

    fn queue_send(&mut self, outbox: &Outbox, train: &Train, index: u32) -> io::Result<()> {
        let slot = self.sockets.slot_of(train.path.socket);
        let socket = slot.and_then(|slot| Some((slot, self.sockets.get(slot)?)));
        let (Some((slot, socket)), Some(source)) = (socket, outbox.single_source(train)) else {
            // Its endpoint could not be opened, or is closed.
            let fault = SendFault::Peer(PeerError::NotOpened { errno: libc::EBADF });
            self.failures.push(SendFailure { peer: train.peer, datagrams: train.datagrams, fault });
            return Ok(());
        };
        let to = Destination { slot, path: &train.path, wildcard: socket.wildcard };
        let Engine { ring, buffers, operands } = &mut self.engine;
        let bytes = match source {
            Source::Outbox { start, len } => outbox.bytes(start, len),
            Source::Buffer(slice) => buffers.kept(slice),
        };
        // SAFETY: the outbox is borrowed, and a kept buffer stays ours and unchanged until `release`; both
        // last beyond the submission, which `turn` makes before it returns.
        unsafe { operands.push_send(ring, to, bytes, UserData::send(index, self.turn)) }
    }

    /// Submits until the kernel has taken every entry, so that every send is done.
    fn submit_all(&mut self, outbox: &Outbox) -> io::Result<()> {
        for _ in 0..SUBMIT_TRIES {
            self.engine.ring.submit()?;
            self.reap(outbox);
            if self.engine.ring.is_submitted() {
                self.engine.operands.submitted();
                return Ok(());
            }
        }
        Err(Ring::out_of_memory())
    }

    /// Takes completions out of the queue: failures of sends are noted with their trains, receives wait
    /// to be handed over.
    fn reap(&mut self, outbox: &Outbox) {
        for entry in self.engine.ring.completions() {
            let Some(data) = UserData::from_bits(entry.user_data()) else { continue };
            match data.kind {
                Kind::Receive => {
                    let (result, flags) = (entry.result(), entry.flags());
                    self.completed.push_back(Completed { data, result, flags });
                }
                Kind::Send if entry.result() < 0 => {
                    let train = outbox.trains().get(data.index as usize);
                    let train = train.filter(|_| data == UserData::send(data.index, self.turn));
                    let socket = train.and_then(|t| self.sockets.get(self.sockets.slot_of(t.path.socket)?));
                    let names_source = socket.is_some_and(|socket| socket.wildcard);
                    self.failures.push(failure(train, -entry.result(), names_source));
                }
                Kind::Event => self.event_armed = false,
                Kind::Timer => self.coarse_timer = None,
                Kind::WakeFailed if entry.result() < 0 => {
                    if let Some(event) = self.fleet.event(data.index as u16) {
                        event.ring();
                    }
                }
                Kind::Send | Kind::WakeFailed | Kind::Wake => {}
            }
        }
    }

    /// Takes back the receive buffers that this turn's sends referred to.
    fn release(&mut self, outbox: &Outbox) {
        for train in outbox.trains() {
            for source in outbox.sources(train) {
                if let Source::Buffer(slice) = source {
                    self.engine.buffers.release(slice.buffer as u16);
                }
            }
        }
    }

    /// The one kernel entry of a turn: submits what is queued and waits, if there is reason to. More is not
    /// fetched while the kernel says that more is deferred: the next turn's entry does that with its sends,
    /// and further entries in between measured no better.
    fn enter(&mut self, outbox: &Outbox, wait: Wait) -> io::Result<()> {
        if let Wait::Until(deadline) = wait
            && !self.has_more()
            && self.to_arm.is_empty()
        {
            let rest = self.resting.front().map(|(until, _)| *until);
            let deadline = [deadline, rest].into_iter().flatten().min();
            let timeout = self.timeout(deadline)?;
            self.engine.ring.submit_and_wait(timeout)?;
            self.reap(outbox);
            if self.engine.ring.is_submitted() {
                self.engine.operands.submitted();
                return Ok(());
            }
        }
        self.submit_all(outbox)
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

    fn hand_over(&mut self, done: Completed, sink: &mut impl Sink) -> bool {
        let Completed { data, result, flags } = done;
        let buffers = &mut self.engine.buffers;
        let buffer = cqueue::buffer_select(flags).filter(|id| buffers.take(*id));
        let Some(socket) = self.sockets.current(data.index, data.generation) else {
            if let Some(id) = buffer {
                buffers.keep(id, 0);
                sink.too_late(1);
            }
            return false;
        };
        let exhausted = result == -libc::ENOBUFS;
        let failed = result < 0 && !exhausted && result != -libc::ECANCELED;
        if failed {
            socket.failures += 1;
            tracing::debug!(errno = -result, id = ?socket.id, "a receive ended and is armed again");
        }
        if !cqueue::more(flags) {
            if failed && socket.failures > RECEIVE_FAILURES {
                socket.arm = Arm::Resting;
                self.resting.push_back((Instant::now() + REST, data.index));
            } else {
                socket.arm = if exhausted { Arm::Starved } else { Arm::Needed };
                self.to_arm.push_back(data.index);
            }
            self.rearmed.push(exhausted);
        }
        let (id, wildcard) = (socket.id, socket.wildcard);
        if result < 0 {
            if let Some(buffer) = buffer {
                buffers.keep(buffer, 0);
            }
            return false;
        }
        socket.failures = 0;
        let Some(buffer) = buffer else {
            sink.malformed();
            return false;
        };
        self.hand_over_buffer(id, wildcard, buffer, result as usize, sink)
    }

    fn hand_over_buffer(
        &mut self,
        socket: SocketId,
        wildcard: bool,
        buffer: u16,
        filled: usize,
        sink: &mut impl Sink,
    ) -> bool {
        let bytes = self.engine.buffers.bytes(buffer, filled);
        let Some(received) = crate::recv::parse(bytes, Operands::layout(wildcard)) else {
            self.engine.buffers.keep(buffer, 0);
            sink.malformed();
            return false;
        };
        let start = received.payload.start as u32;
        let payload = &mut bytes[received.payload];
        let whole = payload.len();
        // Without control data in front there is a little more room than was configured.
        let cut = whole > self.capacity;
        let mut meta = Meta::default();
        meta.truncated_from = received.truncated_from.or(cut.then_some(whole));
        meta.interface = received.control.interface;
        meta.ecn = received.control.ecn.unwrap_or(0);
        meta.kernel_time = received.control.time;
        let fate = sink.datagram(Arrival {
            socket,
            remote: received.remote,
            local: if wildcard { received.control.local } else { None },
            meta,
            segment: received.control.segment_size.map_or(0, usize::from),
            bytes: &mut payload[..whole.min(self.capacity)],
            buffer: u32::from(buffer),
            start,
        });
        self.engine.buffers.keep(buffer, fate.kept);
        fate.stop
    }
}

/// The failure of a train's send. A completion that the kernel kept back for want of room may come when its
/// turn is over and nobody knows any more whose it was.
fn failure(train: Option<&Train>, errno: i32, names_source: bool) -> SendFailure {
    let fault = match errno {
        // Where the source address is named, it says that this host has it no longer (ip(7)).
        libc::EINVAL if names_source => SendFault::Peer(PeerError::Unreachable),
        errno => send_fault(errno),
    };
    SendFailure { peer: train.and_then(|t| t.peer), datagrams: train.map_or(1, |t| t.datagrams), fault }
}

/// Makes the table of fixed files. It cannot be larger than the limit of descriptors (RLIMIT_NOFILE), so
/// it is tried smaller until it fits; an endpoint beyond it fails to open with EMFILE.
fn table_size(ring: &Ring, listeners: usize, endpoints: usize) -> io::Result<usize> {
    let mut size = (listeners + endpoints).max(1);
    loop {
        match ring.register_files(size as u32) {
            Ok(()) => return Ok(size),
            Err(e) if e.raw_os_error() == Some(libc::EMFILE) && size > listeners.max(1) => {
                size = (size / 2).max(listeners).max(1);
            }
            Err(e) => return Err(e),
        }
    }
}

impl Driver for UringDriver {
    fn capabilities(&self) -> Capabilities {
        Capabilities::new(TrainLimits::SINGLE)
    }

    fn now(&self) -> Instant {
        Instant::now()
    }

    fn open(&mut self, socket: SocketId, endpoint: &Endpoint) -> Result<SocketAddr, i32> {
        let errno = |e: io::Error| e.raw_os_error().unwrap_or(libc::EIO);
        let slot = self.sockets.slot_of(socket).ok_or(libc::EMFILE)?;
        let bind = endpoint.bind_address();
        let bound = socket::endpoint(Some(bind), bind, &self.options).map_err(|e| e.errno())?;
        self.install(slot, bound, socket).map_err(errno)
    }

    fn close(&mut self, socket: SocketId) {
        let Some(slot) = self.sockets.slot_of(socket) else { return };
        let receive = UserData::receive(slot, self.sockets.generation(slot));
        let Some(closed) = self.sockets.remove(slot) else { return };
        self.closed_drops += socket::drop_count(&closed.socket).unwrap_or(0);
        // Emptying the slot does not end the receive, which would keep the socket and its port.
        if closed.arm == Arm::Armed {
            if let Err(error) = self.engine.ring.submit() {
                tracing::warn!(%error, ?socket, "the receive of a closed endpoint could not be cancelled");
            }
            self.engine.ring.cancel(receive.bits());
        }
        if let Err(error) = self.engine.ring.set_file(slot, -1) {
            tracing::warn!(%error, ?socket, "a fixed file could not be taken out");
        }
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

    fn turn(&mut self, outbox: &Outbox, wait: Wait) -> io::Result<Turned> {
        self.turn = self.turn.wrapping_add(1);
        self.arm()?;
        self.queue_sends(outbox)?;
        if !self.to_arm.is_empty() || self.engine.buffers.is_low() {
            // Starved, or nearly: the sends give buffers back before anything waits for arrivals.
            self.submit_all(outbox)?;
            self.release(outbox);
            self.arm()?;
            self.enter(outbox, wait)?;
        } else {
            self.enter(outbox, wait)?;
            self.release(outbox);
        }
        Ok(Turned::Awake)
    }

    fn receive(&mut self, budget: usize, sink: &mut impl Sink) {
        for failure in std::mem::take(&mut self.failures) {
            sink.send_failed(failure);
        }
        for _ in 0..budget {
            let Some(done) = self.completed.pop_front() else { break };
            if self.hand_over(done, sink) {
                break;
            }
        }
        for exhausted in self.rearmed.drain(..) {
            sink.rearmed(exhausted);
        }
    }

    fn has_more(&self) -> bool {
        !self.completed.is_empty() || !self.failures.is_empty()
    }

    fn kernel_dropped(&mut self) -> u64 {
        let open: u64 = self.sockets.iter().map(|s| socket::drop_count(&s.socket).unwrap_or(0)).sum();
        open + self.closed_drops
    }
}

impl Drop for UringDriver {
    fn drop(&mut self) {
        self.fleet.left(self.shard);
    }
}
