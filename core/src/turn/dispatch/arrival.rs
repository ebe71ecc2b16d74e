//! From an arrival to its callback: accounting, the peer table, the handler.

use std::net::{IpAddr, SocketAddr};

use crate::api::handler::Handler;
use crate::api::io::Io;
use crate::connected::links::State;
use crate::contract::driver::{Arrival, Fate, SendFailure, SendFault, Sink};
use crate::messages::mailbox::{Forwarded, Mail};
use crate::peers::idle::Gone;
use crate::turn::dispatch::Dispatch;
use crate::turn::panics::{Callback, Cause};
use crate::types::datagram::{Datagram, Path, ReceivedTrain, RxSlice, SocketId, datagrams_in};
use crate::types::error::PeerError;
use crate::types::flow::flow_shard;
use crate::types::ids::Origin;
use crate::types::ids::PeerId;

impl<H: Handler> Dispatch<H> {
    #[inline]
    pub(super) fn known(&self, path: &Path) -> Option<PeerId> {
        self.peers.in_slot(self.io.routes.find(path)?)
    }

    #[inline]
    pub(super) fn deliver(&mut self, peer: PeerId, datagram: Datagram<'_>) {
        self.heard_of(peer, datagram.path, 1, datagram.len());
        self.hand_to(peer, datagram);
    }

    /// So many datagrams and bytes came from a peer.
    #[inline]
    fn heard_of(&mut self, peer: PeerId, path: &Path, datagrams: usize, bytes: usize) {
        let Io { routes, sending, connected, crowd, time, .. } = &mut self.io;
        if sending.limits_amplification() {
            routes.earn(path, sending.earned(bytes));
        }
        if connected.promotes() {
            connected.warm(routes, peer, datagrams, *time);
        }
        let Some(route) = routes.get_mut(peer) else { return };
        route.last_seen = time.stamp;
        if route.may_rise(time.stamp) {
            crowd.heard_again(routes, peer, sending.outbox.turn(), *time);
        }
    }

    #[inline]
    pub(super) fn hand_to(&mut self, peer: PeerId, mut datagram: Datagram<'_>) {
        datagram.peer = Some(peer);
        self.io.stats.delivered.add(1);
        let cause = Cause::Datagram(Callback::Datagram, Some(peer), datagram.path);
        self.call(cause, |handler, cx| handler.on_datagram(cx, peer, datagram));
    }

    /// Whose own socket this is, unless it is on its way out.
    fn connected_by(&self, socket: SocketId) -> Option<PeerId> {
        let link = self.io.connected.links.get(socket.as_connected()?)?;
        if let State::Connected(peer) = link.state { Some(peer) } else { None }
    }

    /// The local address of an arrival: the socket's, or the one the kernel says.
    fn local_of(&self, arrival: &Arrival<'_>) -> Option<SocketAddr> {
        let bound = match arrival.socket.as_listener() {
            Some(index) => *self.io.sockets.listeners.get(usize::from(index))?,
            None => self.io.sockets.endpoints.bound_to(arrival.socket)?,
        };
        // Without a scope: that of a link-local peer stands in its own address.
        let local = SocketAddr::new(arrival.local.unwrap_or(bound.ip()), bound.port());
        (local.is_ipv4() == arrival.remote.is_ipv4()).then_some(local)
    }

    /// Whether it is a copy of a broadcast that another shard has too, and handles.
    #[cold]
    fn is_for_another(&self, arrival: &Arrival<'_>) -> bool {
        self.io.sockets.groups.copies
            && !self.io.sockets.groups.current.is_multicast()
            && arrival.socket.as_listener().is_some()
            && flow_shard(arrival.remote, self.io.shards()) != self.io.shard
    }

    /// What came by a peer's own socket. Whoever else it is from, it goes where it belongs: sockets that share
    /// a port catch others' datagrams for a moment on some systems. What the socket of a peer that was closed still holds
    /// goes by its path, as a stranger's.
    #[inline]
    fn by_own_socket(&mut self, slot: u32, count: u64, arrival: Arrival<'_>) {
        let Some(link) = self.io.connected.links.get(slot).copied() else {
            self.io.stats.dropped_closed.add(count);
            return;
        };
        if arrival.remote != link.path.remote {
            self.io.stats.redispatched.add(count);
            return self.train(Path { remote: arrival.remote, ..link.path }, None, arrival);
        }
        let owner = match link.state {
            State::Connected(peer) => Some(peer),
            State::Retiring | State::Vacant => None,
        };
        self.train(link.path, owner, arrival);
    }

