//! Peers and what becomes of them: their ends, their endpoints, what befell them.

use std::net::IpAddr;
use std::time::Instant;

use crate::api::handler::Handler;
use crate::api::io::Io;
use crate::time::pace::Pace;
use crate::turn::dispatch::Dispatch;
use crate::turn::panics::{Callback, Cause, drop_guarded};
use crate::types::datagram::{Path, SocketId};
use crate::types::error::{CloseReason, PeerError};
use crate::types::ids::PeerId;

/// Peers looked at in a turn for whether there is room again for what was refused, at most.
const LOOKED_AT_PER_TURN: usize = 1_024;

impl<H: Handler> Dispatch<H> {
    /// Closes the peers that callbacks asked to close, which may ask for more.
    #[cold]
    pub(crate) fn settle(&mut self) {
        // After a panic the rest is left to the fresh handler, which is told of every peer.
        while !self.panicked
            && let Some(peer) = self.io.closing.pop()
        {
            self.close(peer, CloseReason::Asked);
        }
    }

    /// Closes a peer and tells the handler.
    pub(crate) fn close(&mut self, peer: PeerId, why: CloseReason) {
        let path = self.io.routes.active_path(peer);
        if let Some(state) = self.take_peer(peer) {
            self.tell_closed(peer, state, why, path);
        }
    }

    /// Tells the handler of a closed peer, or has it told of when there is one that has not failed.
    fn tell_closed(&mut self, peer: PeerId, state: H::Peer, why: CloseReason, path: Option<Path>) {
        if self.panicked {
            self.orphans.push((peer, state, why));
        } else {
            self.call_once(Cause::Gone(path), |handler, cx| handler.on_closed(cx, peer, state, why));
        }
    }

    /// Begins with a handler that was just made.
    pub(crate) fn start(&mut self) {
        self.panicked = false;
        self.started = false;
        self.call_once(Cause::Own(Callback::Start), |handler, cx| handler.on_start(cx));
        self.started = !self.panicked;
    }

    /// Tells a handler of the peers that were closed while there was none. If it fails in turn, the rest wait for the
    /// next one.
    pub(crate) fn tell_of_orphans(&mut self) {
        for (peer, state, why) in std::mem::take(&mut self.orphans) {
            self.tell_closed(peer, state, why, None);
        }
        self.settle();
    }

    /// Takes a peer out of all tables, with its paths and timers.
    fn take_peer(&mut self, peer: PeerId) -> Option<H::Peer> {
        let state = self.peers.remove(peer)?;
        let Io { routes, sockets, timers, stats, .. } = &mut self.io;
        let (link, dial) = routes.get(peer).map_or((None, None), |route| (route.link(), route.dial()));
        if let Some(mut head) = routes.remove(peer, |socket| sockets.endpoints.path_left(socket)) {
            for timer in timers.take_all(&mut head) {
                drop_guarded(timer);
            }
        }
        stats.peers_closed.add(1);
        self.io.crowd.leave_reserve(peer.slot());
        if let Some(slot) = link {
            self.io.connected.unlink(slot);
        }
        if let Some(entry) = dial {
            self.io.dials.hang_up(&mut self.io.sockets.endpoints, entry);
        }
        Some(state)
    }

    /// Takes all peers out, for a handler that takes over from a failed one. Whoever comes again is not to suffer for
    /// what others of its address did.
    pub(crate) fn orphan_all_peers(&mut self) {
        for orphan in &mut self.orphans {
            orphan.2 = CloseReason::Restarted;
        }
        for slot in 0..self.peers.extent() {
            let Some(peer) = self.peers.in_slot(slot) else { continue };
            if let Some(path) = self.io.routes.active_path(peer) {
                self.panics.sources.spare(&path, self.io.time.now);
            }
            if let Some(state) = self.take_peer(peer) {
                self.orphans.push((peer, state, CloseReason::Restarted));
            }
        }
    }

    /// Drops the timers that no peer owns.
    pub(crate) fn drop_timers(&mut self) {
        for timer in self.io.timers.take_unowned() {
            drop_guarded(timer);
        }
    }

    /// Tells the handler of a group that was not joined or left.
    pub(crate) fn group_failed(&mut self) {
        if let Some((via, group, error)) = self.io.sockets.groups.failed.pop_front() {
            let cause = Cause::Own(Callback::GroupError);
            self.call(cause, |handler, cx| handler.on_group_error(cx, via, group, error));
        }
    }

