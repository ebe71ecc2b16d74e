//! The driver of one simulated shard.
//!
//! A turn never blocks. Where a real driver would put its thread to sleep, this one notes until when the
//! shard wants to sleep and says [`Turned::Asleep`]; the simulation gives the shard its next turn when
//! there is a reason. So callbacks run exactly as often as under a real driver.

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};

use shardgram_core::backlog::Backlog;
use shardgram_core::datagram::{Path, RxSlice, SocketId};
use shardgram_core::driver::{Arrival, Capabilities, Driver, SendFailure, SendFault, Sink, Turned, Wait};
use shardgram_core::outbox::{Outbox, Source, Train, TrainLimits};
use shardgram_core::planted::{self, Fault};
use shardgram_core::{Config, Ecn, Endpoint, Meta, PeerError};

use crate::network::Network;
use crate::socket::Owner;

/// What Linux gives for a descriptor that is not open (EBADF, errno(3)).
const NOT_OPEN: i32 = 9;

/// Where a shard stands in the simulation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Position {
    /// Its number among all shards of the simulation.
    pub(crate) shard: u32,
    /// The number of its server's shard 0.
    pub(crate) first: u32,
}

#[derive(Clone, Copy, Debug)]
struct Local {
    socket: u32,
    /// The address bound to; for endpoints that of what they send.
    address: SocketAddr,
}

pub(crate) struct SimDriver {
    network: Rc<RefCell<Network>>,
    position: Position,
    host: Rc<[IpAddr]>,
    trains: TrainLimits,
    listeners: Vec<Local>,
    endpoints: Vec<Option<Local>>,
    buffers: Buffers,
    socket_bytes: u64,
    /// Whether arrivals say how they are marked, and when they came.
    reports: (bool, bool),
    failures: Vec<SendFailure>,
}

impl SimDriver {
    pub(crate) fn new(
        network: Rc<RefCell<Network>>,
        position: Position,
        host: Rc<[IpAddr]>,
        config: &Config,
        trains: TrainLimits,
    ) -> Self {
        Self {
            network,
            position,
            host,
            trains,
            listeners: Vec::new(),
            endpoints: Vec::new(),
            buffers: Buffers::new(config.buffer_count()),
            socket_bytes: config.socket_bytes().0 as u64,
            reports: (config.reports_ecn(), config.reports_time()),
            failures: Vec::new(),
        }
    }

    /// Gives it the socket of its next listener.
    pub(crate) fn listens(&mut self, socket: u32, address: SocketAddr) {
        self.listeners.push(Local { socket, address });
    }

    /// How many receive buffers queued sends refer to.
    pub(crate) fn buffers_out(&self) -> usize {
        self.buffers.out()
    }

    /// From which address a datagram along this path leaves.
    fn source(&self, path: &Path) -> Result<SocketAddr, PeerError> {
        if let Some(index) = path.socket.as_listener() {
            let local = self.listeners.get(usize::from(index)).ok_or(CLOSED)?;
            let ip = path.local.ip();
            // A wildcard answers from the address that was written to, if that is one of this host.
            if ip == local.address.ip() || (local.address.ip().is_unspecified() && self.host.contains(&ip)) {
                let first = self.host.iter().copied().find(|other| other.is_ipv4() == ip.is_ipv4());
                let ip = first.filter(|_| planted::is(Fault::WrongLocalAddress)).unwrap_or(ip);
                return Ok(SocketAddr::new(ip, local.address.port()));
            }
            return Err(PeerError::Unreachable);
        }
        let slot = path.socket.as_endpoint().ok_or(CLOSED)?;
        let local = self.endpoints.get(slot as usize).copied().flatten().ok_or(CLOSED)?;
        Ok(local.address)
    }

