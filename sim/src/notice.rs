//! ICMP errors: what hosts and routers say of datagrams they could not pass on, and whom it reaches.
//!
//! As on real systems, only a socket that is connected hears of them; what they say of a path's MTU the whole
//! host keeps in mind.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};

use shardgram_core::PeerError;

use crate::event_log::{Event, Kind, NO_SHARD};
use crate::link::LinkConfig;
use crate::nat::Translated;
use crate::network::{Network, headers};
use crate::socket::{News, Owner};

/// Marks what arrives as a notice.
pub(crate) const NOTICE: u32 = 1 << 31;
/// Errors that wait in a raw socket, and for a shard.
const MOST_WAITING: usize = 1_024;
/// Path MTUs that are kept in mind.
const MOST_LEARNED: usize = 65_536;
/// How long: as Linux does (`mtu_expires`, ip-sysctl).
const LEARNED_FOR_NS: u64 = 600_000_000_000;

/// An ICMP error on its way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Notice {
    /// Who sent the datagram it is about, and where that was to go.
    pub(crate) to: SocketAddr,
    pub(crate) about: SocketAddr,
    pub(crate) error: PeerError,
}

#[derive(Debug, Default)]
pub(crate) struct Notices {
    all: Vec<Notice>,
    free: Vec<u32>,
    /// What hosts have learned: the MTU from an address to another, and until when they believe it.
    learned: BTreeMap<(IpAddr, IpAddr), (u16, u64)>,
    /// What raw sockets were told.
    raw: BTreeMap<u32, VecDeque<(SocketAddr, PeerError)>>,
}

impl Notices {
    fn add(&mut self, notice: Notice) -> u32 {
        match self.free.pop() {
            Some(at) => {
                self.all[at as usize] = notice;
                at
            }
            None => {
                self.all.push(notice);
                self.all.len() as u32 - 1
            }
        }
    }

    fn take(&mut self, at: u32) -> Notice {
        self.free.push(at);
        self.all[at as usize]
    }

    /// The MTU a host believes a path to have.
    pub(crate) fn learned(&self, from: IpAddr, to: IpAddr, now_ns: u64) -> Option<u16> {
        self.learned.get(&(from, to)).filter(|(_, until)| *until > now_ns).map(|(mtu, _)| *mtu)
    }

    fn learn(&mut self, from: IpAddr, to: IpAddr, mtu: u16, now_ns: u64) {
        if self.learned.len() >= MOST_LEARNED {
            self.learned.pop_first();
        }
        self.learned.insert((from, to), (mtu, now_ns + LEARNED_FOR_NS));
    }
}

impl Network {
    /// A router says something about a datagram. It stands in the middle of the link: the word is back when the
    /// datagram would have arrived.
    pub(crate) fn router_tells(&mut self, notice: Notice, link: &LinkConfig) {
        if !link.silent {
            self.tell(notice, self.now_ns() + link.delay_ns);
        }
    }

    /// The host at which a datagram has arrived says something about it, by the link that leads back.
    pub(crate) fn host_tells(&mut self, notice: Notice, at_ns: u64) {
        let (here, sender) = (notice.about.ip(), notice.to.ip());
        if self.links.between(sender, here).silent {
            return;
        }
        let back = *self.links.between(here, sender);
        let lost = back.cut || back.unreachable || self.partitions.parts(here, sender);
        if lost || self.faults.happens(back.loss) {
            return;
        }
        let jitter = if back.jitter_ns == 0 { 0 } else { self.faults.below(back.jitter_ns + 1) };
        self.tell(notice, at_ns + back.delay_ns + jitter);
    }

    /// Sends an ICMP error that arrives at this time.
    pub(crate) fn tell(&mut self, notice: Notice, at_ns: u64) {
        self.counts_mut().errors_sent += 1;
        let at = self.notices.add(notice);
        let order = self.next_order();
        self.arrivals.push(Reverse((at_ns, order, at | NOTICE)));
    }

    /// An ICMP error has arrived at the host that sent the datagram.
    pub(crate) fn notice_arrives(&mut self, at: u32, at_ns: u64) {
        let Notice { mut to, about, error } = self.notices.take(at & !NOTICE);
        let now_ns = self.now_ns();
        // What routers say a translator hands to whom it is about.
        match self.nats.inbound(to, None, now_ns) {
            Translated::Same => {}
            Translated::Is(inside) => to = inside,
            Translated::Refused => return,
        }
        if let PeerError::TooLong { mtu: Some(mtu) } = error
            && let Ok(mtu) = u16::try_from(mtu)
        {
            self.notices.learn(to.ip(), about.ip(), mtu, now_ns);
        }
        let own = self.own.get(&(to, about)).copied();
        let socket = own.or_else(|| self.bindings.group(to)?.socket(0));
        let mut shard = NO_SHARD;
        match socket.map(|at| (at, &self.sockets[at as usize].owner)) {
            Some((_, Owner::Own(own))) => {
                shard = own.shard;
                let news = News::Error(own.id, error);
                if self.inboxes[shard as usize].news.len() < MOST_WAITING {
                    self.bring_news(shard, news);
                }
            }
            Some((at, Owner::Raw { .. })) => {
                let heard = self.notices.raw.entry(at).or_default();
                if heard.len() < MOST_WAITING {
                    heard.push_back((about, error));
                }
            }
            _ => {}
        }
        let code = match error {
            PeerError::TooLong { mtu } => mtu.unwrap_or(0) as u64,
            PeerError::Refused => 1,
            _ => 2,
        };
        self.log.add(&Event { at_ns, kind: Kind::Told, from: about, to, len: 0, digest: code, shard });
    }

    /// The next error a raw socket was told of, and about whom.
    pub(crate) fn raw_error(&mut self, socket: u32) -> Option<(SocketAddr, PeerError)> {
        self.notices.raw.get_mut(&socket)?.pop_front()
    }

    /// What a router does about a datagram that is too long for it; true if it is lost.
    pub(crate) fn too_long_for_router(&mut self, flight: u32, link: &LinkConfig) -> bool {
        let Some(mtu) = link.router_mtu else { return false };
        let flight = self.flights.get(flight);
        let (to, about) = (flight.from, flight.to);
        let fits = flight.longest() + headers(about) <= usize::from(mtu);
        if fits || flight.may_fragment {
            return false;
        }
        self.router_tells(Notice { to, about, error: PeerError::TooLong { mtu: Some(mtu.into()) } }, link);
        true
    }
}
