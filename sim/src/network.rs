//! The network: what is sent arrives later, or twice, or never, as the links and the seed have it.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap, VecDeque};
use std::hash::BuildHasherDefault;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use shardgram_core::datagram::SocketId;
use shardgram_core::flow::flow_shard;
use shardgram_core::{Ecn, PathMtu, PeerError};
use siphasher::sip::SipHasher13;

use crate::bindings::{BindFault, Bindings, Place};
use crate::event_log::{Event, EventLog, Kind, NO_SHARD, digest};
use crate::flight::{Flight, Flights};
use crate::groups::{Groups, is_broadcast, is_for_many};
use crate::link::{LinkConfig, Links};
use crate::nat::{Nats, Translated};
use crate::notice::{NOTICE, Notice, Notices};
use crate::partition::Partitions;
use crate::pipe::{Pipes, SendBuffer, Uplinks};
use crate::schedule::{Ringer, Schedule};
use crate::seed::{Dice, Probability, Stream};
use crate::socket::{Inbox, News, Owner, Socket, cost};

/// Bytes of a UDP header (RFC 768).
const UDP_HEADER: usize = 8;
/// Bytes of an IPv4 header without options (RFC 791) and of an IPv6 header (RFC 8200).
const IP_HEADERS: (usize, usize) = (20, 40);

/// Bytes of the headers of a datagram for this address.
pub(crate) fn headers(to: SocketAddr) -> usize {
    UDP_HEADER + if to.is_ipv4() { IP_HEADERS.0 } else { IP_HEADERS.1 }
}

/// Names a raw socket of a test ([`crate::Sim::socket`]).
///
/// ```
/// let mut sim = shardgram_sim::Sim::new(1);
/// let socket = sim.socket("10.0.0.2:5000".parse().unwrap());
/// assert!(sim.receive(socket).is_none());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SocketKey(pub(crate) u32);

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
    /// Bytes of each datagram but the last, if it is a train, which comes only where
    /// [`Sim::receive_trains`](crate::Sim::receive_trains) asked for that.
    pub segment: Option<usize>,
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
    /// Lost because the queue of a link was full ([`crate::LinkConfig::bandwidth`]).
    pub tail_dropped: u64,
    /// Not let pass by a translator ([`crate::Sim::nat`]).
    pub filtered: u64,
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
    /// ICMP errors that hosts and routers have sent. They are no datagrams.
    pub errors_sent: u64,
}

impl Counts {
    /// Datagrams that are in none of the outcomes: always nought.
    pub fn unaccounted(&self) -> i64 {
        let made = self.sent + self.duplicated;
        let lost = self.lost + self.tail_dropped + self.filtered;
        let outcomes = lost + self.in_flight + self.unclaimed + self.overflowed + self.delivered;
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
    /// How likely the system refuses a peer a socket of its own.
    pub(crate) refused_sockets: Probability,
    pub(crate) partitions: Partitions,
    pub(crate) uplinks: Uplinks,
    pub(crate) notices: Notices,
    pub(crate) nats: Nats,
    /// The addresses that somebody has, who can say that nothing listens at a port.
    pub(crate) hosts: BTreeSet<IpAddr>,
    epoch: Instant,
    now_ns: u64,
    pub(crate) faults: Dice,
    steering: Dice,
    /// For what the systems of hosts do.
    pub(crate) order: Dice,
    pipes: Pipes,
    /// Arrivals to come: when, in which order among those of the same time, and what.
    pub(crate) arrivals: BinaryHeap<Reverse<(u64, u64, u32)>>,
    launched: u64,
    pub(crate) flights: Flights,
    pub(crate) bindings: Bindings,
    pub(crate) groups: Groups,
    pub(crate) sockets: Vec<Socket>,
    pub(crate) free_sockets: Vec<u32>,
    /// Sockets of peers' own by their two addresses. Never walked.
    pub(crate) own: HashMap<(SocketAddr, SocketAddr), u32, BuildHasherDefault<SipHasher13>>,
    pub(crate) inboxes: Vec<Inbox>,
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
            refused_sockets: Probability::default(),
            partitions: Partitions::default(),
            uplinks: Uplinks::default(),
            notices: Notices::default(),
            nats: Nats::new(Dice::new(seed, Stream::Nat)),
            hosts: BTreeSet::new(),
            // The only look at a real clock: what is made of it are differences to it.
            epoch: Instant::now(),
            now_ns: 0,
            faults: Dice::new(seed, Stream::Faults),
            steering: Dice::new(seed, Stream::Steering),
            order: Dice::new(seed, Stream::Order),
            pipes: Pipes::default(),
            arrivals: BinaryHeap::new(),
            launched: 0,
            flights: Flights::default(),
            bindings: Bindings::new(),
            groups: Groups::default(),
            sockets: Vec::new(),
            free_sockets: Vec::new(),
            own: HashMap::default(),
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
            if flight & NOTICE == 0 {
                self.arrive(flight, at);
            } else {
                self.notice_arrives(flight, at);
            }
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

    pub(crate) fn counts_mut(&mut self) -> &mut Counts {
        &mut self.counts
    }

    /// A number for what is to arrive: what arrives at the same time does so in the order of these.
    pub(crate) fn next_order(&mut self) -> u64 {
        self.launched += 1;
        self.launched - 1
    }
}

/// Sockets.
impl Network {
    /// A place for a shard, and the way to wake it.
    pub(crate) fn add_shard(&mut self, trains: bool) -> (u32, Ringer) {
        self.inboxes.push(Inbox { trains, ..Inbox::default() });
        (self.inboxes.len() as u32 - 1, self.schedule.add())
    }

