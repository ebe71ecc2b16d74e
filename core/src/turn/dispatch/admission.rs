//! Who is let in: strangers, newcomers to a full table, and what belongs to another shard.
//!
//! What a kernel steers is a hint: the owner of every unknown source is computed here, and what another shard owns is
//! handed to it, so a path has its peer on one shard whoever chose the socket.

use crate::api::context::Context;
use crate::api::handler::{Accept, Handler};
use crate::api::io::Io;
use crate::messages::mailbox::Forwarded;
use crate::peers::own_addresses::Unfit;
use crate::peers::routes::AddPath;
use crate::peers::standing::Standing;
use crate::turn::dispatch::Dispatch;
use crate::turn::panics::{Callback, Cause, drop_guarded, guarded};
use crate::types::datagram::{Datagram, Meta, Path, datagrams_in};
use crate::types::error::CloseReason;
use crate::types::flow::flow_shard;
use crate::types::ids::PeerId;

impl<H: Handler> Dispatch<H> {
    /// Whether what comes from a stranger along this path is dropped, because such made handlers panic.
    #[inline]
    pub(super) fn is_refused(&self, path: &Path) -> bool {
        let (sources, now) = (&self.panics.sources, self.io.time.now);
        !sources.are_none(now) && sources.has(path, now)
    }

    #[inline(never)]
    pub(super) fn stranger(&mut self, datagram: Datagram<'_>) {
        let socket = datagram.path.socket;
        if socket.as_endpoint().is_some() && !self.io.sockets.endpoints.takes_any_source(socket) {
            self.io.stats.dropped_foreign.add(1);
            return;
        }
        if self.is_unfit(datagram.path, 1) {
            return;
        }
        if let Some(owner) = self.owner_elsewhere(datagram.path, datagram.meta) {
            return self.forward_one(owner, None, &datagram);
        }
        self.admit(datagram);
    }

    /// Counts datagrams that came from where no peer can be: an answer would go to many hosts, or round and round in this
    /// process. Whether they did. Asked of strangers only, before anything is forwarded or `accept` is asked, so known peers
    /// pay nothing for it.
    pub(super) fn is_unfit(&mut self, path: &Path, datagrams: u64) -> bool {
        let bound = self.io.sockets.endpoints.bound_to(path.socket);
        match self.io.own.unfit(path, bound, self.io.time.now) {
            None => return false,
            // RFC 1122 section 4.1.3.6: "A UDP datagram received with an invalid IP source address (e.g., a broadcast or
            // multicast address) must be discarded by UDP or by the IP layer".
            Some(Unfit::NoHost) => self.io.stats.dropped_malformed.add(datagrams),
            Some(Unfit::Own) => self.came_from_here(path, datagrams),
        }
        true
    }

    #[cold]
    fn came_from_here(&mut self, path: &Path, datagrams: u64) {
        self.io.stats.dropped_own_source.add(datagrams);
        if let Some(unsaid) = self.warned.own_source.due(self.io.time.now) {
            tracing::warn!(
                source = %path.remote, local = %path.local, unsaid,
                "a datagram that says it comes from a listener of this process was dropped: it is forged, or another host \
                 has an address of this one; have a firewall drop what comes from the network with this host's addresses"
            );
        }
    }

    /// The shard that owns a path, if it is another one. Paths of endpoints are the endpoint's shard's, and what each
    /// shard hears of a group is its own.
    #[inline]
    pub(super) fn owner_elsewhere(&self, path: &Path, meta: Meta) -> Option<u16> {
        let owner = flow_shard(path.remote, self.io.post.shards());
        let elsewhere = owner != self.io.shard && path.socket.as_endpoint().is_none();
        (elsewhere && !(meta.to_many && self.io.sockets.groups.stays_here())).then_some(owner)
    }

    pub(super) fn admit(&mut self, mut datagram: Datagram<'_>) {
        if self.is_refused(datagram.path) {
            self.io.stats.dropped_refused_source.add(1);
            return;
        }
        self.io.sending.begin_stranger(datagram.path, datagram.len());
        self.io.crowd.forget_verified();
        let cause = Cause::Datagram(Callback::Accept, None, datagram.path);
        let mut decision = self.call_once(cause, |handler, cx| handler.accept(cx, &mut datagram));
        // Callbacks about what it closed may verify other paths.
        let verified = self.io.crowd.has_verified(datagram.path);
        self.close_asked();
        if self.panicked {
            // `accept` has decided, and then a peer that it closed had its last callback fail.
            drop_guarded(decision.take());
        }
        match decision {
            Some(Accept::Peer(state)) => drop(self.new_peer(state, datagram, verified)),
            Some(Accept::Connect(state)) => {
                if let Some(peer) = self.new_peer(state, datagram, verified) {
                    self.io.promote(peer);
                }
            }
            Some(Accept::Done) => self.io.stats.stateless.add(1),
            Some(Accept::Reply(len)) => self.reply_stateless(&datagram, len),
            Some(Accept::PathOf(peer)) => self.join_path(peer, datagram, verified),
            Some(Accept::Drop(reason)) => self.io.stats.refuse(reason),
            None => self.io.stats.dropped_panicked.add(1),
        }
        self.io.sending.end_stranger();
    }