    fn send(&mut self, network: &mut Network, outbox: &Outbox, train: &Train) {
        let to = train.path.remote;
        let source = self.source(&train.path).and_then(|from| {
            let obstacle = network.obstacle(from, to, train.segment as usize);
            obstacle.map_or(Ok(from), Err)
        });
        match source {
            Ok(from) if train.datagrams > 1 && network.carries_trains(from, to) => {
                let flight = network.draft();
                for source in outbox.sources(train) {
                    network.write(flight, self.buffers.bytes(outbox, source));
                }
                network.launch(flight, (from, to), train.segment, train.ecn);
            }
            Ok(from) => {
                let mut cut = Cut { segment: train.segment as usize, room: 0, flight: None };
                for source in outbox.sources(train) {
                    cut.write(network, self.buffers.bytes(outbox, source), |network, flight| {
                        network.launch(flight, (from, to), 0, train.ecn);
                    });
                }
                // The last datagram may be shorter, or empty.
                let last = cut.flight.take().unwrap_or_else(|| network.draft());
                network.launch(last, (from, to), 0, train.ecn);
            }
            Err(error) => self.failures.push(SendFailure {
                peer: train.peer,
                datagrams: train.datagrams,
                fault: SendFault::Peer(error),
            }),
        }
        for source in outbox.sources(train) {
            if let Source::Buffer(slice) = source {
                self.buffers.release(slice.buffer);
            }
        }
    }
}

/// Cuts what lies in pieces into datagrams of equal size.
struct Cut {
    segment: usize,
    /// Bytes that the datagram at hand still takes, and the datagram.
    room: usize,
    flight: Option<u32>,
}

impl Cut {
    /// Launches each datagram when something follows it.
    fn write(&mut self, network: &mut Network, mut bytes: &[u8], launch: impl Fn(&mut Network, u32)) {
        while !bytes.is_empty() {
            if self.room == 0 {
                if let Some(full) = self.flight.take() {
                    launch(network, full);
                }
                self.room = self.segment;
            }
            let flight = *self.flight.get_or_insert_with(|| network.draft());
            let (now, rest) = bytes.split_at(bytes.len().min(self.room));
            network.write(flight, now);
            self.room -= now.len();
            bytes = rest;
        }
    }
}

/// What a send along a socket that is not open comes to.
const CLOSED: PeerError = PeerError::NotOpened { errno: NOT_OPEN };

impl Driver for SimDriver {
    fn capabilities(&self) -> Capabilities {
        Capabilities::new(self.trains).without_blocking()
    }

    fn now(&self) -> Instant {
        self.network.borrow().now()
    }

    fn open(&mut self, socket: SocketId, endpoint: &Endpoint) -> Result<SocketAddr, i32> {
        let slot = socket.as_endpoint().ok_or(NOT_OPEN)? as usize;
        let bind = endpoint.bind_address();
        // An endpoint's paths have its bound address for their local one, so arrivals must not report any.
        let owner = Owner::Shard { shard: self.position.shard, id: socket, reports_local: false };
        let owners = std::iter::once(owner);
        let bound = self.network.borrow_mut().bind(bind, &self.host, self.socket_bytes, owners);
        let (port, sockets) = bound.map_err(|fault| fault.errno())?;
        let first_of_family = self.host.iter().copied().find(|ip| ip.is_ipv4() == bind.is_ipv4());
        let from = if bind.ip().is_unspecified() { first_of_family.unwrap_or(bind.ip()) } else { bind.ip() };
        if self.endpoints.len() <= slot {
            self.endpoints.resize(slot + 1, None);
        }
        self.endpoints[slot] = Some(Local { socket: sockets[0], address: SocketAddr::new(from, port) });
        Ok(SocketAddr::new(bind.ip(), port))
    }

    fn close(&mut self, socket: SocketId) {
        let slot = socket.as_endpoint().and_then(|slot| self.endpoints.get_mut(slot as usize));
        if let Some(local) = slot.and_then(Option::take) {
            self.network.borrow_mut().close(local.socket);
        }
    }

    fn wake(&mut self, shard: u16) {
        self.network.borrow_mut().schedule.run(self.position.first + u32::from(shard));
    }