    /// Binds sockets to one address, one for each of the `owners`, and says which port it is.
    pub(crate) fn bind(
        &mut self,
        bind: SocketAddr,
        own: &[IpAddr],
        bytes: (u64, u64),
        owners: impl Iterator<Item = Owner>,
    ) -> Result<(u16, Vec<u32>), BindFault> {
        let place = self.bindings.place(bind, own)?;
        let sockets: Vec<u32> = owners.map(|o| self.add_socket(o, place.clone(), bytes)).collect();
        self.bindings.bind(&place, &sockets);
        Ok((place.port, sockets))
    }

    /// A socket with receive and send buffers of so many bytes.
    pub(crate) fn add_socket(&mut self, owner: Owner, place: Place, bytes: (u64, u64)) -> u32 {
        let (limit_bytes, send_limit_bytes) = bytes;
        let send_buffer = SendBuffer::default();
        let socket = Socket { owner, place, charged_bytes: 0, limit_bytes, send_buffer, send_limit_bytes };
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
        let owner = std::iter::once(Owner::Raw { waiting: VecDeque::new(), trains: false });
        let (_, sockets) = self.bind(bind, &[bind.ip()], (u64::MAX, u64::MAX), owner)?;
        self.hosts.insert(bind.ip());
        Ok(SocketKey(sockets[0]))
    }

    /// The address of a test's socket.
    pub(crate) fn raw_address(&self, key: SocketKey) -> SocketAddr {
        let place = &self.sockets[key.0 as usize].place;
        SocketAddr::new(place.addresses[0], place.port)
    }

    /// Closes a test's socket.
    pub(crate) fn close_raw(&mut self, key: SocketKey) {
        let socket = &mut self.sockets[key.0 as usize];
        let Owner::Raw { waiting, .. } = &mut socket.owner else { return };
        for flight in std::mem::take(waiting) {
            self.counts.discarded += self.flights.get(flight).datagrams();
            self.flights.free(flight);
        }
        socket.owner = Owner::Closed;
        self.bindings.unbind(&socket.place, key.0);
        self.groups.forget(key.0);
        self.free_sockets.push(key.0);
    }

    /// Whether trains come to a test's socket as they are.
    pub(crate) fn receive_trains_raw(&mut self, key: SocketKey, yes: bool) {
        if let Owner::Raw { trains, .. } = &mut self.sockets[key.0 as usize].owner {
            *trains = yes;
        }
    }

    pub(crate) fn join_raw(&mut self, key: SocketKey, group: IpAddr) -> bool {
        self.groups.add(key.0, group, None).is_ok()
    }

    pub(crate) fn leave_raw(&mut self, key: SocketKey, group: IpAddr) -> bool {
        self.groups.leave(key.0, group, None).is_ok()
    }

