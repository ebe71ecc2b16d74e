//! The driver of one simulated shard.
//!
//! A turn never blocks. Where a real driver would put its thread to sleep, this one notes until when the
//! shard wants to sleep and says [`Turned::Asleep`]; the simulation gives the shard its next turn when
//! there is a reason. So callbacks run exactly as often as under a real driver.

mod send;

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};

use shardgram_core::backlog::Backlog;
use shardgram_core::datagram::{Path, SocketId};
use shardgram_core::driver::{
    Arrival, Capabilities, ConnectFault, ConnectedLimits, Driver, SendFailure, Sink, Turned, Wait,
};
use shardgram_core::outbox::{Outbox, TrainLimits};
use shardgram_core::{Capability, Config, Ecn, Endpoint, JoinError, Membership, Meta, PathMtu};

use crate::buffers::Buffers;
use crate::errno::{NO_INTERFACE, NOT_OPEN};
use crate::network::Network;
use crate::own::OwnSockets;
use crate::socket::{News, Owner};

/// Peers with sockets of their own in a whole server, and at one address, unless told otherwise.
const CONNECTED: u32 = 4_096;

/// Where a shard stands in the simulation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Position {
    /// Its number among all shards of the simulation.
    pub(crate) shard: u32,
    /// The number of its server's shard 0.
    pub(crate) first: u32,
    /// How many shards its server has.
    pub(crate) shards: u32,
}

