//! From an arrival to a callback: accounting, the peer table, admission, and the guard that keeps a
//! panicking handler from taking the shard with it.

use std::any::Any;
use std::net::{IpAddr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::config::TierPolicy;
use crate::context::{Context, Io};
use crate::datagram::{Datagram, Meta, Path, ReceivedTrain, RxSlice, SocketId, datagrams_in};
use crate::driver::{Arrival, Fate, SendFailure, SendFault, Sink};
use crate::error::{CloseReason, PeerError};
use crate::flow::flow_shard;
use crate::handler::{Accept, Handler, Origin};
use crate::idle::Gone;
use crate::links::State;
use crate::mailbox::{Forwarded, Mail};
use crate::multicast::is_for_many;
use crate::peers::{PeerId, Peers};
use crate::planted::{self, Fault};
use crate::routes::AddPath;

/// A shard's handler with all it works on.
pub(crate) struct Dispatch<H: Handler> {
    pub(crate) handler: H,
    pub(crate) peers: Peers<H::Peer>,
    pub(crate) io: Io<H>,
    /// A callback panicked: no other may run before the handler is replaced.
    pub(crate) panicked: bool,
    /// Datagrams handed over in this turn, and receives that ended for want of buffers.
    pub(crate) arrivals: u64,
    /// Peers that are closed and of which no handler has heard, because the last one failed.
    pub(crate) orphans: Vec<(PeerId, H::Peer)>,
    /// Local addresses that went and whose peers are being closed.
    pub(crate) gone: Vec<Gone>,
}

/// Runs a callback; a panic in it is reported and leaves `None`.
pub(crate) fn guarded<R>(what: impl FnOnce() -> R) -> Option<R> {
    match catch_unwind(AssertUnwindSafe(what)) {
        Ok(value) => Some(value),
        Err(payload) => {
            tracing::error!(panic = describe(payload.as_ref()), "a handler panicked and will be replaced");
            // A payload may panic when dropped, with another one; those are fewer still, so losing its memory is
            // the lesser evil.
            if let Err(another) = catch_unwind(AssertUnwindSafe(move || drop(payload))) {
                std::mem::forget(another);
            }
            None
        }
    }
}

fn describe(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

impl<H: Handler> Dispatch<H> {
    /// Calls the handler, unless it panicked before; then does what the callback asked to be done after.
    pub(crate) fn call<R>(&mut self, callback: impl FnOnce(&mut H, &mut Context<'_, H>) -> R) -> Option<R> {
        let result = self.call_once(callback);
        if !self.io.closing.is_empty() {
            self.settle();
        }
        result
    }

    #[inline]
    fn call_once<R>(&mut self, callback: impl FnOnce(&mut H, &mut Context<'_, H>) -> R) -> Option<R> {
        if self.panicked {
            // What the callback was to be given is the user's, and may panic when dropped.
            let _ = guarded(move || drop(callback));
            return None;
        }
        let Self { handler, peers, io, .. } = self;
        let result = guarded(|| callback(handler, &mut Context { peers, io }));
        self.panicked = result.is_none();
        result
    }

    /// Closes the peers that callbacks asked to close, which may ask for more.
    #[cold]
    fn settle(&mut self) {
        // After a panic the rest is left to the fresh handler, which is told of every peer.
        while !self.panicked
            && let Some(peer) = self.io.closing.pop()
        {
            self.close(peer, CloseReason::Asked);
        }
    }

    /// Closes a peer and tells the handler.
    pub(crate) fn close(&mut self, peer: PeerId, why: CloseReason) {
        if let Some(state) = self.take_peer(peer) {
            self.tell_closed(peer, state, why);
        }
    }

    /// Tells the handler of a closed peer, or has it told of when there is one that has not failed.
    fn tell_closed(&mut self, peer: PeerId, state: H::Peer, why: CloseReason) {
        if self.panicked {
            self.orphans.push((peer, state));
        } else {
            self.call_once(|handler, cx| handler.on_closed(cx, peer, state, why));
        }
    }

    /// Tells a fresh handler of the peers its predecessor lost. If it fails in turn, the rest wait for the
    /// next one.
    pub(crate) fn tell_of_orphans(&mut self) {
        for (peer, state) in std::mem::take(&mut self.orphans) {
            self.tell_closed(peer, state, CloseReason::Restarted);
        }
        self.settle();
    }

    /// Takes a peer out of all tables, with its paths and timers.
    fn take_peer(&mut self, peer: PeerId) -> Option<H::Peer> {
        let state = self.peers.remove(peer)?;
        let Io { routes, endpoints, timers, stats, .. } = &mut self.io;
        let (link, dial) = routes.get(peer).map_or((None, None), |route| (route.link(), route.dial()));
        if let Some(mut head) = routes.remove(peer, |socket| endpoints.path_left(socket)) {
            for timer in timers.take_all(&mut head) {
                let _ = guarded(move || drop(timer));
            }
        }
        stats.peers_closed.add(1);
        if let Some(slot) = link {
            self.io.unlink(slot);
        }
        if let Some(entry) = dial {
            self.io.hang_up(entry);
        }
        Some(state)
    }

    /// Takes all peers out, for a handler that takes over from a failed one.
    pub(crate) fn orphan_all_peers(&mut self) {
        for slot in 0..self.peers.extent() {
            if let Some(peer) = self.peers.in_slot(slot)
                && let Some(state) = self.take_peer(peer)
            {
                self.orphans.push((peer, state));
            }
        }
    }

    /// Drops the timers that no peer owns.
    pub(crate) fn drop_timers(&mut self) {
        for timer in self.io.timers.take_unowned() {
            let _ = guarded(move || drop(timer));
        }
    }

    /// Tells the handler of a group that was not joined or left.
    pub(crate) fn group_failed(&mut self) {
        if let Some((via, group, error)) = self.io.groups.failed.pop_front() {
            self.call(|handler, cx| handler.on_group_error(cx, via, group, error));
        }
    }

    /// The driver has closed an endpoint: peers that answered along it are closed, others lose their paths
    /// on it. Its slot is free before handlers hear of it, so they may open another at once.
    pub(crate) fn endpoint_closed(&mut self, slot: u32) {
        let mut orphans = Vec::new();
        for peer in self.peers_on(slot) {
            orphans.extend(self.leave_endpoint(peer, slot));
        }
        self.io.endpoints.vacate(slot);
        for (peer, state) in orphans {
            self.tell_closed(peer, state, CloseReason::EndpointClosed);
        }
        self.settle();
    }

    /// Takes a peer's paths off an endpoint, and the peer out if it answered along one of them.
    fn leave_endpoint(&mut self, peer: PeerId, slot: u32) -> Option<(PeerId, H::Peer)> {
        let dropped = self.io.routes.drop_paths_on(peer, SocketId::endpoint(slot));
        (0..dropped).for_each(|_| self.io.endpoints.path_removed(slot));
        if self.lives_on(peer, slot) { Some((peer, self.take_peer(peer)?)) } else { None }
    }

    /// Closes every peer.
    pub(crate) fn close_all(&mut self, why: CloseReason) {
        for slot in 0..self.peers.extent() {
            if let Some(peer) = self.peers.in_slot(slot) {
                self.close(peer, why);
            }
        }
        self.settle();
    }

    /// Tells every peer of an endpoint what befell it. A host may have no IPv6 and thousands of names to dial of which
    /// the first address is one, so a failure must not cost a look at each peer.
    pub(crate) fn endpoint_failed(&mut self, slot: u32, errno: i32) {
        for peer in self.peers_on(slot) {
            if self.lives_on(peer, slot) && !self.io.attempt_failed(peer, PeerError::NotOpened { errno }) {
                self.call(|handler, cx| handler.on_peer_error(cx, peer, PeerError::NotOpened { errno }));
            }
        }
    }

    fn peers_on(&self, endpoint: u32) -> Vec<PeerId> {
        let Io { endpoints, routes, .. } = &self.io;
        let has_path = |peer| routes.has_path_on(peer, SocketId::endpoint(endpoint));
        let all = || (0..self.peers.extent()).filter_map(|at| self.peers.in_slot(at));
        endpoints.peers_on(endpoint, has_path, all)
    }

    fn lives_on(&self, peer: PeerId, endpoint: u32) -> bool {
        self.io.routes.active_path(peer).is_some_and(|p| p.socket.as_endpoint() == Some(endpoint))
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
        self.call(|handler, cx| handler.on_message(cx, origin, message));
    }

    fn forwarded(&mut self, mut forwarded: Forwarded) {
        let Forwarded { path, meta, peer, segment, allowance, .. } = forwarded;
        let count = datagrams_in(forwarded.bytes.len(), segment) as u64;
        self.io.stats.forwarded_in.add(count);
        if self.panicked {
            return self.io.stats.dropped_panicked.add(count);
        }
        if let Some(group) = forwarded.group {
            self.io.groups.current = group;
        }
        self.io.stranger = allowance.map(|left| (path, left));
        let bytes = &mut forwarded.bytes[..];
        if segment != 0 {
            return self
                .each_of(None, ReceivedTrain { path: &path, meta, peer: None, segment, bytes, at: None });
        }
        let datagram = Datagram { path: &path, meta, peer: None, bytes, at: None };
        match (self.known(&path), peer) {
            (Some(known), _) => self.deliver(known, datagram),
            (None, Some(peer)) => self.join_path(peer, datagram),
            (None, None) => self.admit(datagram),
        }
        self.io.stranger = None;
    }

    #[inline]
    fn known(&self, path: &Path) -> Option<PeerId> {
        self.peers.in_slot(self.io.routes.find(path)?)
    }

    /// One datagram with the peer it belongs to, or with none known.
    #[inline]
    fn dispatch(&mut self, known: Option<PeerId>, datagram: Datagram<'_>) {
        match known {
            Some(peer) => self.deliver(peer, datagram),
            None => self.stranger(datagram),
        }
    }

    #[inline]
    fn deliver(&mut self, peer: PeerId, datagram: Datagram<'_>) {
        self.heard_of(peer, 1, datagram.len());
        self.hand_to(peer, datagram);
    }

    /// So many datagrams and bytes came from a peer.
    #[inline]
    fn heard_of(&mut self, peer: PeerId, datagrams: usize, bytes: usize) {
        let stamp = self.io.stamp;
        let gain = if self.io.amplification_limit == 0 { 0 } else { self.io.gain(bytes) };
        if self.io.tier_policy != TierPolicy::Listener {
            self.io.warm(peer, datagrams);
        }
        if let Some(route) = self.io.routes.get_mut(peer) {
            route.last_seen = stamp;
            route.allowance = route.allowance.saturating_add(gain);
        }
    }

    #[inline]
    fn hand_to(&mut self, peer: PeerId, mut datagram: Datagram<'_>) {
        datagram.peer = Some(peer);
        self.io.stats.delivered.add(1);
        self.call(|handler, cx| handler.on_datagram(cx, peer, datagram));
    }

    #[inline(never)]
    fn stranger(&mut self, datagram: Datagram<'_>) {
        if is_for_many(datagram.path.remote.ip()) {
            // RFC 1122 section 4.1.3.6: "A UDP datagram received with an invalid IP source address (e.g., a broadcast or
            // multicast address) must be discarded by UDP or by the IP layer". An answer would go to all of them.
            self.io.stats.dropped_malformed.add(1);
            return;
        }
        if let Some(slot) = datagram.path.socket.as_endpoint() {
            let welcome = self.io.endpoints.in_slot(slot).is_some_and(|e| e.takes_any_source());
            if !welcome {
                self.io.stats.dropped_foreign.add(1);
                return;
            }
        } else if let Some(owner) = self.owner_elsewhere(datagram.path, datagram.meta) {
            return self.forward_one(owner, None, &datagram);
        }
        self.admit(datagram);
    }

    /// The shard that owns a path, if it is another one. Paths of endpoints are the endpoint's shard's, and what each
    /// shard hears of a group is its own.
    #[inline]
    fn owner_elsewhere(&self, path: &Path, meta: Meta) -> Option<u16> {
        let owner = flow_shard(path.remote, self.io.shards());
        let elsewhere = owner != self.io.shard && path.socket.as_endpoint().is_none();
        (elsewhere && !(meta.to_many && self.io.groups.stays_here())).then_some(owner)
    }

    fn admit(&mut self, mut datagram: Datagram<'_>) {
        if self.io.amplification_limit != 0 {
            let allowance = u64::from(self.io.amplification_limit) * datagram.len() as u64;
            self.io.stranger = Some((*datagram.path, allowance));
        }
        let mut decision = self.call(|handler, cx| handler.accept(cx, &mut datagram));
        if self.panicked {
            // `accept` has decided, and then a peer that it closed had its last callback fail.
            let decided = decision.take();
            let _ = guarded(move || drop(decided));
        }
        match decision {
            Some(Accept::Peer(state)) => drop(self.new_peer(state, datagram)),
            Some(Accept::Connect(state)) => {
                if let Some(peer) = self.new_peer(state, datagram) {
                    self.io.promote(peer);
                }
            }
            Some(Accept::Done) => self.io.stats.stateless.add(1),
            Some(Accept::Reply(len)) => self.reply_stateless(&datagram, len),
            Some(Accept::PathOf(peer)) => self.join_path(peer, datagram),
            Some(Accept::Drop(reason)) => self.io.stats.refuse(reason),
            None => self.io.stats.dropped_panicked.add(1),
        }
        self.io.stranger = None;
    }

    fn new_peer(&mut self, state: H::Peer, datagram: Datagram<'_>) -> Option<PeerId> {
        // `accept` may have opened a peer on this very path; then that is the one, and there is no second.
        if let Some(known) = self.known(datagram.path) {
            let _ = guarded(move || drop(state));
            self.deliver(known, datagram);
            return Some(known);
        }
        // What `accept` left of the amplification limit is the new peer's; it gains nothing twice.
        let allowance = self.io.stranger.take().map_or(0, |(_, left)| left);
        let (peers, io) = (&mut self.peers, &mut self.io);
        let Some(peer) = guarded(|| Context { peers, io }.admit(*datagram.path, state)).flatten() else {
            self.io.stats.dropped_peers_full.add(1);
            return None;
        };
        if let Some(route) = self.io.routes.get_mut(peer) {
            route.allowance = allowance;
        }
        self.io.newcomer(peer);
        self.hand_to(peer, datagram);
        Some(peer)
    }

    fn reply_stateless(&mut self, datagram: &Datagram<'_>, len: usize) {
        self.io.stats.stateless.add(1);
        let len = len.min(datagram.len());
        // Refusals, by a full outbox or by the amplification limit, are counted where they are made.
        if self.io.stranger_allowed(datagram.path, len).is_ok()
            && let Ok(source) = self.io.source_of(datagram, len)
        {
            let _ = self.io.push_stateless(*datagram.path, source, len);
        }
    }

    fn join_path(&mut self, peer: PeerId, datagram: Datagram<'_>) {
        if let Some(known) = self.known(datagram.path) {
            return self.deliver(known, datagram);
        }
        let endpoint = datagram.path.socket.as_endpoint();
        if peer.shard() != self.io.shard && endpoint.is_none() {
            return self.forward_one(peer.shard(), Some(peer), &datagram);
        }
        // An endpoint of one shard means nothing on another, so there such a path cannot be.
        match self.io.routes.add_path(peer, *datagram.path) {
            AddPath::Added { lost } => {
                if let Some(slot) = lost.and_then(SocketId::as_endpoint) {
                    self.io.endpoints.path_removed(slot);
                }
                if let Some(slot) = endpoint {
                    self.io.endpoints.path_added(slot, peer);
                }
                self.deliver(peer, datagram);
            }
            AddPath::Full | AddPath::Gone if planted::is(Fault::MiscountedDrop) => {}
            AddPath::Full | AddPath::Gone => self.io.stats.dropped_paths_full.add(1),
        }
    }

    fn forward_one(&mut self, shard: u16, peer: Option<PeerId>, datagram: &Datagram<'_>) {
        let Datagram { path: &path, meta, .. } = *datagram;
        let allowance = self.io.stranger.take().map(|(_, left)| left);
        let (group, bytes) = (self.io.group(datagram), datagram.bytes.to_vec());
        self.forward(shard, Forwarded { path, group, meta, peer, segment: 0, allowance, bytes });
    }

    /// Hands a datagram or a train to the shard it belongs to.
    fn forward(&mut self, shard: u16, forwarded: Forwarded) {
        let count = datagrams_in(forwarded.bytes.len(), forwarded.segment) as u64;
        let postbox = self.io.postboxes.get(usize::from(shard));
        if postbox.is_some_and(|p| p.put_forward(forwarded)) {
            self.io.stats.forwarded_out.add(count);
            self.io.wake(shard);
        } else {
            self.io.stats.dropped_forward_full.add(count);
        }
    }

    /// The local address of an arrival: the socket's, or the one the kernel says.
    fn local_of(&self, arrival: &Arrival<'_>) -> Option<SocketAddr> {
        let bound = match arrival.socket.as_listener() {
            Some(index) => *self.io.listeners.get(usize::from(index))?,
            None => self.io.endpoints.in_slot(arrival.socket.as_endpoint()?)?.bind_address(),
        };
        // Without a scope: that of a link-local peer stands in its own address.
        let local = SocketAddr::new(arrival.local.unwrap_or(bound.ip()), bound.port());
        (local.is_ipv4() == arrival.remote.is_ipv4()).then_some(local)
    }

    /// Whether it is a copy of a broadcast that another shard has too, and handles.
    #[cold]
    fn is_for_another(&self, arrival: &Arrival<'_>) -> bool {
        self.io.groups.copies
            && !self.io.groups.current.is_multicast()
            && arrival.socket.as_listener().is_some()
            && flow_shard(arrival.remote, self.io.shards()) != self.io.shard
    }

    /// What came by a peer's own socket. Whoever else it is from, it goes where it belongs: sockets that share
    /// a port catch others' datagrams for a moment on some systems.
    #[inline]
    fn by_own_socket(&mut self, slot: u32, count: u64, arrival: Arrival<'_>) {
        let Some(link) = self.io.links.get(slot).copied() else {
            self.io.stats.dropped_closed.add(count);
            return;
        };
        if arrival.remote != link.path.remote {
            self.io.stats.redispatched.add(count);
            if planted::is(Fault::DroppedForeign) {
                return self.io.stats.dropped_foreign.add(count);
            }
            return self.train(Path { remote: arrival.remote, ..link.path }, None, arrival);
        }
        let owner = match link.state {
            State::Connected(peer) => Some(peer),
            State::Retiring | State::Vacant => None,
        };
        self.train(link.path, owner, arrival);
    }

    /// Tells peers of a local address that went that they are closed, in a slice of the table.
    pub(crate) fn close_at(&mut self, slots: std::ops::Range<u32>, socket: SocketId, ip: IpAddr) {
        for slot in slots {
            let Some(peer) = self.peers.in_slot(slot) else { continue };
            let path = self.io.routes.active_path(peer);
            if path.is_some_and(|path| path.socket == socket && path.local.ip() == ip) {
                self.close(peer, CloseReason::AddressGone);
            }
        }
        self.settle();
    }

    /// Tells handlers whose sends were refused that there is room again.
    pub(crate) fn writable(&mut self) {
        for peer in self.io.take_writable() {
            if self.peers.contains(peer) {
                self.call(|handler, cx| handler.on_writable(cx, peer));
            }
        }
    }

    /// Each datagram of an arrival in turn, or what is left of it at once if its peer takes it so. A peer is looked
    /// up once for the whole train.
    fn train(&mut self, path: Path, known: Option<PeerId>, arrival: Arrival<'_>) {
        let Arrival { meta, segment, bytes, buffer, start, .. } = arrival;
        let at = Some(RxSlice { buffer, start, len: bytes.len() as u32 });
        if segment == 0 {
            let known = known.filter(|peer| self.peers.contains(*peer)).or_else(|| self.known(&path));
            return self.one(known, Datagram { path: &path, meta, peer: None, bytes, at });
        }
        self.each_of(known, ReceivedTrain { path: &path, meta, peer: None, segment, bytes, at });
    }

    fn each_of(&mut self, mut known: Option<PeerId>, mut train: ReceivedTrain<'_>) {
        let path = *train.path;
        loop {
            if known.is_none_or(|peer| !self.peers.contains(peer)) {
                known = self.known(&path);
            }
            if known.is_none()
                && !self.panicked
                && let Some(owner) = self.owner_elsewhere(&path, train.meta)
            {
                let ReceivedTrain { meta, segment, bytes, .. } = train;
                let (group, bytes) = (self.io.groups.of(meta), bytes.to_vec());
                // No part of it has been seen by `accept`.
                let (peer, allowance) = (None, None);
                return self.forward(owner, Forwarded { path, group, meta, peer, segment, allowance, bytes });
            }
            if let Some(peer) = known.filter(|_| H::WHOLE_TRAINS && self.takes_whole(&train)) {
                return self.deliver_train(peer, train);
            }
            let Some(datagram) = train.take_first() else { break };
            self.one(known, datagram);
        }
        self.one(known, train.into_last());
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
    fn one(&mut self, known: Option<PeerId>, mut datagram: Datagram<'_>) {
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
        self.dispatch(known, datagram);
    }

    fn deliver_train(&mut self, peer: PeerId, mut train: ReceivedTrain<'_>) {
        train.peer = Some(peer);
        let datagrams = train.datagrams();
        self.heard_of(peer, datagrams, train.len());
        self.io.stats.delivered.add(datagrams as u64);
        self.call(|handler, cx| handler.on_train(cx, peer, train));
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
        Fate { kept: self.io.outbox.take_kept(), stop: self.panicked }
    }

    fn sent_to(&mut self, group: IpAddr) {
        self.io.groups.current = group;
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
            && !self.io.attempt_failed(peer, error)
        {
            self.call(|handler, cx| handler.on_peer_error(cx, peer, error));
        }
    }

    fn train_refused(&mut self, peer: Option<PeerId>, segment: u32) {
        self.io.stats.trains_refused.add(1);
        if let Some(route) = peer.and_then(|peer| self.io.routes.get_mut(peer)) {
            route.train_refused(segment);
        }
    }

    fn retired(&mut self, socket: SocketId) {
        if let Some(slot) = socket.as_connected() {
            self.io.links.vacate(slot);
        }
    }

    fn peer_error(&mut self, socket: SocketId, error: PeerError) {
        self.io.stats.peer_errors.add(1);
        let link = socket.as_connected().and_then(|slot| self.io.links.get(slot));
        if let Some(State::Connected(peer)) = link.map(|link| link.state) {
            self.call(|handler, cx| handler.on_peer_error(cx, peer, error));
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
