//! The network: what is sent arrives later, or twice, or never, as the links and the seed have it.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use shardgram_core::datagram::SocketId;
use shardgram_core::flow::flow_shard;
use shardgram_core::{Ecn, PeerError};

use crate::bindings::{BindFault, Bindings, Place};
use crate::event_log::{Event, EventLog, Kind, NO_SHARD, digest};
use crate::flight::{Flight, Flights};
use crate::groups::{Groups, is_broadcast, is_for_many};
use crate::link::{LinkConfig, Links};
use crate::schedule::{Ringer, Schedule};
use crate::seed::{Dice, Probability, Stream};
use crate::socket::{Inbox, Owner, Socket};

/// Bytes of a UDP header (RFC 768).
const UDP_HEADER: usize = 8;
/// Bytes of an IPv4 header without options (RFC 791) and of an IPv6 header (RFC 8200).
const IP_HEADERS: (usize, usize) = (20, 40);

/// Names a raw socket of a test ([`crate::Sim::socket`]).
///
/// ```
/// let mut sim = shardgram_sim::Sim::new(1);
/// let socket = sim.socket("10.0.0.2:5000".parse().unwrap());
/// assert!(sim.receive(socket).is_none());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SocketKey(u32);

/// A datagram that reached a raw socket.
///
/// ```
/// fn answered(received: &shardgram_sim::Received, server: std::net::SocketAddr) -> bool {
///     received.from == server && !received.bytes.is_empty()
/// }
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Received {
    /// Who sent it.
    pub from: SocketAddr,
    /// The address it was sent to.
    pub to: SocketAddr,
    /// How it is marked.
    pub ecn: Ecn,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// What became of the datagrams the network was given. A train counts as the datagrams it is made of.
///
/// ```
/// let sim = shardgram_sim::Sim::new(1);
/// assert_eq!(sim.counts().unaccounted(), 0);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[non_exhaustive]
pub struct Counts {
    /// Given to the network.
    pub sent: u64,
    /// Made by it, in addition.
    pub duplicated: u64,
    /// Lost by it.
    pub lost: u64,
    /// Held back by it, so that others overtook them.
    pub held_back: u64,
    /// On their way.
    pub in_flight: u64,
    /// Arrived where no socket is bound.
    pub unclaimed: u64,
    /// Arrived at a socket whose receive buffer was full.
    pub overflowed: u64,
    /// Arrived in a socket.
    pub delivered: u64,
    /// Of those delivered: still unread when the socket was closed.
    pub discarded: u64,
}

impl Counts {
    /// Datagrams that are in none of the outcomes: always nought.
    pub fn unaccounted(&self) -> i64 {
        let made = self.sent + self.duplicated;
        let outcomes = self.lost + self.in_flight + self.unclaimed + self.overflowed + self.delivered;
        made.wrapping_sub(outcomes) as i64
    }
}

/// An arrival that was taken out of its inbox; the bytes are in the buffer it was taken into.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) socket: SocketId,
    pub(crate) remote: SocketAddr,
    pub(crate) local: Option<IpAddr>,
    pub(crate) group: Option<IpAddr>,
    pub(crate) segment: u32,
    pub(crate) ecn: Ecn,
    pub(crate) arrived_ns: u64,
}

#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) schedule: Schedule,
    pub(crate) links: Links,
    pub(crate) log: EventLog,
    pub(crate) mis_steer: Probability,
    epoch: Instant,
    now_ns: u64,
    faults: Dice,
    steering: Dice,
    /// Arrivals to come: when, in which order among those of the same time, and what.
    arrivals: BinaryHeap<Reverse<(u64, u64, u32)>>,
    launched: u64,
    flights: Flights,
    bindings: Bindings,
    pub(crate) groups: Groups,
    sockets: Vec<Socket>,
    free_sockets: Vec<u32>,
    inboxes: Vec<Inbox>,
    counts: Counts,
}