    // `.ci/instructions` leaves out what happens in here, which takes a function of its own.
    #[inline(never)]
    fn turn(&mut self, outbox: &Outbox, _: &mut Backlog, wait: Wait) -> io::Result<Turned> {
        let network = Rc::clone(&self.network);
        let mut network = network.borrow_mut();
        for train in outbox.trains() {
            self.send(&mut network, outbox, train);
        }
        debug_assert_eq!(self.buffers.out(), 0, "a receive buffer outlived the sends that kept it");
        let Wait::Until(deadline) = wait else { return Ok(Turned::Awake) };
        let until_ns = deadline.map(|at| network.ns_of(at));
        let shard = self.position.shard;
        let awake = !self.failures.is_empty()
            || network.has_waiting(shard)
            || until_ns.is_some_and(|at| at <= network.now_ns());
        if awake {
            return Ok(Turned::Awake);
        }
        network.schedule.sleep(shard, until_ns);
        Ok(Turned::Asleep)
    }

    fn receive(&mut self, budget: usize, sink: &mut impl Sink) {
        for failure in self.failures.drain(..) {
            sink.send_failed(failure);
        }
        for _ in 0..budget {
            let Some(buffer) = self.buffers.free.last().copied() else {
                if self.has_more() {
                    sink.rearmed(true);
                }
                return;
            };
            let bytes = &mut self.buffers.all[buffer as usize].bytes;
            // Nothing of the network is held while the handler runs.
            let Some(taken) = self.network.borrow_mut().take(self.position.shard, bytes) else { return };
            let mut meta = Meta::default();
            meta.ecn = if self.reports.0 { taken.ecn } else { Ecn::NotEct };
            meta.kernel_time = self.reports.1.then(|| Duration::from_nanos(taken.arrived_ns));
            let fate = sink.datagram(Arrival {
                socket: taken.socket,
                remote: taken.remote,
                local: taken.local,
                meta,
                segment: taken.segment as usize,
                bytes,
                buffer,
                start: 0,
            });
            if fate.kept > 0 {
                self.buffers.keep_last(fate.kept);
            }
            if fate.stop {
                return;
            }
        }
    }

    fn has_more(&self) -> bool {
        self.network.borrow().has_waiting(self.position.shard)
    }

    fn kernel_dropped(&mut self) -> u64 {
        self.network.borrow().overflowed(self.position.shard)
    }
}

impl Drop for SimDriver {
    fn drop(&mut self) {
        let mut network = self.network.borrow_mut();
        let endpoints = self.endpoints.iter().flatten();
        for local in self.listeners.iter().chain(endpoints) {
            network.close(local.socket);
        }
    }
}

#[derive(Debug, Default)]
struct Buffer {
    bytes: Vec<u8>,
    /// How many queued sends refer to it.
    kept: u32,
}

/// Numbered receive buffers. Their bytes are exchanged with the network's, so none is ever copied into.
#[derive(Debug)]
struct Buffers {
    all: Vec<Buffer>,
    free: Vec<u32>,
}

impl Buffers {
    fn new(count: u16) -> Self {
        let all = (0..count).map(|_| Buffer::default()).collect();
        Self { all, free: (0..u32::from(count)).rev().collect() }
    }

    fn out(&self) -> usize {
        self.all.len() - self.free.len()
    }

    /// The buffer that would be taken next goes out for so many sends.
    #[inline]
    fn keep_last(&mut self, sends: u32) {
        if let Some(buffer) = self.free.pop() {
            self.all[buffer as usize].kept = sends;
        }
    }

    /// One send that referred to a buffer is done.
    #[inline]
    fn release(&mut self, buffer: u32) {
        let kept = &mut self.all[buffer as usize].kept;
        debug_assert!(*kept > 0, "more sends refer to a receive buffer than were announced");
        *kept = kept.saturating_sub(1);
        if *kept == 0 {
            self.free.push(buffer);
        }
    }

    #[inline]
    fn bytes<'a>(&'a self, outbox: &'a Outbox, source: Source) -> &'a [u8] {
        match source {
            Source::Outbox { start, len } => outbox.bytes(start, len),
            Source::Buffer(RxSlice { buffer, start, len }) => {
                &self.all[buffer as usize].bytes[start as usize..][..len as usize]
            }
        }
    }
}