    /// The next datagram that waits in a test's socket.
    pub(crate) fn receive_raw(&mut self, key: SocketKey) -> Option<Received> {
        let Owner::Raw { waiting, .. } = &mut self.sockets[key.0 as usize].owner else { return None };
        let at = waiting.pop_front()?;
        let flight = self.flights.get_mut(at);
        let bytes = std::mem::take(&mut flight.bytes);
        let segment = (flight.segment as usize > 0 && bytes.len() > flight.segment as usize)
            .then_some(flight.segment as usize);
        let received = Received { from: flight.from, to: flight.to, ecn: flight.ecn, segment, bytes };
        self.flights.free(at);
        Some(received)
    }
}

/// What a shard's driver takes.
impl Network {
    #[inline]
    pub(crate) fn has_waiting(&self, shard: u32) -> bool {
        let inbox = &self.inboxes[shard as usize];
        inbox.others > 0 || !inbox.waiting.is_empty()
    }

    /// Whether a shard is to be told something beside arrivals.
    pub(crate) fn has_news(&self, shard: u32) -> bool {
        !self.inboxes[shard as usize].news.is_empty()
    }

    /// Has a shard told something.
    pub(crate) fn bring_news(&mut self, shard: u32, news: News) {
        let inbox = &mut self.inboxes[shard as usize];
        inbox.news.push_back(news);
        inbox.others += 1;
        self.schedule.run(shard);
    }

    /// The next thing a shard is to be told beside arrivals.
    pub(crate) fn next_news(&mut self, shard: u32) -> Option<News> {
        let inbox = &mut self.inboxes[shard as usize];
        let news = inbox.news.pop_front();
        inbox.others -= u32::from(news.is_some());
        news
    }

    pub(crate) fn overflowed(&self, shard: u32) -> u64 {
        self.inboxes[shard as usize].overflowed
    }

    /// Takes the next arrival of a shard. Its bytes are exchanged for those of `buffer`, not copied.
    // `.ci/instructions` leaves out what happens in here, which takes a function of its own.
    #[inline(never)]
    pub(crate) fn take(&mut self, shard: u32, buffer: &mut Vec<u8>) -> Option<Taken> {
        let inbox = &mut self.inboxes[shard as usize];
        let at = if inbox.others == 0 && inbox.held == 0 {
            inbox.waiting.pop_front()?
        } else {
            self.next_of_several(shard)?
        };
        let flight = self.flights.get_mut(at);
        std::mem::swap(&mut flight.bytes, buffer);
        let socket = &mut self.sockets[flight.socket as usize];
        socket.discharge(buffer.len());
        let Flight { from: remote, to, segment, ecn, arrived_ns, .. } = *flight;
        self.flights.free(at);
        let (id, reports_local) = match &socket.owner {
            Owner::Shard { id, reports_local, .. } => (*id, *reports_local),
            Owner::Own(own) => (own.id, false),
            Owner::Raw { .. } | Owner::Closed => return None,
        };
        let group = Some(to.ip()).filter(|ip| is_for_many(*ip));
        let written_to =
            if group.is_some() { socket.place.addresses.first().copied() } else { Some(to.ip()) };
        let local = written_to.filter(|_| reports_local);
        Some(Taken { socket: id, remote, local, group, segment, ecn, arrived_ns })
    }
}

/// Sending.
impl Network {
    /// What keeps a shard from sending datagrams of this length. Says else whether they may be fragmented.
    pub(crate) fn obstacle(
        &self,
        from: SocketAddr,
        to: SocketAddr,
        len: usize,
        mode: PathMtu,
    ) -> Result<bool, PeerError> {
        let link = self.link(from, to);
        if link.cut {
            return Err(PeerError::Unreachable);
        }
        let len = len + headers(to);
        let too_long = |mtu: u16| Err(PeerError::TooLong { mtu: Some(mtu.into()) });
        match link.mtu {
            Some(mtu) if len > usize::from(mtu) => return too_long(mtu),
            _ => {}
        }
        // What was learned of a path says no router but one that is there.
        if link.router_mtu.is_none() {
            return Ok(false);
        }
        let learned = self.notices.learned(from.ip(), to.ip(), self.now_ns);
        match (mode, learned) {
            (PathMtu::Refuse, Some(mtu)) if len > usize::from(mtu) => too_long(mtu),
            (PathMtu::Fragment, _) => Ok(to.is_ipv4() || learned.is_some()),
            (PathMtu::System, learned) => Ok(learned.is_some()),
            _ => Ok(false),
        }
    }

    /// Whether a train stays whole on its way.
    #[inline]
    pub(crate) fn carries_trains(&self, from: SocketAddr, to: SocketAddr) -> bool {
        self.link(from, to).trains
    }