/// Time.
impl Network {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            schedule: Schedule::default(),
            links: Links::default(),
            log: EventLog::new(),
            mis_steer: Probability::default(),
            // The only look at a real clock: what is made of it are differences to it.
            epoch: Instant::now(),
            now_ns: 0,
            faults: Dice::new(seed, Stream::Faults),
            steering: Dice::new(seed, Stream::Steering),
            arrivals: BinaryHeap::new(),
            launched: 0,
            flights: Flights::default(),
            bindings: Bindings::new(),
            groups: Groups::default(),
            sockets: Vec::new(),
            free_sockets: Vec::new(),
            inboxes: Vec::new(),
            counts: Counts::default(),
        }
    }

    #[inline]
    pub(crate) fn now_ns(&self) -> u64 {
        self.now_ns
    }

    #[inline]
    pub(crate) fn now(&self) -> Instant {
        self.epoch + Duration::from_nanos(self.now_ns)
    }

    /// The virtual time of an instant.
    pub(crate) fn ns_of(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.epoch).as_nanos()).unwrap_or(u64::MAX)
    }

    /// Moves the clock, never back, and lets arrive what has arrived by then.
    pub(crate) fn advance_to(&mut self, at_ns: u64) {
        self.now_ns = self.now_ns.max(at_ns);
        while let Some(&Reverse((at, _, flight))) = self.arrivals.peek()
            && at <= self.now_ns
        {
            self.arrivals.pop();
            self.arrive(flight, at);
        }
        self.schedule.wake_due(self.now_ns);
    }

    /// When the next datagram arrives.
    pub(crate) fn next_arrival(&self) -> Option<u64> {
        self.arrivals.peek().map(|&Reverse((at, ..))| at)
    }

    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }
}

/// Sockets.
impl Network {
    /// A place for a shard, and the way to wake it.
    pub(crate) fn add_shard(&mut self, capacity: usize) -> (u32, Ringer) {
        self.inboxes.push(Inbox { capacity, ..Inbox::default() });
        (self.inboxes.len() as u32 - 1, self.schedule.add())
    }

    /// Binds sockets to one address, one for each of the `owners`, and says which port it is.
    pub(crate) fn bind(
        &mut self,
        bind: SocketAddr,
        own: &[IpAddr],
        limit_bytes: u64,
        owners: impl Iterator<Item = Owner>,
    ) -> Result<(u16, Vec<u32>), BindFault> {
        let place = self.bindings.place(bind, own)?;
        let sockets: Vec<u32> = owners.map(|o| self.add_socket(o, place.clone(), limit_bytes)).collect();
        self.bindings.bind(&place, &sockets);
        Ok((place.port, sockets))
    }

    fn add_socket(&mut self, owner: Owner, place: Place, limit_bytes: u64) -> u32 {
        let socket = Socket { owner, place, charged_bytes: 0, limit_bytes };
        match self.free_sockets.pop() {
            Some(at) => {
                self.sockets[at as usize] = socket;
                at
            }
            None => {
                self.sockets.push(socket);
                self.sockets.len() as u32 - 1
            }
        }
    }

    /// Closes a shard's socket. What waits in it is discarded.
    pub(crate) fn close(&mut self, at: u32) {
        let socket = &mut self.sockets[at as usize];
        let Owner::Shard { shard, .. } = std::mem::replace(&mut socket.owner, Owner::Closed) else { return };
        self.bindings.unbind(&socket.place, at);
        self.groups.forget(at);
        let Self { flights, counts, inboxes, .. } = self;
        inboxes[shard as usize].waiting.retain(|&flight| {
            let stays = flights.get(flight).socket != at;
            if !stays {
                counts.discarded += flights.get(flight).datagrams();
                flights.free(flight);
            }
            stays
        });
        self.free_sockets.push(at);
    }

    /// A socket of a test.
    pub(crate) fn bind_raw(&mut self, bind: SocketAddr) -> Result<SocketKey, BindFault> {
        let owner = std::iter::once(Owner::Raw(VecDeque::new()));
        let (_, sockets) = self.bind(bind, &[bind.ip()], u64::MAX, owner)?;
        Ok(SocketKey(sockets[0]))
    }

    /// The address of a test's socket.
    pub(crate) fn raw_address(&self, key: SocketKey) -> SocketAddr {
        let place = &self.sockets[key.0 as usize].place;
        SocketAddr::new(place.addresses[0], place.port)
    }

    pub(crate) fn join_raw(&mut self, key: SocketKey, group: IpAddr) -> bool {
        self.groups.add(key.0, group, None).is_ok()
    }

    pub(crate) fn leave_raw(&mut self, key: SocketKey, group: IpAddr) -> bool {
        self.groups.leave(key.0, group, None).is_ok()
    }

    /// The next datagram that waits in a test's socket.
    pub(crate) fn receive_raw(&mut self, key: SocketKey) -> Option<Received> {
        let Owner::Raw(waiting) = &mut self.sockets[key.0 as usize].owner else { return None };
        let at = waiting.pop_front()?;
        let flight = self.flights.get_mut(at);
        let bytes = std::mem::take(&mut flight.bytes);
        let received = Received { from: flight.from, to: flight.to, ecn: flight.ecn, bytes };
        self.flights.free(at);
        Some(received)
    }
}

/// What a shard's driver takes.
impl Network {
    #[inline]
    pub(crate) fn has_waiting(&self, shard: u32) -> bool {
        !self.inboxes[shard as usize].waiting.is_empty()
    }