    /// Each datagram of an arrival in turn, or what is left of it at once if its peer takes it so. A peer is looked
    /// up once for the whole train.
    fn train(&mut self, path: Path, known: Option<PeerId>, arrival: Arrival<'_>) {
        let Arrival { meta, segment, bytes, buffer, start, .. } = arrival;
        let at = Some(RxSlice { buffer, start, len: bytes.len() as u32 });
        if self.io.sending.outbox.is_crowded() {
            return self.hold(path, meta, segment, bytes);
        }
        if segment == 0 {
            let known = known.filter(|peer| self.peers.contains(*peer)).or_else(|| self.known(&path));
            return self.one(known, Datagram { path: &path, meta, peer: None, bytes, at });
        }
        let left = self
            .each_of(known, ReceivedTrain { path: &path, meta, peer: None, segment, bytes: &mut *bytes, at });
        if left > 0 {
            self.hold(path, meta, segment, &bytes[bytes.len() - left..]);
        }
    }

    /// The same; how many bytes of it have to wait.
    pub(super) fn each_of(&mut self, mut known: Option<PeerId>, mut train: ReceivedTrain<'_>) -> usize {
        let path = train.path;
        loop {
            if known.is_none_or(|peer| !self.peers.contains(peer)) {
                known = self.known(path);
            }
            if known.is_none()
                && !self.panicked
                && let Some(owner) = self.owner_elsewhere(path, train.meta)
            {
                if self.is_unfit(path, train.datagrams() as u64) {
                    return 0;
                }
                self.forward(owner, self.copy(*path, train.meta, train.segment, &train));
                return 0;
            }
            if let Some(peer) = known.filter(|_| H::WHOLE_TRAINS && self.takes_whole(&train)) {
                self.deliver_train(peer, train);
                return 0;
            }
            let Some(datagram) = train.take_first() else { break };
            self.one(known, datagram);
            if self.io.sending.outbox.is_crowded() | self.quota.cuts_trains() {
                return train.len();
            }
        }
        self.one(known, train.into_last());
        0
    }

    /// Whether what is left of a train is several datagrams, none of which is to be cut.
    #[inline]
    fn takes_whole(&self, train: &ReceivedTrain<'_>) -> bool {
        train.segment != 0
            && train.segment < train.len()
            && train.segment <= self.io.max_datagram
            && !self.panicked
    }

    /// One datagram, of which no more is handed over than was asked for.
    #[inline]
    pub(super) fn one(&mut self, known: Option<PeerId>, mut datagram: Datagram<'_>) {
        self.quota.count_one();
        if self.panicked {
            self.io.stats.dropped_panicked.add(1);
            return;
        }
        let whole = datagram.len();
        if whole > self.io.max_datagram {
            datagram.cut(self.io.max_datagram);
        }
        if datagram.meta.truncated_from.is_some() {
            self.io.stats.truncated.add(1);
        }
        match known {
            Some(peer) => self.deliver(peer, datagram),
            None => self.stranger(datagram),
        }
    }

    fn deliver_train(&mut self, peer: PeerId, mut train: ReceivedTrain<'_>) {
        self.quota.count_one();
        train.peer = Some(peer);
        let datagrams = train.datagrams();
        self.heard_of(peer, train.path, datagrams, train.len());
        self.io.stats.delivered.add(datagrams as u64);
        let cause = Cause::Datagram(Callback::Train, Some(peer), train.path);
        self.call(cause, |handler, cx| handler.on_train(cx, peer, train));
    }

    /// Something from the mailbox.
    pub(crate) fn mail(&mut self, mail: Mail<H::Message>) {
        match mail {
            Mail::Message(origin, message) => self.message(origin, message),
            Mail::Forward(forwarded) => self.forwarded(*forwarded),
        }
    }

    fn message(&mut self, origin: Origin, message: H::Message) {
        if !self.panicked {
            self.io.stats.messages.add(1);
        }
        self.call(Cause::Own(Callback::Message), |handler, cx| handler.on_message(cx, origin, message));
    }

    fn forwarded(&mut self, mut forwarded: Forwarded) {
        let Forwarded { path, meta, peer, segment, allowance, .. } = forwarded;
        let count = datagrams_in(forwarded.bytes.len(), segment) as u64;
        self.io.stats.forwarded_in.add(count);
        if self.panicked {
            return self.io.stats.dropped_panicked.add(count);
        }
        if let Some(group) = forwarded.group {
            self.io.sockets.groups.current = group;
        }
        self.io.sending.resume_stranger(&path, allowance);
        if segment != 0 {
            return self.each_of_kept(forwarded);
        }
        let bytes = &mut forwarded.bytes[..];
        let datagram = Datagram { path: &path, meta, peer: None, bytes, at: None };
        match (self.known(&path), peer) {
            (Some(known), _) => self.deliver(known, datagram),
            (None, Some(_)) if self.is_refused(&path) => self.io.stats.dropped_refused_source.add(1),
            (None, Some(peer)) => self.join_path(peer, datagram, false),
            (None, None) => self.admit(datagram),
        }
        self.io.sending.end_stranger();
    }
}