    /// The link by which something leaves.
    #[inline]
    fn link(&self, from: SocketAddr, to: SocketAddr) -> &LinkConfig {
        let seen_as = if self.nats.any() { self.nats.seen_as(from.ip(), to.ip()) } else { from.ip() };
        self.links.between(seen_as, to.ip())
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

    /// What was written may be fragmented on its way.
    pub(crate) fn may_fragment(&mut self, flight: u32) {
        self.flights.get_mut(flight).may_fragment = true;
    }

    /// Sends what was written. From here on chance decides.
    pub(crate) fn launch(
        &mut self,
        flight: u32,
        (from, to): (SocketAddr, SocketAddr),
        segment: u32,
        ecn: Ecn,
    ) {
        let sent = self.flights.get_mut(flight);
        (sent.from, sent.to, sent.segment, sent.ecn) = (from, to, segment, ecn);
        sent.digest = digest(&sent.bytes);
        let count = sent.datagrams();
        self.counts.sent += count;
        self.note(Kind::Sent, flight, self.now_ns, NO_SHARD);
        let leaves_ns = if self.uplinks.any() { self.uplink(flight) } else { self.now_ns };
        let link = *self.link(from, to);
        if self.nats.any() && !self.translate_out(flight) {
            self.counts.filtered += count;
            self.drop_flight(Kind::Filtered, flight);
            return;
        }
        if self.stops(flight, &link) || self.faults.happens(link.loss) {
            self.counts.lost += count;
            self.drop_flight(Kind::Lost, flight);
            return;
        }
        let Some(leaves_ns) = self.pass(flight, &link, leaves_ns) else {
            self.counts.tail_dropped += count;
            self.drop_flight(Kind::TailDropped, flight);
            return;
        };
        if self.faults.happens(link.duplication) {
            self.counts.duplicated += count;
            self.note(Kind::Duplicated, flight, self.now_ns, NO_SHARD);
            let copy = self.flights.copy(flight);
            self.travel(copy, count, &link, leaves_ns);
        }
        self.travel(flight, count, &link, leaves_ns);
    }

    /// Has a translator write another source into something, if there is one. False if it does not pass.
    fn translate_out(&mut self, flight: u32) -> bool {
        let sent = self.flights.get_mut(flight);
        match self.nats.outbound(sent.from, sent.to, self.now_ns) {
            Translated::Same => return true,
            Translated::Is(external) => sent.from = external,
            Translated::Refused => return false,
        }
        self.note(Kind::Translated, flight, self.now_ns, NO_SHARD);
        true
    }

    /// Has a translator write the host inside into something that has arrived. False if it does not pass.
    fn translate_in(&mut self, flight: u32, at_ns: u64) -> bool {
        let arrived = self.flights.get_mut(flight);
        match self.nats.inbound(arrived.to, Some(arrived.from), at_ns) {
            Translated::Same => return true,
            Translated::Is(inside) => arrived.to = inside,
            Translated::Refused => return false,
        }
        self.note(Kind::Translated, flight, at_ns, NO_SHARD);
        true
    }

    /// Whether nothing of the kind passes, chance apart.
    fn stops(&mut self, flight: u32, link: &LinkConfig) -> bool {
        let sent = self.flights.get(flight);
        let (from, to) = (sent.from, sent.to);
        if self.partitions.any() && self.partitions.parts(from.ip(), to.ip()) {
            return true;
        }
        let too_long = |mtu: u16| sent.longest() + headers(to) > usize::from(mtu);
        if link.cut || link.mtu.is_some_and(too_long) {
            return true;
        }
        if link.unreachable {
            self.router_tells(Notice { to: from, about: to, error: PeerError::Unreachable }, link);
        }
        link.unreachable || self.too_long_for_router(flight, link)
    }

    /// When something has left its host.
    fn uplink(&mut self, flight: u32) -> u64 {
        let sent = self.flights.get(flight);
        self.uplinks.pass(sent.from.ip(), sent.wire_bytes(), self.now_ns)
    }

    /// When something has passed the narrow part of its link, if that takes it.
    fn pass(&mut self, flight: u32, link: &LinkConfig, leaves_ns: u64) -> Option<u64> {
        let Some(bandwidth) = link.bandwidth else { return Some(leaves_ns) };
        let sent = self.flights.get(flight);
        let way = (sent.from.ip(), sent.to.ip());
        self.pipes.pass(way, bandwidth, sent.wire_bytes(), leaves_ns)
    }

    fn drop_flight(&mut self, kind: Kind, flight: u32) {
        self.note(kind, flight, self.now_ns, NO_SHARD);
        self.flights.free(flight);
    }

    fn travel(&mut self, flight: u32, count: u64, link: &LinkConfig, leaves_ns: u64) {
        let mut at = leaves_ns + link.delay_ns;
        if link.jitter_ns != 0 {
            at += self.faults.below(link.jitter_ns + 1);
        }
        if self.faults.happens(link.reordering) {
            at += link.held_back_ns;
            self.counts.held_back += count;
            self.note(Kind::HeldBack, flight, self.now_ns, NO_SHARD);
        }
        self.counts.in_flight += count;
        let order = self.next_order();
        self.arrivals.push(Reverse((at, order, flight)));
    }
}

/// Send buffers.
impl Network {
    /// Whether a socket takes something to send.
    pub(crate) fn takes(&mut self, socket: u32) -> bool {
        let Socket { send_buffer, send_limit_bytes, .. } = &mut self.sockets[socket as usize];
        send_buffer.has_room(*send_limit_bytes, self.now_ns)
    }