    pub(crate) fn overflowed(&self, shard: u32) -> u64 {
        self.inboxes[shard as usize].overflowed
    }

    /// Takes the next arrival of a shard. Its bytes are exchanged for those of `buffer`, not copied.
    // `.ci/instructions` leaves out what happens in here, which takes a function of its own.
    #[inline(never)]
    pub(crate) fn take(&mut self, shard: u32, buffer: &mut Vec<u8>) -> Option<Taken> {
        let at = self.inboxes[shard as usize].waiting.pop_front()?;
        let flight = self.flights.get_mut(at);
        std::mem::swap(&mut flight.bytes, buffer);
        let socket = &mut self.sockets[flight.socket as usize];
        socket.discharge(buffer.len());
        let Flight { from: remote, to, segment, ecn, arrived_ns, .. } = *flight;
        self.flights.free(at);
        let Owner::Shard { id, reports_local, .. } = socket.owner else { return None };
        let group = Some(to.ip()).filter(|ip| is_for_many(*ip));
        let written_to =
            if group.is_some() { socket.place.addresses.first().copied() } else { Some(to.ip()) };
        let local = written_to.filter(|_| reports_local);
        Some(Taken { socket: id, remote, local, group, segment, ecn, arrived_ns })
    }
}

/// Sending.
impl Network {
    /// What keeps a shard from sending datagrams of this length.
    pub(crate) fn obstacle(&self, from: SocketAddr, to: SocketAddr, len: usize) -> Option<PeerError> {
        let link = self.links.between(from.ip(), to.ip());
        if link.cut {
            return Some(PeerError::Unreachable);
        }
        let mtu = usize::from(link.mtu?);
        let header = if to.is_ipv4() { IP_HEADERS.0 } else { IP_HEADERS.1 };
        (len + header + UDP_HEADER > mtu).then_some(PeerError::TooLong { mtu: Some(mtu) })
    }

    /// Whether a train stays whole on its way.
    #[inline]
    pub(crate) fn carries_trains(&self, from: SocketAddr, to: SocketAddr) -> bool {
        self.links.between(from.ip(), to.ip()).trains
    }

    /// A datagram to write with [`Network::write`] and then to [`Network::launch`].
    #[inline]
    pub(crate) fn draft(&mut self) -> u32 {
        self.flights.draft()
    }

    #[inline]
    pub(crate) fn write(&mut self, flight: u32, bytes: &[u8]) {
        self.flights.get_mut(flight).bytes.extend_from_slice(bytes);
    }

    /// Sends what was written. From here on chance decides.
    pub(crate) fn launch(
        &mut self,
        flight: u32,
        (from, to): (SocketAddr, SocketAddr),
        segment: u32,
        ecn: Ecn,
    ) {
        let link = *self.links.between(from.ip(), to.ip());
        let sent = self.flights.get_mut(flight);
        (sent.from, sent.to, sent.segment, sent.ecn) = (from, to, segment, ecn);
        sent.digest = digest(&sent.bytes);
        let (count, longest) = (sent.datagrams(), sent.longest());
        self.counts.sent += count;
        self.note(Kind::Sent, flight, self.now_ns, NO_SHARD);
        if self.obstacle(from, to, longest).is_some() || self.faults.happens(link.loss) {
            self.counts.lost += count;
            self.note(Kind::Lost, flight, self.now_ns, NO_SHARD);
            self.flights.free(flight);
            return;
        }
        if self.faults.happens(link.duplication) {
            self.counts.duplicated += count;
            self.note(Kind::Duplicated, flight, self.now_ns, NO_SHARD);
            let copy = self.flights.copy(flight);
            self.travel(copy, count, &link);
        }
        self.travel(flight, count, &link);
    }

    fn travel(&mut self, flight: u32, count: u64, link: &LinkConfig) {
        let mut at = self.now_ns + link.delay_ns;
        if link.jitter_ns != 0 {
            at += self.faults.below(link.jitter_ns + 1);
        }
        if self.faults.happens(link.reordering) {
            at += link.held_back_ns;
            self.counts.held_back += count;
            self.note(Kind::HeldBack, flight, self.now_ns, NO_SHARD);
        }
        self.counts.in_flight += count;
        self.arrivals.push(Reverse((at, self.launched, flight)));
        self.launched += 1;
    }
}

/// Arriving.
impl Network {
    fn arrive(&mut self, flight: u32, at_ns: u64) {
        let arrived = self.flights.get(flight);
        let (from, to) = (arrived.from, arrived.to);
        self.counts.in_flight -= arrived.datagrams();
        if is_for_many(to.ip()) {
            return self.arrive_at_many(flight, at_ns);
        }
        match self.steer(from, to) {
            Some(socket) => self.hand_over(flight, socket, at_ns),
            None => self.unclaimed(flight, at_ns),
        }
    }

