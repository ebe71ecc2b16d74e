//! ICMP errors: what hosts and routers say of datagrams they could not pass on, and whom it reaches.
//!
//! As on real systems, only a socket that is connected hears of them; what they say of a path's MTU the whole
//! host keeps in mind.

use shardgram_core::PeerError;
use std::cmp::Reverse;

use crate::event_log::{Event, Kind, NO_SHARD};
use crate::link::LinkConfig;
use crate::nat::Translated;
use crate::network::Network;
use crate::notice::{MOST_WAITING, NOTICE, Notice};
use crate::socket::{News, Owner};
use crate::wire::headers;

impl Network {
    /// A router says something about a datagram. It stands in the middle of the link: the word is back when the
    /// datagram would have arrived.
    pub(super) fn router_tells(&mut self, notice: Notice, link: &LinkConfig) {
        if !link.silent {
            self.tell(notice, self.now_ns() + link.delay_ns);
        }
    }

    /// The host at which a datagram has arrived says something about it, by the link that leads back.
    pub(super) fn host_tells(&mut self, notice: Notice, at_ns: u64) {
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
        self.counts.errors_sent += 1;
        let at = self.notices.add(notice);
        let order = self.next_order();
        self.arrivals.push(Reverse((at_ns, order, at | NOTICE)));
    }

    /// An ICMP error has arrived at the host that sent the datagram.
    pub(super) fn notice_arrives(&mut self, at: u32, at_ns: u64) {
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
            Some((at, Owner::Raw { .. })) => self.notices.tell_raw(at, about, error),
            _ => {}
        }
        let code = match error {
            PeerError::TooLong { mtu } => mtu.unwrap_or(0) as u64,
            PeerError::Refused => 1,
            _ => 2,
        };
        self.log.add(&Event { at_ns, kind: Kind::Told, from: about, to, len: 0, digest: code, shard });
    }

    /// What a router does about a datagram that is too long for it; true if it is lost.
    pub(super) fn too_long_for_router(&mut self, flight: u32, link: &LinkConfig) -> bool {
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
