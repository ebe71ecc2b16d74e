//! What handlers do with peers, and how a peer that was opened stands in the model.

use shardgram_core::{DropPathError, Ecn, Path, PeerId, Tier};

use crate::actor::{Actor, Ours};
use crate::temper::Act;
use crate::world::{PeerModel, PeerState, Pending, way};

impl<H: Ours> Actor<'_, '_, H> {
    pub(super) fn close(&mut self, act: Act) {
        let chosen: Vec<PeerId> = match act {
            Act::Close => self.me.into_iter().collect(),
            Act::CloseOther if self.dice.one_in(3) => self.some_stale().into_iter().collect(),
            Act::CloseOther => self.some_open().into_iter().collect(),
            _ => self.cx.peers.iter().map(|(id, _)| id).filter(|_| self.dice.one_in(3)).collect(),
        };
        for peer in chosen {
            self.cx.io.close(peer);
            let here = self.is_here(peer);
            self.model.reached.note("close", if here { "open" } else { "stale" });
            if let Some(peer) = self.model.nodes[self.place.0].peers.get_mut(&peer).filter(|_| here) {
                peer.asked_to_close = true;
            }
        }
    }

    pub(super) fn change_tier(&mut self, act: Act) {
        let stale = self.dice.one_in(10);
        let chosen = if stale { self.some_stale() } else { self.me.or_else(|| self.some_open()) };
        let Some(peer) = chosen else { return };
        if act == Act::Promote {
            self.cx.io.promote(peer);
        } else {
            self.cx.io.demote(peer);
        }
        let tier = self.cx.io.tier(peer);
        let right = tier.is_some() == self.is_here(peer) || self.may_be_gone(peer);
        self.model.expect(right, || format!("the tier of {peer} is {tier:?}"));
        let name = match tier {
            None => "none",
            Some(Tier::Listener) => "Listener",
            Some(Tier::Connected) => "Connected",
        };
        self.model.reached.note(if act == Act::Promote { "promote" } else { "demote" }, name);
    }

    pub(super) fn mark_or_validate(&mut self, act: Act) {
        let Some(peer) = self.me.or_else(|| self.some_open()) else { return };
        let here = self.cx.peers.contains(peer);
        let ecn = *self.dice.pick(&[Ecn::NotEct, Ecn::Ect0, Ecn::Ect1, Ecn::Ce]).unwrap_or(&Ecn::NotEct);
        if act == Act::Mark {
            self.cx.io.set_ecn(peer, ecn);
            self.model.reached.note("set_ecn", "Ok");
            if let Some(peer) = self.model.nodes[self.place.0].peers.get_mut(&peer).filter(|_| here) {
                peer.mark = ecn;
            }
            return;
        }
        let heard = self.path.filter(|_| self.me == Some(peer) && self.dice.one_in(2));
        let path = heard.or_else(|| self.cx.io.path(peer));
        if heard.is_some() {
            let result = path.map(|path| self.cx.io.validated_path(peer, path));
            let right = result == Some(Ok(())) || self.may_be_gone(peer) || !here || self.is_dialed(peer);
            self.model.expect(right, || format!("{peer} was heard by {path:?}, which is none of its paths"));
            self.model.reached.note("validated_path", "Ok");
        } else {
            self.cx.io.validated(peer);
            self.model.reached.note("validated", "Ok");
        }
        if let Some(path) = path.filter(|_| here) {
            self.validated(peer, path);
        }
    }

    /// The address of one of a peer's paths is proven.
    fn validated(&mut self, peer: PeerId, path: Path) {
        let node = &mut self.model.nodes[self.place.0];
        if let Some(peer) = node.peers.get_mut(&peer) {
            peer.budgets.entry(way(path)).or_default().validated = true;
        }
        node.prove(peer);
    }

    fn is_dialed(&self, peer: PeerId) -> bool {
        self.model.nodes[self.place.0].peers.get(&peer).is_some_and(|p| p.dialed)
    }

