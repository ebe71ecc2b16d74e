//! How the network takes what is sent, and when that arrives, if it does.

use std::cmp::Reverse;
use std::net::{IpAddr, SocketAddr};

use shardgram_core::{Ecn, PathMtu, PeerError};

use crate::event_log::{Kind, NO_SHARD, digest};
use crate::link::LinkConfig;
use crate::nat::Translated;
use crate::network::Network;
use crate::notice::Notice;
use crate::socket::{Socket, cost};
use crate::wire::headers;

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
        let learned = self.notices.learned(from.ip(), to.ip(), self.now_ns());
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
        self.note(Kind::Sent, flight, self.now_ns(), NO_SHARD);
        let leaves_ns = if self.uplinks.any() { self.uplink(flight) } else { self.now_ns() };
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
            self.note(Kind::Duplicated, flight, self.now_ns(), NO_SHARD);
            let copy = self.flights.copy(flight);
            self.travel(copy, count, &link, leaves_ns);
        }
        self.travel(flight, count, &link, leaves_ns);
    }

    /// Has a translator write another source into something, if there is one. False if it does not pass.
    fn translate_out(&mut self, flight: u32) -> bool {
        let now_ns = self.now_ns();
        let sent = self.flights.get_mut(flight);
        match self.nats.outbound(sent.from, sent.to, now_ns) {
            Translated::Same => return true,
            Translated::Is(external) => sent.from = external,
            Translated::Refused => return false,
        }
        self.note(Kind::Translated, flight, self.now_ns(), NO_SHARD);
        true
    }

    /// Has a translator write the host inside into something that has arrived. False if it does not pass.
    pub(super) fn translate_in(&mut self, flight: u32, at_ns: u64) -> bool {
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
        self.uplinks.pass(sent.from.ip(), sent.wire_bytes(), self.now_ns())
    }

    /// When something has passed the narrow part of its link, if that takes it.
    fn pass(&mut self, flight: u32, link: &LinkConfig, leaves_ns: u64) -> Option<u64> {
        let Some(bandwidth) = link.bandwidth else { return Some(leaves_ns) };
        let sent = self.flights.get(flight);
        let way = (sent.from.ip(), sent.to.ip());
        self.pipes.pass(way, bandwidth, sent.wire_bytes(), leaves_ns)
    }

    fn drop_flight(&mut self, kind: Kind, flight: u32) {
        self.note(kind, flight, self.now_ns(), NO_SHARD);
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
            self.note(Kind::HeldBack, flight, self.now_ns(), NO_SHARD);
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
        let now_ns = self.now_ns();
        let Socket { send_buffer, send_limit_bytes, .. } = &mut self.sockets[socket as usize];
        send_buffer.has_room(*send_limit_bytes, now_ns)
    }

    /// A socket sent so many bytes from this address; they are its burden until the uplink has sent them.
    pub(crate) fn charge_send(&mut self, socket: u32, from: IpAddr, bytes: usize) {
        let leaves_ns = self.uplinks.idle_at(from, self.now_ns());
        if leaves_ns > self.now_ns() {
            self.sockets[socket as usize].send_buffer.charge(cost(bytes), leaves_ns);
        }
    }

    /// When a full socket takes something again.
    pub(crate) fn takes_at(&self, socket: u32) -> Option<u64> {
        let socket = &self.sockets[socket as usize];
        socket.send_buffer.room_at(socket.send_limit_bytes)
    }
}