    fn unclaimed(&mut self, flight: u32, at_ns: u64) {
        self.counts.unclaimed += self.flights.get(flight).datagrams();
        self.note(Kind::Unclaimed, flight, at_ns, NO_SHARD);
        self.flights.free(flight);
    }

    /// A copy for each socket that hears it.
    fn arrive_at_many(&mut self, flight: u32, at_ns: u64) {
        let (from, to, count) = {
            let arrived = self.flights.get(flight);
            (arrived.from, arrived.to, arrived.datagrams())
        };
        let mut hearers: Vec<u32> = self.groups.hearers(to.ip(), from.ip()).collect();
        hearers.retain(|at| self.sockets[*at as usize].place.port == to.port());
        if is_broadcast(to.ip()) {
            let hears = |socket: &Socket| {
                let own = matches!(socket.owner, Owner::Shard { .. });
                let place = &socket.place;
                own && place.wildcard
                    && place.port == to.port()
                    && place.addresses.iter().any(IpAddr::is_ipv4)
            };
            let listening = (0..).zip(&self.sockets).filter(|(_, socket)| hears(socket));
            hearers.extend(listening.map(|(at, _): (u32, _)| at));
        }
        let Some(last) = hearers.pop() else { return self.unclaimed(flight, at_ns) };
        for socket in hearers {
            self.counts.duplicated += count;
            self.note(Kind::Duplicated, flight, at_ns, NO_SHARD);
            let copy = self.flights.copy(flight);
            self.hand_over(copy, socket, at_ns);
        }
        self.hand_over(flight, last, at_ns);
    }

    /// The socket for a datagram: among the shards that share an address the owner's, or, as it happens
    /// with real steering too, another one's.
    fn steer(&mut self, from: SocketAddr, to: SocketAddr) -> Option<u32> {
        let group = self.bindings.group(to)?;
        let shards = group.shards();
        let mut shard = flow_shard(from, shards);
        if shards > 1 && self.steering.happens(self.mis_steer) {
            let further = 1 + self.steering.below(u64::from(shards) - 1);
            shard = ((u64::from(shard) + further) % u64::from(shards)) as u16;
        }
        group.socket(shard)
    }

    fn hand_over(&mut self, flight: u32, at: u32, at_ns: u64) {
        let Self { flights, sockets, inboxes, .. } = self;
        let arrived = flights.get_mut(flight);
        let (len, count) = (arrived.bytes.len(), arrived.datagrams());
        (arrived.socket, arrived.arrived_ns) = (at, at_ns);
        let socket = &mut sockets[at as usize];
        match &mut socket.owner {
            Owner::Raw(_) if count > 1 => self.cut(flight, at, at_ns),
            Owner::Raw(waiting) => {
                waiting.push_back(flight);
                self.counts.delivered += 1;
                self.note(Kind::Delivered, flight, at_ns, NO_SHARD);
            }
            &mut Owner::Shard { shard, .. } => {
                let inbox = &mut inboxes[shard as usize];
                if count > 1 && arrived.longest() > inbox.capacity {
                    // What is cut off must be said of each datagram, so they cannot come as a train.
                    self.cut(flight, at, at_ns);
                } else if socket.charge(len) {
                    inbox.waiting.push_back(flight);
                    self.counts.delivered += count;
                    self.note(Kind::Delivered, flight, at_ns, shard);
                    self.schedule.run(shard);
                } else {
                    inbox.overflowed += count;
                    self.counts.overflowed += count;
                    self.note(Kind::Overflowed, flight, at_ns, shard);
                    self.flights.free(flight);
                }
            }
            Owner::Closed => debug_assert!(false, "a closed socket is not bound"),
        }
    }

    /// Hands over the datagrams of a train one by one.
    fn cut(&mut self, flight: u32, socket: u32, at_ns: u64) {
        let train = self.flights.get(flight);
        let (len, segment) = (train.bytes.len(), train.segment as usize);
        for start in (0..len).step_by(segment) {
            let part = self.flights.copy_part(flight, start..len.min(start + segment));
            let datagram = self.flights.get_mut(part);
            datagram.segment = 0;
            datagram.digest = digest(&datagram.bytes);
            self.hand_over(part, socket, at_ns);
        }
        self.flights.free(flight);
    }

    fn note(&mut self, kind: Kind, flight: u32, at_ns: u64, shard: u32) {
        let Flight { from, to, digest, ref bytes, .. } = *self.flights.get(flight);
        let len = bytes.len() as u32;
        self.log.add(&Event { at_ns, kind, from, to, len, digest, shard });
    }
}