impl<H: Handler> Sink for Dispatch<H> {
    #[inline]
    fn datagram(&mut self, arrival: Arrival<'_>) -> Fate {
        let count = datagrams_in(arrival.bytes.len(), arrival.segment) as u64;
        self.arrivals += count;
        let stats = &self.io.stats;
        if arrival.meta.to_many && self.is_for_another(&arrival) {
            stats.broadcast_copies.add(count);
            return Fate { kept: 0, stop: false };
        }
        stats.received.add(count);
        stats.received_bytes.add(arrival.bytes.len() as u64);
        if count > 1 {
            stats.trains_received.add(1);
        }
        if arrival.remote.port() == 0 {
            stats.dropped_port_zero.add(count);
        } else if let Some(slot) = arrival.socket.as_connected() {
            self.by_own_socket(slot, count, arrival);
        } else if let Some(local) = self.local_of(&arrival) {
            let path = Path { local, remote: arrival.remote, socket: arrival.socket };
            self.train(path, None, arrival);
        } else {
            stats.dropped_malformed.add(count);
        }
        Fate { kept: self.io.sending.outbox.take_kept(), stop: !self.may_go_on() }
    }

    fn sent_to(&mut self, group: IpAddr) {
        self.io.sockets.groups.current = group;
    }

    fn too_late(&mut self, datagrams: u32) {
        self.arrivals += 1;
        self.io.stats.received.add(u64::from(datagrams));
        self.io.stats.dropped_closed.add(u64::from(datagrams));
    }

    fn malformed(&mut self) {
        self.arrivals += 1;
        self.io.stats.received.add(1);
        self.io.stats.dropped_malformed.add(1);
    }

    #[cold]
    fn control_cut(&mut self) {
        self.arrivals += 1;
        self.io.stats.received.add(1);
        self.io.stats.dropped_control_cut.add(1);
        if let Some(unsaid) = self.warned.control_cut.due(self.io.time.now) {
            tracing::warn!(
                unsaid,
                "what was received has been dropped: the kernel reported more of it than there is room for, so its length \
                 or its destination is not known; have the socket hook turn on fewer reports (IPV6_RECVHOPOPTS and the \
                 like have no bound)"
            );
        }
    }

    fn send_failed(&mut self, failure: SendFailure) {
        let stats = &self.io.stats;
        let counter = match failure.fault {
            SendFault::SocketFull => &stats.send_failed_full,
            SendFault::Peer(PeerError::Refused) => &stats.send_failed_refused,
            SendFault::Peer(PeerError::Unreachable) => &stats.send_failed_unreachable,
            SendFault::Peer(PeerError::TooLong { .. }) => &stats.send_failed_too_long,
            SendFault::Peer(_) => &stats.send_failed_other,
        };
        counter.add(u64::from(failure.datagrams));
        if let (Some(peer), SendFault::Peer(error)) = (failure.peer, failure.fault)
            && self.peers.contains(peer)
            && !self.io.dials.attempt_failed(&self.io.routes, peer, error)
        {
            self.befell(peer, error);
        }
    }

    fn train_refused(&mut self, peer: Option<PeerId>, segment: u32) {
        self.io.stats.trains_refused.add(1);
        if let Some(route) = peer.and_then(|peer| self.io.routes.get_mut(peer)) {
            route.train_refused(segment, self.io.time.stamp);
        }
    }

    fn retired(&mut self, socket: SocketId) {
        if let Some(slot) = socket.as_connected() {
            self.io.connected.links.vacate(slot);
        }
    }

    fn demote(&mut self, socket: SocketId) {
        if let Some(peer) = self.connected_by(socket) {
            // It did nothing to lose it for, so it earns another as any peer does.
            self.io.connected.cool_down(&mut self.io.routes, peer, 0);
        }
    }

    fn peer_error(&mut self, socket: SocketId, error: PeerError) {
        self.io.stats.peer_errors.add(1);
        if let Some(peer) = self.connected_by(socket) {
            self.befell(peer, error);
        }
    }

    fn address_gone(&mut self, socket: SocketId, ip: IpAddr) {
        self.gone.push(Gone { socket, ip, next_slot: 0 });
    }

    fn handover_timed_out(&mut self) {
        self.io.stats.handovers_timed_out.add(1);
    }

    fn rearmed(&mut self, exhausted: bool) {
        self.io.stats.rearmed.add(1);
        if exhausted {
            self.io.stats.buffers_exhausted.add(1);
            // What the kernel has kept meanwhile comes with the turn after the next, so this turn was not quiet.
            self.arrivals += 1;
        }
    }
}
