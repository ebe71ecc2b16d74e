//! The network: what is sent arrives later, or twice, or never, as the links and the seed have it.

mod addresses;
mod arrive;
mod launch;
mod notices;
mod own_sockets;
mod raw_sockets;
mod sockets;

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap};
use std::hash::BuildHasherDefault;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use shardgram_core::Ecn;
use shardgram_core::datagram::SocketId;
use siphasher::sip::SipHasher13;

use crate::bindings::Bindings;
use crate::counts::Counts;
use crate::event_log::{Event, EventLog, Kind};
use crate::flight::{Flight, Flights};
use crate::groups::{Groups, is_for_many};
use crate::link::Links;
use crate::nat::Nats;
use crate::notice::{NOTICE, Notices};
use crate::partition::Partitions;
use crate::pipe::{Pipes, Uplinks};
use crate::schedule::Schedule;
use crate::seed::{Dice, Probability, Stream};
use crate::socket::{Inbox, News, Owner, Socket};

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
    pub(crate) strays: Probability,
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
    faults: Dice,
    steering: Dice,
    /// For what the systems of hosts do.
    pub(crate) order: Dice,
    pipes: Pipes,
    /// Arrivals to come: when, in which order among those of the same time, and what.
    arrivals: BinaryHeap<Reverse<(u64, u64, u32)>>,
    launched: u64,
    flights: Flights,
    bindings: Bindings,
    pub(crate) groups: Groups,
    sockets: Vec<Socket>,
    free_sockets: Vec<u32>,
    /// Sockets of peers' own by their two addresses. Never walked.
    own: HashMap<(SocketAddr, SocketAddr), u32, BuildHasherDefault<SipHasher13>>,
    inboxes: Vec<Inbox>,
    counts: Counts,
}

/// Time, and what happens in it.
impl Network {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            schedule: Schedule::default(),
            links: Links::default(),
            log: EventLog::new(),
            mis_steer: Probability::default(),
            strays: Probability::default(),
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

    fn note(&mut self, kind: Kind, flight: u32, at_ns: u64, shard: u32) {
        let Flight { from, to, digest, ref bytes, .. } = *self.flights.get(flight);
        let len = bytes.len() as u32;
        self.log.add(&Event { at_ns, kind, from, to, len, digest, shard });
    }

    /// A number for what is to arrive: what arrives at the same time does so in the order of these.
    fn next_order(&mut self) -> u64 {
        self.launched += 1;
        self.launched - 1
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
        let Flight { from: remote, to, segment, ecn, arrived_ns, answers_from, .. } = *flight;
        self.flights.free(at);
        let (id, reports_local) = match &socket.owner {
            Owner::Shard { id, reports_local, .. } => (*id, *reports_local),
            Owner::Own(own) => (own.id, false),
            Owner::Raw { .. } | Owner::Closed => return None,
        };
        let group = Some(to.ip()).filter(|ip| is_for_many(*ip));
        let local = answers_from.filter(|_| reports_local);
        Some(Taken { socket: id, remote, local, group, segment, ecn, arrived_ns })
    }
}