    fn new_peer(&mut self, state: H::Peer, datagram: Datagram<'_>, verified: bool) -> Option<PeerId> {
        let crowded = self.known(datagram.path).is_none() && !self.make_room(datagram.path);
        if self.panicked {
            drop_guarded(state);
            self.io.stats.dropped_panicked.add(1);
            return None;
        }
        // `accept` may have opened a peer on this very path, or whoever was told that it is displaced; then that is the one,
        // and there is no second.
        if let Some(known) = self.known(datagram.path) {
            drop_guarded(state);
            self.deliver(known, datagram);
            return Some(known);
        }
        // What `accept` left of the amplification limit is the new peer's; it gains nothing twice.
        let allowance = self.io.sending.end_stranger().unwrap_or(0);
        let standing = if verified { Standing::Proven } else { Standing::New };
        let (peers, io) = (&mut self.peers, &mut self.io);
        let admitted = guarded(|| {
            if crowded { None } else { Context { peers, io }.admit(*datagram.path, state, standing) }
        });
        let Some(peer) = admitted.flatten() else {
            self.io.stats.dropped_peers_full.add(1);
            return None;
        };
        self.io.routes.earn(datagram.path, allowance);
        let Io { connected, routes, time, .. } = &mut self.io;
        connected.newcomer(routes, peer, *time);
        self.hand_to(peer, datagram);
        Some(peer)
    }

    fn reply_stateless(&mut self, datagram: &Datagram<'_>, len: usize) {
        self.io.stats.stateless.add(1);
        // Refusals are counted where they are made.
        let Io { sending, routes, time, .. } = &mut self.io;
        let _ = sending.reply_stateless(routes, datagram, len, time.stamp);
    }

    pub(super) fn join_path(&mut self, peer: PeerId, datagram: Datagram<'_>, verified: bool) {
        if let Some(known) = self.known(datagram.path) {
            return self.deliver(known, datagram);
        }
        if peer.shard() != self.io.shard && datagram.path.socket.as_endpoint().is_none() {
            return self.forward_one(peer.shard(), Some(peer), &datagram);
        }
        // An endpoint of one shard means nothing on another, so there such a path cannot be.
        match self.io.routes.add_path(peer, *datagram.path) {
            AddPath::Added { lost } => {
                self.others_receive |= self.owner_elsewhere(datagram.path, datagram.meta).is_some();
                let endpoints = &mut self.io.sockets.endpoints;
                if let Some(socket) = lost {
                    endpoints.path_left(socket);
                }
                endpoints.path_added(datagram.path.socket, peer);
                if verified {
                    let _ = self.io.validated_path(peer, *datagram.path);
                }
                self.deliver(peer, datagram);
            }
            AddPath::Full | AddPath::Gone => self.io.stats.dropped_paths_full.add(1),
        }
    }

    fn forward_one(&mut self, shard: u16, peer: Option<PeerId>, datagram: &Datagram<'_>) {
        let Datagram { path: &path, meta, .. } = *datagram;
        let allowance = self.io.sending.end_stranger();
        let (group, bytes) = (self.io.group(datagram.meta), datagram.bytes.to_vec());
        self.forward(shard, Forwarded { path, group, meta, peer, segment: 0, allowance, bytes });
    }

    /// Hands a datagram or a train to the shard it belongs to, a train as one. The path goes along as it is, since a
    /// listener's number means the same on every shard: the owner answers by its own socket of that address.
    pub(super) fn forward(&mut self, shard: u16, forwarded: Forwarded) {
        let count = datagrams_in(forwarded.bytes.len(), forwarded.segment) as u64;
        let postbox = self.io.post.postboxes.get(usize::from(shard));
        if postbox.is_some_and(|p| p.put_forward(forwarded)) {
            self.io.stats.forwarded_out.add(count);
            self.io.post.wake(shard);
        } else {
            self.io.stats.dropped_forward_full.add(count);
        }
    }

    /// Makes room for a newcomer, if the table is full, by closing a peer of which less is known. False if there is none.
    pub(crate) fn make_room(&mut self, path: &Path) -> bool {
        let ip = path.remote.ip();
        let Io { crowd, routes, .. } = &self.io;
        if crowd.is_full(routes, self.peers.len()) {
            let displaced = crowd.displaced(routes, ip).and_then(|slot| self.peers.in_slot(slot));
            let Some(displaced) = displaced else { return !self.io.routes.is_full() };
            self.displace(displaced);
        }
        true
    }

    #[cold]
    fn displace(&mut self, peer: PeerId) {
        let Io { crowd, routes, shard, time, .. } = &mut self.io;
        if let Some(since) = crowd.count_displaced(*time) {
            tracing::warn!(
                shard,
                peers = self.peers.len(),
                proven = routes.standings.kept(),
                displaced_since_last_warning = since,
                "the table of peers is full and newcomers displace peers of unproven address: raise max_peers, or have \
                 `accept` ask for a cookie while `Io::pressure` wants a proof"
            );
        }
        self.close(peer, CloseReason::Displaced);
    }
}