    /// A socket sent so many bytes from this address; they are its burden until the uplink has sent them.
    pub(crate) fn charge_send(&mut self, socket: u32, from: IpAddr, bytes: usize) {
        let leaves_ns = self.uplinks.idle_at(from, self.now_ns);
        if leaves_ns > self.now_ns {
            self.sockets[socket as usize].send_buffer.charge(cost(bytes), leaves_ns);
        }
    }

    /// When a full socket takes something again.
    pub(crate) fn takes_at(&self, socket: u32) -> Option<u64> {
        let socket = &self.sockets[socket as usize];
        socket.send_buffer.room_at(socket.send_limit_bytes)
    }
}

/// Arriving.
impl Network {
    fn arrive(&mut self, flight: u32, at_ns: u64) {
        let arrived = self.flights.get(flight);
        let (count, sent_to) = (arrived.datagrams(), arrived.to);
        self.counts.in_flight -= count;
        if self.nats.any() && !self.translate_in(flight, at_ns) {
            self.counts.filtered += count;
            self.note(Kind::Filtered, flight, at_ns, NO_SHARD);
            self.flights.free(flight);
            return;
        }
        let arrived = self.flights.get(flight);
        let (from, to) = (arrived.from, arrived.to);
        if is_for_many(to.ip()) {
            return self.arrive_at_many(flight, at_ns);
        }
        match self.steer(from, to) {
            Some(socket) => self.hand_over(flight, socket, at_ns),
            None => self.unclaimed(flight, at_ns, sent_to),
        }
    }

    /// Nobody listens where it arrived. The host says so, if there is one; `sent_to` is the address its sender knows.
    fn unclaimed(&mut self, flight: u32, at_ns: u64, sent_to: SocketAddr) {
        let arrived = self.flights.get(flight);
        let (from, to, count) = (arrived.from, arrived.to, arrived.datagrams());
        self.counts.unclaimed += count;
        self.note(Kind::Unclaimed, flight, at_ns, NO_SHARD);
        self.flights.free(flight);
        if self.hosts.contains(&to.ip()) && from.port() != 0 {
            let error = PeerError::Refused;
            self.host_tells(Notice { to: from, about: sent_to, error }, at_ns);
        }
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
        let Some(last) = hearers.pop() else { return self.unclaimed(flight, at_ns, to) };
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
        if !self.own.is_empty()
            && let Some(&own) = self.own.get(&(to, from))
        {
            return Some(own);
        }
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
            Owner::Raw { trains: false, .. } if count > 1 => self.cut(flight, at, at_ns),
            Owner::Raw { waiting, .. } => {
                waiting.push_back(flight);
                self.counts.delivered += count;
                self.note(Kind::Delivered, flight, at_ns, NO_SHARD);
            }
            Owner::Shard { .. } | Owner::Own(_) => {
                let shard = match socket.owner {
                    Owner::Own(ref own) => own.shard,
                    Owner::Shard { shard, .. } => shard,
                    Owner::Raw { .. } | Owner::Closed => return,
                };
                let inbox = &mut inboxes[shard as usize];
                if count > 1 && !inbox.trains {
                    self.cut(flight, at, at_ns);
                } else if socket.charge(len) {
                    match &mut socket.owner {
                        Owner::Own(own) => Self::put_own(own, inbox, at, flight),
                        _ => inbox.waiting.push_back(flight),
                    }
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
