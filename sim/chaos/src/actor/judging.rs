//! What sends come to, and what the model makes of it.

use shardgram_core::{Bound, Ecn, Path, PeerId, SendError};

use crate::actor::{Actor, Ours, send_outcome};
use crate::ledger::{Copy, From};
use crate::world::way;

impl<H: Ours> Actor<'_, '_, H> {
    /// What a send to a peer came to. `path` is the one it took, if that is not the peer's active one.
    pub(crate) fn judge(
        &mut self,
        call: &'static str,
        (to, path): (PeerId, Option<Path>),
        (number, len): (u64, usize),
        result: Result<(), SendError>,
    ) {
        let here = self.is_here(to);
        self.model.reached.note(call, send_outcome(&result));
        match result {
            Ok(()) => {
                self.model.expect(here, || format!("{call} to {to}, which names nobody, was taken"));
                if let Some(path) = path.or_else(|| self.cx.io.path(to)) {
                    self.sent(Some(to), &path, (number, len));
                }
            }
            Err(SendError::Gone) => {
                let gone = !here || self.may_be_gone(to);
                self.model.expect(gone, || format!("{call} to {to}, which is open, was refused as gone"));
            }
            Err(SendError::TooLong { max }) => {
                self.model.expect(len > max, || format!("{len} bytes are not longer than {max}"));
            }
            Err(SendError::Unvalidated { left }) => {
                let node = &self.model.nodes[self.place.0];
                let limited = node.limits.amplification > 0 && left < len;
                let along = path.or_else(|| self.cx.io.path(to));
                let allowance = along.and_then(|path| node.peers.get(&to)?.budgets.get(&way(path)).copied());
                // A path that was added to it may have been lost and added again.
                let unvalidated = !allowance.unwrap_or_default().validated || node.joined.contains(&to);
                self.model.expect(limited && unvalidated, || format!("{to} may be sent {len} bytes"));
            }
            Err(SendError::NoAddress) => {
                let dialed = self.model.nodes[self.place.0].peers.get(&to).is_some_and(|p| p.dialed);
                self.model.expect(dialed, || format!("{to} has no address, and was not dialed"));
            }
            Err(SendError::Full(bound)) => {
                self.refused(call, bound, 1);
                if let Some(peer) = self.model.nodes[self.place.0].peers.get_mut(&to) {
                    peer.refused = true;
                }
            }
            Err(error) => self.model.fail(|| format!("{call} to {to}: {error}")),
        }
    }

    pub(crate) fn judge_stateless(
        &mut self,
        path: Path,
        (number, len): (u64, usize),
        result: Result<(), SendError>,
    ) {
        self.model.reached.note("answer", send_outcome(&result));
        let limited = self.model.nodes[self.place.0].limits.amplification > 0;
        let own = self.path.filter(|own| *own == path).and(self.stranger.as_mut());
        match (result, own) {
            (Ok(()), Some((earned, spent))) => {
                *spent += len as u64;
                let more = limited && *spent > *earned;
                self.model.expect(!more, || format!("a stranger was answered with {len} bytes too many"));
                self.sent(None, &path, (number, len));
            }
            (Ok(()), None) => {
                let free = !limited || len == 0;
                self.model.expect(free, || format!("{len} bytes for an unvalidated stranger were taken"));
                self.sent(None, &path, (number, len));
            }
            (Err(SendError::Unvalidated { left }), own) => {
                let left_over = own.map_or(0, |(earned, spent)| earned.saturating_sub(*spent));
                let right = limited && left < len && left_over < len as u64;
                self.model.expect(right, || format!("a stranger was refused {len} bytes of {left}"));
            }
            // What the limit allowed is spent, though there was no room for it.
            (Err(SendError::Full(_)), Some((_, spent))) if limited => *spent += len as u64,
            (Err(_), _) => {}
        }
        if let Err(SendError::Full(bound)) = result {
            self.refused("answer", bound, 1);
        }
    }

    /// So many datagrams, or some of them, were refused for want of room.
    pub(crate) fn refused(&mut self, call: &'static str, bound: Bound, datagrams: u64) {
        let name = match bound {
            Bound::OutboxDatagrams => "outbox_datagrams",
            Bound::OutboxBytes => "outbox_bytes",
            Bound::PeerQueue => "send_queue_bytes",
            Bound::Backlog => "send_backlog_bytes",
            _ => "other",
        };
        self.model.reached.note("full", name);
        let limit = self.model.nodes[self.place.0].limits.queue;
        let begun = self.model.shard(self.place).begun;
        if let (Bound::OutboxDatagrams, Some(own)) = (bound, begun) {
            self.model.expect(own + datagrams > limit.div_ceil(2), || {
                format!("{call} was refused after {own} datagrams of the same callback, of {limit} in all")
            });
        }
    }

    /// Enters what was queued.
    pub(crate) fn sent(&mut self, to: Option<PeerId>, path: &Path, (number, len): (u64, usize)) {
        let from = self.source(path);
        let node = &mut self.model.nodes[self.place.0];
        let limited = node.limits.amplification > 0;
        let shard = &mut node.shards[usize::from(self.place.1)];
        shard.queued += 1;
        shard.begun = shard.begun.map(|own| own + 1);
        let mut ecn = Ecn::NotEct;
        let mut more = false;
        if let Some(peer) = to.and_then(|to| node.peers.get_mut(&to)) {
            ecn = peer.mark;
            let allowance = peer.budgets.entry(way(*path)).or_default();
            if limited && !allowance.validated && !peer.dialed {
                allowance.spent += len as u64;
                more = allowance.spent > allowance.earned;
            }
        }
        let peer = to.and_then(|to| self.model.nodes[self.place.0].peers.get(&to));
        let debt = peer.and_then(|peer| peer.budgets.get(&way(*path))).copied();
        self.model.expect(!more, || {
            format!("{to:?} is not validated and was sent more than it may: {debt:?} {len}")
        });
        self.model.budget = self.model.budget.saturating_sub(1);
        let peer = to.map(|to| (self.place.0, to));
        let copy = Copy { from, to: path.remote, len, ecn, peer, hops: self.hops + 1 };
        let now = self.cx.io.now();
        self.model.sent(now, number, copy);
    }

    /// Enters what may have been queued.
    pub(crate) fn maybe_sent(&mut self, to: Option<PeerId>, path: &Path, (number, len): (u64, usize)) {
        let peer = to.and_then(|to| self.model.nodes[self.place.0].peers.get(&to));
        let ecn = peer.map_or(Ecn::NotEct, |peer| peer.mark);
        let from = self.source(path);
        let shard = self.model.shard(self.place);
        shard.maybe_queued += 1;
        shard.begun = shard.begun.map(|own| own + 1);
        let copy = Copy { from, to: path.remote, len, ecn, peer: None, hops: self.hops + 1 };
        let now = self.cx.io.now();
        self.model.sent(now, number, copy);
    }

    /// From where a datagram along this path leaves.
    fn source(&self, path: &Path) -> From {
        match path.socket.as_listener() {
            None if path.local.ip().is_unspecified() => From::Host(self.place.0),
            None if path.local.port() == 0 => From::Ip(path.local.ip()),
            _ => From::Exactly(path.local),
        }
    }
}