    pub(super) fn use_path(&mut self, act: Act) {
        let Some(me) = self.me else { return };
        if act == Act::UseWrongPath {
            let other = self.some_open().filter(|other| *other != me);
            let Some(path) = other.and_then(|other| self.cx.io.path(other)) else { return };
            let result = self.cx.io.use_path(me, path);
            self.model.expect(result.is_err(), || format!("{me} was given the path of {other:?}"));
            return self.model.reached.note("use_path", "Gone");
        }
        let Some(path) = self.path else { return };
        let before = self.cx.io.path(me);
        let result = self.cx.io.use_path(me, path);
        let dialed = self.model.nodes[self.place.0].peers.get(&me).is_some_and(|p| p.dialed);
        let right = result.is_ok() || dialed;
        self.model.expect(right, || format!("{me} may not use the path it was heard on: {result:?}"));
        let peer = self.model.nodes[self.place.0].peers.get_mut(&me);
        let moved = peer.map(|peer| std::mem::replace(&mut peer.path, way(path))) != Some(way(path));
        self.model.reached.note("use_path", if moved { "moved" } else { "the same" });
        if let Some(before) = before.filter(|_| moved && !dialed && self.dice.one_in(2)) {
            self.drop_path(me, before, path);
        }
    }

    /// A peer that has moved gives up where it was.
    fn drop_path(&mut self, me: PeerId, before: Path, now: Path) {
        let results = [now, before, before].map(|path| self.cx.io.drop_path(me, path));
        let right = results == [Err(DropPathError::InUse), Ok(()), Err(DropPathError::Gone)];
        self.model.expect(right, || format!("{me} gave up {before:?} for {now:?}: {results:?}"));
        for result in results {
            let name = match result {
                Ok(()) => "Ok",
                Err(DropPathError::InUse) => "InUse",
                Err(_) => "Gone",
            };
            self.model.reached.note("drop_path", name);
        }
        if let Some(peer) = self.model.nodes[self.place.0].peers.get_mut(&me) {
            peer.budgets.remove(&way(before));
        }
    }

    pub(super) fn cookie(&mut self) {
        let Some(path) = self.path else { return };
        let cookie = self.cx.io.cookie(path);
        let mut other = path;
        other.remote.set_port(path.remote.port() ^ 1);
        let right = self.cx.io.verify(path, &cookie) && !self.cx.io.verify(other, &cookie);
        self.model
            .expect(right, || format!("the cookie of {path:?} does not hold, or holds for another path"));
        self.model.reached.note("cookie", "Ok");
        let (node, cookies) = (self.place.0, &mut self.model.cookies);
        cookies.insert(node, (path, cookie));
        // Also the one whose place it has taken: nobody may prove an address by what was said before a restart.
        let of_others: Vec<_> = cookies.iter().filter(|(other, _)| **other != node).collect();
        let held = of_others.into_iter().find(|(_, (path, cookie))| self.cx.io.verify(*path, cookie));
        let held = held.map(|(other, _)| *other);
        self.model
            .expect(held.is_none(), || format!("node {node} takes a cookie of node {held:?} for its own"));
        match self.me {
            Some(me) => self.validated(me, path),
            None => self.verified = true,
        }
    }

    /// A peer that a callback opened.
    pub(crate) fn opened(&mut self, peer: PeerId, from: Pending, own: bool) {
        let now = self.cx.io.now();
        let node = &mut self.model.nodes[self.place.0];
        let Pending { path, tag, mut allowance } = from;
        let path = way(path);
        allowance.validated |= own;
        let model = PeerModel {
            state: PeerState::Open,
            tag,
            asked_to_close: false,
            own,
            proven: false,
            perhaps_proven: false,
            budgets: [(path, allowance)].into(),
            last_seen: now,
            path,
            mark: Ecn::NotEct,
            refused: false,
            dialed: false,
        };
        let again = node.peers.insert(peer, model).is_some();
        let shard = &mut node.shards[usize::from(self.place.1)];
        shard.open += 1;
        // Some that are gone may not have been told yet.
        let (open, limit) = (self.cx.peers.len(), node.limits.peers);
        if allowance.validated {
            node.prove(peer);
        }
        self.model.expect(!again, || format!("{peer} names a second peer"));
        self.model.expect(open <= limit, || format!("{open} peers are open where {limit} may be"));
    }
}