impl Position {
    /// A shard's part of a bound of the server; the first shards get what does not divide evenly.
    fn share(self, all: u32) -> u32 {
        all / self.shards + u32::from(self.shard - self.first < all % self.shards)
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Local {
    pub(crate) socket: u32,
    /// The address bound to.
    pub(crate) address: SocketAddr,
}

/// The addresses of a node, which may change while it runs.
pub(crate) type Host = Rc<RefCell<Vec<IpAddr>>>;

pub(crate) struct SimDriver {
    network: Rc<RefCell<Network>>,
    position: Position,
    host: Host,
    trains: TrainLimits,
    connected: ConnectedLimits,
    path_mtu: PathMtu,
    listeners: Vec<Local>,
    endpoints: Vec<Option<Local>>,
    own: OwnSockets,
    buffers: Buffers,
    /// Of a socket's receive and send buffer.
    socket_bytes: (u64, u64),
    /// Whether arrivals say how they are marked, and when they came.
    reports: (bool, bool),
    failures: Vec<SendFailure>,
    /// Whether the last turn found something to tell beside arrivals.
    has_reports: bool,
    /// Whether it may send broadcasts.
    broadcasts: bool,
}

impl SimDriver {
    pub(crate) fn new(
        network: Rc<RefCell<Network>>,
        position: Position,
        host: Host,
        config: &Config,
        trains: TrainLimits,
    ) -> Self {
        let settings = config.settings();
        let share = |all: Option<u32>| position.share(all.unwrap_or(CONNECTED));
        Self {
            network,
            position,
            host,
            trains,
            connected: ConnectedLimits {
                total: share(settings.max_connected),
                per_address: share(settings.max_connected_per_address),
            },
            path_mtu: settings.path_mtu,
            listeners: Vec::new(),
            endpoints: Vec::new(),
            own: OwnSockets::default(),
            buffers: Buffers::new(settings.receive_buffers),
            socket_bytes: (settings.receive_socket_bytes.into(), settings.send_socket_bytes.into()),
            reports: (settings.ecn, settings.receive_timestamps),
            failures: Vec::new(),
            has_reports: false,
            broadcasts: settings.broadcast,
        }
    }

    /// Gives it the socket of its next listener.
    pub(crate) fn listens(&mut self, socket: u32, address: SocketAddr) {
        self.listeners.push(Local { socket, address });
    }

    /// The socket of this name, in the network.
    fn socket(&self, id: SocketId) -> Option<u32> {
        if let Some(index) = id.as_listener() {
            return self.listeners.get(usize::from(index)).map(|local| local.socket);
        }
        match id.as_endpoint() {
            Some(slot) => self.endpoints.get(slot as usize).copied().flatten().map(|local| local.socket),
            None => self.own.socket(id),
        }
    }

    /// How many receive buffers queued sends refer to.
    pub(crate) fn buffers_out(&self) -> usize {
        self.buffers.out()
    }
}

/// What it can do beside what its capabilities say by themselves.
const ABLE: [Capability; 9] = [
    Capability::TrainsIn,
    Capability::EcnOut,
    Capability::EcnIn,
    Capability::Timestamps,
    Capability::PathMtu,
    Capability::KernelDrops,
    Capability::BalancedListeners,
    Capability::SteeredListeners,
    Capability::Backlog,
];

impl Driver for SimDriver {
    fn capabilities(&self) -> Capabilities {
        Capabilities::new(self.trains)
            .without_blocking()
            .connected(self.connected)
            .with(&ABLE)
            .with_copies(true)
    }

    fn now(&self) -> Instant {
        self.network.borrow().now()
    }

    fn open(&mut self, socket: SocketId, endpoint: &Endpoint) -> Result<SocketAddr, i32> {
        let slot = socket.as_endpoint().ok_or(NOT_OPEN)? as usize;
        // Hosts here have none that a socket can be bound to.
        if endpoint.interface().is_some() {
            return Err(NO_INTERFACE);
        }
        let bind = endpoint.bind_address();
        // An endpoint's paths have its bound address for their local one, so arrivals must not report any.
        let owner = Owner::Shard { shard: self.position.shard, id: socket, reports_local: false };
        let owners = std::iter::once(owner);
        let host = self.host.borrow();
        let bound = self.network.borrow_mut().bind(bind, &host, self.socket_bytes, owners);
        let (port, sockets) = bound.map_err(|fault| fault.errno())?;
        if self.endpoints.len() <= slot {
            self.endpoints.resize(slot + 1, None);
        }
        let address = SocketAddr::new(bind.ip(), port);
        self.endpoints[slot] = Some(Local { socket: sockets[0], address });
        Ok(address)
    }

    fn close(&mut self, socket: SocketId) {
        let slot = socket.as_endpoint().and_then(|slot| self.endpoints.get_mut(slot as usize));
        if let Some(local) = slot.and_then(Option::take) {
            self.network.borrow_mut().close(local.socket);
        }
    }

    fn connect(&mut self, socket: SocketId, path: &Path) -> Result<(), ConnectFault> {
        let listener = path.socket.as_listener().ok_or(ConnectFault::Unsupported)?;
        let there = self.listeners.get(usize::from(listener)).is_some();
        if !there || !self.host.borrow().contains(&path.local.ip()) {
            return Err(ConnectFault::Unsupported);
        }
        let mut network = self.network.borrow_mut();
        self.own.connect(&mut network, self.position.shard, (socket, path), self.socket_bytes)
    }

    fn retire(&mut self, socket: SocketId) {
        let now_ns = self.network.borrow().now_ns();
        self.own.retire(socket, now_ns);
    }

    fn join(&mut self, socket: SocketId, membership: &Membership) -> Result<(), JoinError> {
        let socket = self.socket(socket).ok_or(JoinError::NoSuchSocket)?;
        self.network.borrow_mut().groups.join(socket, &self.host.borrow(), membership)
    }

    fn leave(&mut self, socket: SocketId, membership: &Membership) -> Result<(), JoinError> {
        let socket = self.socket(socket).ok_or(JoinError::NoSuchSocket)?;
        self.network.borrow_mut().groups.part(socket, &self.host.borrow(), membership)
    }

    fn wake(&mut self, shard: u16) {
        self.network.borrow_mut().schedule.run(self.position.first + u32::from(shard));
    }

    // `.ci/instructions` leaves out what happens in here, which takes a function of its own.
    #[inline(never)]
    fn turn(&mut self, outbox: &Outbox, backlog: &mut Backlog, wait: Wait) -> io::Result<Turned> {
        let network = Rc::clone(&self.network);
        let mut network = network.borrow_mut();
        let flushed = !backlog.is_empty() && self.flush(&mut network, backlog);
        for train in outbox.trains() {
            self.send(&mut network, outbox, train, backlog);
        }
        debug_assert_eq!(self.buffers.out(), 0, "a receive buffer outlived the sends that kept it");
        self.own.tend(&mut network);
        let shard = self.position.shard;
        self.has_reports = !self.failures.is_empty() || self.own.has_closed() || network.has_news(shard);
        let deadline = match wait {
            Wait::Poll => return Ok(Turned::Awake),
            Wait::Until(deadline) => deadline,
            Wait::Rest(until) => Some(until),
        };
        let mut until_ns = deadline.map(|at| network.ns_of(at));
        if !backlog.is_empty() || !self.own.is_idle() {
            let room = self.room_at(&network, backlog);
            until_ns = [until_ns, room, self.own.deadline()].into_iter().flatten().min();
        }
        // Where there is room again handlers may want to know.
        let to_tell = self.has_reports || network.has_waiting(shard);
        let awake = flushed
            || (to_tell && !matches!(wait, Wait::Rest(_)))
            || until_ns.is_some_and(|at| at <= network.now_ns());
        if awake {
            return Ok(Turned::Awake);
        }
        network.schedule.sleep(shard, until_ns);
        Ok(Turned::Asleep)
    }

    fn receive(&mut self, budget: usize, _: usize, sink: &mut impl Sink) -> usize {
        if self.has_reports {
            self.report(sink);
        }
        for handed_over in 0..budget {
            let Some(buffer) = self.buffers.free.last().copied() else {
                if self.has_more() {
                    sink.rearmed(true);
                }
                return handed_over;
            };
            let bytes = &mut self.buffers.all[buffer as usize].bytes;
            // Nothing of the network is held while the handler runs.
            let Some(taken) = self.network.borrow_mut().take(self.position.shard, bytes) else {
                return handed_over;
            };
            let mut meta = Meta::default();
            meta.ecn = if self.reports.0 { taken.ecn } else { Ecn::NotEct };
            meta.to_many = taken.group.is_some();
            if let Some(group) = taken.group {
                sink.sent_to(group);
            }
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
                return handed_over + 1;
            }
        }
        budget
    }

    fn has_more(&self) -> bool {
        self.has_reports || self.network.borrow().has_waiting(self.position.shard)
    }

    fn is_settled(&self) -> bool {
        !self.has_more() && self.own.is_idle() && !self.network.borrow().is_held(self.position.shard)
    }

    fn kernel_dropped(&mut self) -> u64 {
        self.network.borrow().overflowed(self.position.shard)
    }
}

impl SimDriver {
    /// Tells what is known beside arrivals.
    #[cold]
    fn report(&mut self, sink: &mut impl Sink) {
        self.has_reports = false;
        for failure in self.failures.drain(..) {
            sink.send_failed(failure);
        }
        // The network is free again when the handler is called.
        let next = || self.network.borrow_mut().next_news(self.position.shard);
        while let Some(news) = next() {
            match news {
                News::Error(socket, error) => sink.peer_error(socket, error),
                News::AddressGone(socket, ip) => sink.address_gone(socket, ip),
            }
        }
        self.own.report(sink);
    }
}

impl Drop for SimDriver {
    fn drop(&mut self) {
        let mut network = self.network.borrow_mut();
        self.own.close_all(&mut network);
        let endpoints = self.endpoints.iter().flatten();
        for local in self.listeners.iter().chain(endpoints) {
            network.close(local.socket);
        }
    }
}