    /// The driver has closed an endpoint: peers that answered along it are closed, others lose their paths
    /// on it. Its slot is free before handlers hear of it, so they may open another at once.
    pub(crate) fn endpoint_closed(&mut self, socket: SocketId) {
        let mut orphans = Vec::new();
        for peer in self.peers_on(socket) {
            orphans.extend(self.leave_endpoint(peer, socket));
        }
        self.io.sockets.vacate(socket);
        for (peer, state) in orphans {
            self.tell_closed(peer, state, CloseReason::EndpointClosed, None);
        }
        self.settle();
    }

    /// Takes a peer's paths off an endpoint, and the peer out if it answered along one of them.
    fn leave_endpoint(&mut self, peer: PeerId, socket: SocketId) -> Option<(PeerId, H::Peer)> {
        let dropped = self.io.routes.drop_paths_on(peer, socket);
        (0..dropped).for_each(|_| self.io.sockets.endpoints.path_left(socket));
        if self.lives_on(peer, socket) { Some((peer, self.take_peer(peer)?)) } else { None }
    }

    /// Tells every peer of an endpoint what befell it. A host may have no IPv6 and thousands of names to dial of which
    /// the first address is one, so a failure must not cost a look at each peer.
    pub(crate) fn endpoint_failed(&mut self, socket: SocketId, errno: i32) {
        for peer in self.peers_on(socket) {
            if self.lives_on(peer, socket)
                && !self.io.dials.attempt_failed(&self.io.routes, peer, PeerError::NotOpened { errno })
            {
                let cause = Cause::OwnPeer(Callback::PeerError, peer);
                self.call(cause, |handler, cx| {
                    handler.on_peer_error(cx, peer, PeerError::NotOpened { errno });
                });
            }
        }
    }

    fn peers_on(&self, endpoint: SocketId) -> Vec<PeerId> {
        let Io { sockets, routes, .. } = &self.io;
        let has_path = |peer| routes.has_path_on(peer, endpoint);
        let all = || (0..self.peers.extent()).filter_map(|at| self.peers.in_slot(at));
        sockets.endpoints.peers_on(endpoint, has_path, all)
    }

    fn lives_on(&self, peer: PeerId, endpoint: SocketId) -> bool {
        self.io.routes.active_path(peer).is_some_and(|path| path.socket == endpoint)
    }

    /// Tells peers of a local address that went that they are closed, in a slice of the table; where to go on, if there was
    /// no time, or no room in the outbox, for all of it.
    pub(crate) fn close_at(
        &mut self,
        slots: std::ops::Range<u32>,
        socket: SocketId,
        ip: IpAddr,
        pace: &mut Pace,
        clock: impl Fn() -> Instant,
    ) -> Option<u32> {
        pace.begin_by(&clock);
        for slot in slots {
            if !self.may_go_on() {
                return Some(slot);
            }
            let Some(peer) = self.peers.in_slot(slot) else { continue };
            let path = self.io.routes.active_path(peer);
            if path.is_some_and(|path| path.socket == socket && path.local.ip() == ip) {
                self.close(peer, CloseReason::AddressGone);
                self.settle();
                if !pace.goes_on_after_one(&clock) {
                    return Some(slot + 1);
                }
            }
        }
        pace.ends(&clock);
        None
    }

    /// Tells handlers whose sends were refused that there is room again.
    pub(crate) fn writable(&mut self) {
        let mut looks = LOOKED_AT_PER_TURN.min(self.io.sending.refused.to_look_at());
        while self.may_go_on()
            && let Some(peer) = self.io.sending.next_writable(&mut self.io.routes, &mut looks)
        {
            if self.peers.contains(peer) {
                let cause = Cause::Peer(Callback::Writable, peer);
                self.call(cause, |handler, cx| handler.on_writable(cx, peer));
            }
        }
    }

    /// Tells what befell a peer, now or when there is room for what that may cause. A turn has no more failures than
    /// datagrams in its outbox, so no more wait; beyond that they are told at once.
    #[cold]
    pub(super) fn befell(&mut self, peer: PeerId, error: PeerError) {
        let outbox = &self.io.sending.outbox;
        if !(outbox.is_crowded() && self.held.push_error(peer, error, outbox.most_datagrams())) {
            let cause = Cause::Peer(Callback::PeerError, peer);
            self.call(cause, |handler, cx| handler.on_peer_error(cx, peer, error));
        }
    }
}
