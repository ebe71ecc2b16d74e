//! What handlers do in callbacks, and what has to come of it.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use shardgram_core::datagram::{MAX_PAYLOAD_V6, SocketId};
use shardgram_core::flow::flow_shard;
use shardgram_core::{
    Context, Dial, DialError, Ecn, Endpoint, Handler, OpenError, Path, PeerId, SendError, Tier, Via,
};

use crate::dice::Dice;
use crate::ledger::{Copy, From};
use crate::payload;
use crate::plan::{Act, NAMES};
use crate::world::{EndpointModel, MAX_HOPS, Model, Note, PeerModel, PeerState, Pending, Tag, TimerModel};

/// Timers that a handler remembers, so that it may cancel them.
const REMEMBERED: usize = 64;

/// A handler of this crate.
pub(crate) trait Ours: Handler<Peer = Tag, Timer = u64, Message = Note> {}
impl<H: Handler<Peer = Tag, Timer = u64, Message = Note>> Ours for H {}

/// A callback at work.
pub(crate) struct Actor<'a, 'c, H: Ours> {
    pub(crate) model: &'a mut Model,
    pub(crate) cx: &'a mut Context<'c, H>,
    pub(crate) place: (usize, u16),
    pub(crate) dice: Dice,
    pub(crate) hops: u8,
    /// The peer the callback is about, and the path of the datagram.
    pub(crate) me: Option<PeerId>,
    pub(crate) path: Option<Path>,
    /// What the amplification limit leaves for answers to a stranger, and what was spent of it.
    pub(crate) stranger: Option<(u64, u64)>,
}

impl<H: Ours> Actor<'_, '_, H> {
    /// Does a few things, if there is still anything to be done in this run.
    pub(crate) fn perform(&mut self) {
        let temper = &self.model.nodes[self.place.0].temper;
        let (busy, acts) = (temper.busy, temper.acts.clone());
        for _ in 0..self.dice.range(0..=busy) {
            if self.may_go_on()
                && let Some(act) = self.dice.pick(&acts).copied()
            {
                self.act(act);
            }
        }
    }

    pub(crate) fn may_go_on(&self) -> bool {
        !self.model.calm && self.hops < MAX_HOPS && self.model.budget > 0
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Send => self.send(self.me),
            Act::SendToOther => {
                let other = self.some_open();
                self.send(other);
            }
            Act::SendToStale => {
                let stale = self.some_stale();
                self.send(stale);
            }
            Act::SendTooLong => self.send_too_long(),
            Act::Slot | Act::SlotDropped | Act::SlotTooLong => self.slot(act),
            Act::Share => self.share(),
            Act::ShareStale => self.share_stale(),
            Act::Close | Act::CloseOther | Act::CloseWhileWalking => self.close(act),
            Act::SetTimer => self.set_timer(None),
            Act::SetPeerTimer => self.set_peer_timer(),
            Act::Cancel => self.cancel(),
            Act::Tell | Act::TellNowhere => self.tell(act),
            Act::OpenEndpoint => self.open_endpoint(),
            Act::OpenByEndpoint => self.open_by_endpoint(),
            Act::OpenByListener => self.open_by_listener(),
            Act::OpenWrongly => self.open_wrongly(),
            Act::CloseEndpoint => self.close_endpoint(),
            Act::Promote | Act::Demote => self.change_tier(act),
            Act::Mark | Act::Validate => self.mark_or_validate(act),
            Act::UsePath | Act::UseWrongPath => self.use_path(act),
            Act::Cookie => self.cookie(),
            Act::Answer | Act::AnswerNobody => self.answer(act),
            Act::Dial => self.dial(),
            Act::Redial => self.redial(),
        }
    }

    pub(crate) fn number(&mut self) -> u64 {
        self.dice.number()
    }

    /// The length of a datagram: mostly the same, so that trains are made.
    pub(crate) fn length(&mut self) -> usize {
        let segment = self.model.nodes[self.place.0].temper.segment;
        match self.dice.below(10) {
            0..7 => segment,
            7 => self.dice.range(0..=16) as usize,
            8 => self.dice.below(segment as u64 + 1) as usize,
            _ => self.dice.range(1..=3_000) as usize,
        }
    }

    pub(crate) fn is_here(&self, peer: PeerId) -> bool {
        peer.shard() == self.place.1 && self.model.nodes[self.place.0].is_open(peer)
    }

    /// A peer whose endpoint was asked to be closed is gone before its handler hears of it.
    fn may_be_gone(&self, peer: PeerId) -> bool {
        let node = &self.model.nodes[self.place.0];
        let closing = node.shards[usize::from(self.place.1)].endpoints.iter().any(|e| e.closing);
        let on_endpoint = |p: &PeerModel| p.dialed || p.path.socket.as_endpoint().is_some();
        node.peers.get(&peer).is_some_and(|p| closing && on_endpoint(p))
    }

    fn some_open(&mut self) -> Option<PeerId> {
        let open: Vec<PeerId> = self.model.nodes[self.place.0].open_peers(self.place.1).collect();
        self.dice.pick(&open).copied()
    }

    /// An id that names nothing here: of a peer that is gone, or of another shard or node.
    pub(crate) fn some_stale(&mut self) -> Option<PeerId> {
        let node = self.dice.below(self.model.nodes.len() as u64) as usize;
        let ids: Vec<PeerId> = self.model.nodes[node].peers.keys().copied().collect();
        let stale: Vec<PeerId> = ids.into_iter().filter(|id| !self.is_here(*id)).collect();
        self.dice.pick(&stale).copied()
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

/// Sending.
impl<H: Ours> Actor<'_, '_, H> {
    pub(crate) fn send(&mut self, to: Option<PeerId>) {
        let Some(to) = to else { return };
        let (number, len) = (self.number(), self.length());
        let result = self.cx.io.send(to, &payload::of(number, len));
        self.judge("send", (to, None), (number, len), result);
    }

    fn send_too_long(&mut self) {
        let Some(to) = self.me else { return };
        let len = MAX_PAYLOAD_V6 + 1;
        let result = self.cx.io.send(to, &vec![0; len]);
        self.judge("send", (to, None), (0, len), result);
    }

    fn slot(&mut self, act: Act) {
        let Some(to) = self.me.or_else(|| self.some_open()) else { return };
        let (number, len) = (self.number(), self.length());
        let max = len + self.dice.below(100) as usize;
        let result = match self.cx.io.slot(to, max) {
            Err(error) => Err(error),
            Ok(slot) if act == Act::SlotDropped => {
                drop(slot);
                return self.model.reached.note("slot", "dropped");
            }
            Ok(slot) if act == Act::SlotTooLong => {
                let result = slot.commit(max + 1);
                let refused = matches!(result, Err(SendError::TooLong { .. }));
                self.model.expect(refused, || format!("more than a slot's room was committed: {result:?}"));
                return self.model.reached.note("slot", "too long");
            }
            Ok(mut slot) => {
                payload::fill(number, &mut slot[..len]);
                slot.commit(len)
            }
        };
        self.judge("slot", (to, None), (number, len), result);
    }

    fn share(&mut self) {
        let (number, len) = (self.number(), self.length());
        let Ok(shared) = self.cx.io.share(&payload::of(number, len)) else {
            return self.model.reached.note("share", "Full");
        };
        let everyone: Vec<PeerId> = self.cx.peers.iter().map(|(peer, _)| peer).collect();
        for peer in everyone {
            let result = self.cx.io.send_shared(peer, shared);
            self.judge("send_shared", (peer, None), (number, len), result);
        }
        let now = self.cx.io.now();
        self.model.shard(self.place).old_shared = Some((shared, now));
    }

    fn share_stale(&mut self) {
        let now = self.cx.io.now();
        let Some(to) = self.some_open() else { return };
        if let Some((shared, _)) = self.model.shard(self.place).old_shared.filter(|(_, then)| *then < now) {
            let result = self.cx.io.send_shared(to, shared);
            let stale = result == Err(SendError::Stale);
            self.model.expect(stale, || format!("a payload shared in an earlier turn was sent: {result:?}"));
            self.model.reached.note("send_shared", "Stale");
        }
    }

    fn answer(&mut self, act: Act) {
        let Some(mut path) = self.path else { return };
        if act == Act::AnswerNobody {
            path.remote.set_port(0);
            let result = self.cx.io.answer(path, b"");
            self.model.expect(result == Err(SendError::Gone), || format!("port 0 was answered: {result:?}"));
            return self.model.reached.note("answer", "Gone");
        }
        if let Some(target) = self.some_target(path.remote.is_ipv4())
            && self.dice.one_in(4)
        {
            path.remote = target;
        }
        let (number, len) = (self.number(), self.length());
        let result = self.cx.io.answer(path, &payload::of(number, len));
        self.judge_stateless(path, (number, len), result);
    }

    /// An address of this family that somebody has, or nobody.
    pub(crate) fn some_target(&mut self, v4: bool) -> Option<SocketAddr> {
        let targets: Vec<_> = self.model.targets.iter().filter(|t| t.is_ipv4() == v4).copied().collect();
        self.dice.pick(&targets).copied()
    }

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
                let unvalidated = node.peers.get(&to).is_some_and(|p| !p.validated);
                self.model.expect(limited && unvalidated, || format!("{to} may be sent {len} bytes"));
            }
            Err(SendError::NoAddress) => {
                let dialed = self.model.nodes[self.place.0].peers.get(&to).is_some_and(|p| p.dialed);
                self.model.expect(dialed, || format!("{to} has no address, and was not dialed"));
            }
            Err(SendError::Full) => {
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
            (Err(SendError::Full), Some((_, spent))) if limited => *spent += len as u64,
            (Err(_), _) => {}
        }
    }

    /// Enters what was queued.
    pub(crate) fn sent(&mut self, to: Option<PeerId>, path: &Path, (number, len): (u64, usize)) {
        let from = self.source(path);
        let node = &mut self.model.nodes[self.place.0];
        let limited = node.limits.amplification > 0;
        node.shards[usize::from(self.place.1)].queued += 1;
        let mut ecn = Ecn::NotEct;
        let mut more = false;
        if let Some(peer) = to.and_then(|to| node.peers.get_mut(&to)) {
            ecn = peer.mark;
            if limited && !peer.validated {
                peer.spent += len as u64;
                more = peer.spent > peer.earned;
            }
        }
        let debt =
            to.and_then(|to| self.model.nodes[self.place.0].peers.get(&to)).map(|p| (p.earned, p.spent));
        self.model.expect(!more, || {
            format!("{to:?} is not validated and was sent more than it may: {debt:?} {len}")
        });
        self.model.budget = self.model.budget.saturating_sub(1);
        let peer = to.map(|to| (self.place.0, to));
        let copy = Copy { from, to: path.remote, len, ecn, peer, hops: self.hops + 1 };
        self.model.ledger.sent(number, copy);
    }

    /// Enters what may have been queued.
    pub(crate) fn maybe_sent(&mut self, to: Option<PeerId>, path: &Path, (number, len): (u64, usize)) {
        let peer = to.and_then(|to| self.model.nodes[self.place.0].peers.get(&to));
        let ecn = peer.map_or(Ecn::NotEct, |peer| peer.mark);
        let from = self.source(path);
        self.model.shard(self.place).maybe_queued += 1;
        let copy = Copy { from, to: path.remote, len, ecn, peer: None, hops: self.hops + 1 };
        self.model.ledger.sent(number, copy);
    }
}

pub(crate) fn send_outcome(result: &Result<(), SendError>) -> &'static str {
    match result {
        Ok(()) => "Ok",
        Err(SendError::Gone) => "Gone",
        Err(SendError::Full) => "Full",
        Err(SendError::TooLong { .. }) => "TooLong",
        Err(SendError::Stale) => "Stale",
        Err(SendError::NoAddress) => "NoAddress",
        Err(SendError::Unvalidated { .. }) => "Unvalidated",
        Err(_) => "other",
    }
}

/// Peers.
impl<H: Ours> Actor<'_, '_, H> {
    fn close(&mut self, act: Act) {
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
            match self.model.nodes[self.place.0].peers.get_mut(&peer).filter(|_| here) {
                Some(peer) => peer.asked_to_close = true,
                None => self.model.shard(self.place).asked.push(peer),
            }
        }
    }

    fn change_tier(&mut self, act: Act) {
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

    fn mark_or_validate(&mut self, act: Act) {
        let Some(peer) = self.me.or_else(|| self.some_open()) else { return };
        let here = self.cx.peers.contains(peer);
        let ecn = *self.dice.pick(&[Ecn::NotEct, Ecn::Ect0, Ecn::Ect1, Ecn::Ce]).unwrap_or(&Ecn::NotEct);
        if act == Act::Mark {
            self.cx.io.set_ecn(peer, ecn);
            self.model.reached.note("set_ecn", "Ok");
        } else {
            self.cx.io.validated(peer);
            self.model.reached.note("validated", "Ok");
        }
        if let Some(peer) = self.model.nodes[self.place.0].peers.get_mut(&peer).filter(|_| here) {
            match act {
                Act::Mark => peer.mark = ecn,
                _ => peer.validated = true,
            }
        }
    }

    fn use_path(&mut self, act: Act) {
        let Some(me) = self.me else { return };
        if act == Act::UseWrongPath {
            let other = self.some_open().filter(|other| *other != me);
            let Some(path) = other.and_then(|other| self.cx.io.path(other)) else { return };
            let result = self.cx.io.use_path(me, path);
            self.model.expect(result.is_err(), || format!("{me} was given the path of {other:?}"));
            return self.model.reached.note("use_path", "Gone");
        }
        let Some(path) = self.path else { return };
        let result = self.cx.io.use_path(me, path);
        let dialed = self.model.nodes[self.place.0].peers.get(&me).is_some_and(|p| p.dialed);
        let right = result.is_ok() || dialed;
        self.model.expect(right, || format!("{me} may not use the path it was heard on: {result:?}"));
        let peer = self.model.nodes[self.place.0].peers.get_mut(&me);
        let moved = peer.map(|peer| std::mem::replace(&mut peer.path, path)) != Some(path);
        self.model.reached.note("use_path", if moved { "moved" } else { "the same" });
    }

    fn cookie(&mut self) {
        let Some(path) = self.path else { return };
        let cookie = self.cx.io.cookie(path);
        let mut other = path;
        other.remote.set_port(path.remote.port() ^ 1);
        let right = self.cx.io.verify(path, &cookie) && !self.cx.io.verify(other, &cookie);
        self.model
            .expect(right, || format!("the cookie of {path:?} does not hold, or holds for another path"));
        self.model.reached.note("cookie", "Ok");
    }

    /// A peer that a callback opened.
    pub(crate) fn opened(&mut self, peer: PeerId, from: Pending, validated: bool) {
        let now = self.cx.io.now();
        let node = &mut self.model.nodes[self.place.0];
        let Pending { path, tag, earned, spent } = from;
        let model = PeerModel {
            state: PeerState::Open,
            tag,
            asked_to_close: false,
            validated,
            earned,
            spent,
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
        self.model.expect(!again, || format!("{peer} names a second peer"));
        self.model.expect(open <= limit, || format!("{open} peers are open where {limit} may be"));
    }
}

/// Peers that handlers open, and their endpoints.
impl<H: Ours> Actor<'_, '_, H> {
    fn open(&mut self, via: Via, remote: SocketAddr) -> Result<PeerId, OpenError> {
        let tag = Tag(self.model.next_serial());
        let result = self.cx.open(via, remote, tag);
        let name = match result {
            Ok(_) => "Ok",
            Err(OpenError::TableFull) => "TableFull",
            Err(OpenError::InUse(_)) => "InUse",
            Err(OpenError::NoSuchEndpoint) => "NoSuchEndpoint",
            Err(OpenError::NoSuchListener(_)) => "NoSuchListener",
            Err(OpenError::PortZero) => "PortZero",
            Err(OpenError::NotHere { .. }) => "NotHere",
            Err(OpenError::FamilyMismatch) => "FamilyMismatch",
            Err(OpenError::Ending) => "Ending",
            Err(_) => "other",
        };
        self.model.reached.note("open", name);
        match result {
            Ok(peer) => match self.cx.io.path(peer) {
                Some(path) => self.opened(peer, Pending { path, tag, earned: 0, spent: 0 }, true),
                None => self.model.fail(|| format!("{peer} was opened and has no path")),
            },
            Err(OpenError::InUse(peer)) => {
                let here = self.is_here(peer);
                self.model.expect(here, || format!("a path belongs to {peer}, which is not open"));
            }
            Err(OpenError::NotHere { shard }) => {
                let owner = flow_shard(remote, self.cx.io.shards());
                let right = owner == shard && owner != self.place.1;
                self.model.expect(right, || format!("{remote} is said to belong to shard {shard}"));
            }
            Err(_) => {}
        }
        result
    }

    pub(crate) fn open_endpoint(&mut self) {
        let node = &self.model.nodes[self.place.0];
        let host = node.host.clone();
        let Some(ip) = self.dice.pick(&host).copied() else { return };
        let any: IpAddr = if ip.is_ipv4() { [0; 4].into() } else { [0_u16; 8].into() };
        let bind = match self.dice.below(6) {
            0 | 1 => SocketAddr::new(ip, 0),
            2 => SocketAddr::new(ip, 9_000 + self.dice.below(3) as u16),
            3 => SocketAddr::new([10, 77, 7, 7].into(), 0), // nobody's
            _ => SocketAddr::new(any, 0),
        };
        let endpoint = Endpoint::bound(bind).any_source(self.dice.percent(50));
        let result = self.cx.io.endpoint(endpoint);
        self.model.reached.note("endpoint", if result.is_ok() { "Ok" } else { "Full" });
        let node = &mut self.model.nodes[self.place.0];
        let limit = node.limits.endpoints;
        let shard = &mut node.shards[usize::from(self.place.1)];
        let open = shard.endpoints.iter().filter(|e| !e.closing).count();
        let (all, dialed) = (shard.endpoints.len(), node.dialed);
        match result {
            Ok(id) => {
                node.opened_endpoints = true;
                shard.endpoints.push(EndpointModel { id, bind, closing: false });
                self.model
                    .expect(open < limit, || format!("endpoint {open} was opened where {limit} may be"));
            }
            Err(_) => {
                self.model
                    .expect(all >= limit || dialed, || format!("there are {open} endpoints of {limit}"));
            }
        }
    }

    pub(crate) fn open_by_endpoint(&mut self) {
        let endpoints = self.model.shard(self.place).endpoints.clone();
        let Some(endpoint) = self.dice.pick(&endpoints).copied() else { return };
        if let Some(address) = self.cx.io.endpoint_address(endpoint.id)
            && address.port() != 0
            && self.dice.one_in(2)
            && self.model.targets.len() < 200
        {
            let host = &self.model.nodes[self.place.0].host;
            let ip = host.iter().copied().find(|ip| ip.is_ipv4() == address.is_ipv4());
            let ip = if address.ip().is_unspecified() { ip.unwrap_or(address.ip()) } else { address.ip() };
            self.model.targets.push(SocketAddr::new(ip, address.port()));
        }
        let Some(target) = self.some_target(endpoint.bind.is_ipv4()) else { return };
        let result = self.open(Via::Endpoint(endpoint.id), target);
        let closed = endpoint.closing && result != Err(OpenError::Ending);
        let right = closed == (result == Err(OpenError::NoSuchEndpoint));
        self.model.expect(right, || format!("{endpoint:?} was used: {result:?}"));
        if let Ok(peer) = result {
            self.send(Some(peer));
        }
    }

    fn open_by_listener(&mut self) {
        let listeners = self.cx.io.listeners().to_vec();
        let Some(mut local) = self.dice.pick(&listeners).copied() else { return };
        if local.ip().is_unspecified() {
            let host = self.model.nodes[self.place.0].host.clone();
            let own: Vec<_> = host.into_iter().filter(|ip| ip.is_ipv4() == local.is_ipv4()).collect();
            let Some(ip) = self.dice.pick(&own) else { return };
            local.set_ip(*ip);
        }
        // The stranger that is being looked at, too.
        let stranger = self.path.filter(|_| self.dice.one_in(3));
        let (local, remote) = match stranger.map(|path| (path.local, path.remote)) {
            Some(both) => both,
            None => match self.some_target(local.is_ipv4()) {
                Some(target) => (local, target),
                None => return,
            },
        };
        if let Ok(peer) = self.open(Via::Listener(local), remote) {
            self.send(Some(peer));
        }
    }

    fn open_wrongly(&mut self) {
        let listeners = self.cx.io.listeners().to_vec();
        let local = self.dice.pick(&listeners).copied();
        let (v4, v6): (SocketAddr, SocketAddr) = (([10, 9, 9, 9], 5).into(), ([0xfd00_u16; 8], 5).into());
        let result = match (self.dice.below(3), local) {
            (0, Some(local)) => {
                let zero = SocketAddr::new(v4.ip(), 0);
                (self.open(Via::Listener(local), zero), Err(OpenError::PortZero))
            }
            (1, Some(local)) if !local.ip().is_unspecified() => {
                let other = if local.is_ipv4() { v6 } else { v4 };
                (self.open(Via::Listener(local), other), Err(OpenError::FamilyMismatch))
            }
            _ => {
                let nobodys = SocketAddr::new([10, 77, 7, 7].into(), 1);
                (self.open(Via::Listener(nobodys), v4), Err(OpenError::NoSuchListener(nobodys)))
            }
        };
        let right = result.0 == result.1 || result.0 == Err(OpenError::Ending);
        self.model.expect(right, || format!("{:?}, not {:?}", result.0, result.1));
    }

    fn close_endpoint(&mut self) {
        let count = self.model.shard(self.place).endpoints.len() as u64;
        let chosen = self.dice.below(count) as usize;
        let Some(endpoint) = self.model.shard(self.place).endpoints.get_mut(chosen) else { return };
        let again = std::mem::replace(&mut endpoint.closing, true);
        let id = endpoint.id;
        self.cx.close_endpoint(id);
        self.model.reached.note("close_endpoint", if again { "again" } else { "Ok" });
        let address = self.cx.io.endpoint_address(id);
        self.model.expect(address.is_none(), || format!("a closed endpoint has the address {address:?}"));
    }
}

/// Peers that are known by their names.
impl<H: Ours> Actor<'_, '_, H> {
    fn dial(&mut self) {
        let name = self.dice.pick(&NAMES).copied().unwrap_or("nobody.test");
        let port = self.some_target(true).map_or(7_000, |target| target.port()).max(1);
        let Ok(dial) = Dial::to(name, port) else {
            return self.model.fail(|| format!("{name}:{port} is no host"));
        };
        let time = Duration::from_millis(self.dice.range(1..=30));
        let mut dial = dial.try_for(time).look_up_within(time);
        let endpoints = self.model.shard(self.place).endpoints.clone();
        if self.dice.one_in(3)
            && let Some(endpoint) = self.dice.pick(&endpoints)
        {
            dial = dial.via(endpoint.id);
        }
        let tag = Tag(self.model.next_serial());
        let result = self.cx.dial(dial, tag);
        self.model.reached.note("dial", dial_outcome(&result));
        let Ok(peer) = result else { return };
        let nowhere = SocketAddr::new([0; 4].into(), 0);
        let path = Path { local: nowhere, remote: nowhere, socket: SocketId::endpoint(0) };
        self.opened(peer, Pending { path, tag, earned: 0, spent: 0 }, true);
        let node = &mut self.model.nodes[self.place.0];
        (node.dialed, node.opened_endpoints) = (true, true);
        if let Some(peer) = node.peers.get_mut(&peer) {
            peer.dialed = true;
        }
    }

    fn redial(&mut self) {
        let Some(peer) = self.some_open() else { return };
        let result = self.cx.io.redial(peer);
        self.model.reached.note("redial", dial_outcome(&result));
        let dialed = self.model.nodes[self.place.0].peers.get(&peer).is_some_and(|p| p.dialed);
        let right = dialed || result.is_err();
        self.model.expect(right, || format!("{peer} was redialed, and never dialed"));
    }
}

fn dial_outcome<T>(result: &Result<T, DialError>) -> &'static str {
    match result {
        Ok(_) => "Ok",
        Err(DialError::TableFull) => "TableFull",
        Err(DialError::LookupsFull) => "LookupsFull",
        Err(DialError::NoSuchEndpoint) => "NoSuchEndpoint",
        Err(DialError::NotDialed) => "NotDialed",
        Err(DialError::Gone) => "Gone",
        Err(DialError::Ending) => "Ending",
        Err(_) => "other",
    }
}

/// Timers and messages.
impl<H: Ours> Actor<'_, '_, H> {
    fn set_peer_timer(&mut self) {
        let stale = self.dice.one_in(8);
        let peer = if stale { self.some_stale() } else { self.me.or_else(|| self.some_open()) };
        if peer.is_some() {
            self.set_timer(peer);
        }
    }

    fn set_timer(&mut self, peer: Option<PeerId>) {
        let now = self.cx.io.now();
        let micros = match self.dice.below(6) {
            0 => 0,
            1 | 2 => self.dice.below(50),
            3 | 4 => self.dice.below(20_000),
            _ => self.dice.below(5_000_000),
        };
        // Often the same time, so that several are due at once.
        let at =
            now + Duration::from_micros(if self.dice.one_in(2) { micros / 1_000 * 1_000 } else { micros });
        let number = self.model.next_serial();
        let result = match peer {
            Some(peer) => self.cx.io.set_peer_timer(peer, at, number),
            None => self.cx.io.set_timer(at, number),
        };
        let gone = peer.is_some_and(|peer| !self.is_here(peer));
        let may_be_gone = peer.is_some_and(|peer| self.may_be_gone(peer));
        let call = if peer.is_some() { "set_peer_timer" } else { "set_timer" };
        let name = match result {
            Ok(_) => "Ok",
            Err(_) if gone => "Gone",
            Err(_) => "Full",
        };
        self.model.reached.note(call, name);
        let limit = self.model.nodes[self.place.0].limits.timers;
        let hops = self.hops + 1;
        let shard = self.model.shard(self.place);
        let armed = shard.armed();
        let closing = shard.endpoints.iter().any(|e| e.closing);
        match result {
            Ok(id) => {
                shard.timers.insert(number, TimerModel { at, set: now, peer, hops });
                shard.timer_ids.push((id, number));
                if shard.timer_ids.len() > REMEMBERED {
                    shard.timer_ids.remove(0);
                }
                let right = !gone && (armed < limit || closing);
                self.model
                    .expect(right, || format!("timer {armed} of {peer:?} was set where {limit} may be"));
            }
            Err(_) => {
                let right = gone || may_be_gone || armed >= limit;
                self.model.expect(right, || {
                    format!("there are {armed} timers of {limit}, and no more for {peer:?}")
                });
            }
        }
    }

    fn cancel(&mut self) {
        let remembered = self.model.shard(self.place).timer_ids.clone();
        let Some((id, number)) = self.dice.pick(&remembered).copied() else { return };
        let result = self.cx.io.cancel(id);
        let model = self.model.shard(self.place).timers.remove(&number);
        self.model.reached.note("cancel", if result.is_some() { "Ok" } else { "None" });
        let went = model.and_then(|timer| timer.peer).is_some_and(|peer| self.may_be_gone(peer));
        let right = match result {
            Some(value) => model.is_some() && value == number,
            None => model.is_none() || went,
        };
        self.model.expect(right, || format!("timer {number} ({model:?}) was cancelled: {result:?}"));
    }

    fn tell(&mut self, act: Act) {
        let shards = self.cx.io.shards();
        if act == Act::TellNowhere {
            let result = self.cx.io.tell(shards, Note { number: 0, hops: 0 });
            self.model.reached.note("tell", "nowhere");
            return self.model.expect(result.is_err(), || "shard n of n took a message".to_owned());
        }
        // To several at once, so that several have to be woken.
        for _ in 0..self.dice.range(1..=3) {
            let to = self.dice.below(u64::from(shards)) as u16;
            let note = Note { number: self.model.next_serial(), hops: self.hops + 1 };
            let result = self.cx.io.tell(to, note);
            self.told(Some(self.place.1), to, note, result.is_ok());
        }
    }

    fn told(&mut self, from: Option<u16>, to: u16, note: Note, taken: bool) {
        self.model.reached.note("tell", if taken { "Ok" } else { "Full" });
        // Or shards that are woken by each other's messages would go on for ever.
        self.model.budget = self.model.budget.saturating_sub(1);
        let now = self.cx.io.now();
        self.model.told(self.place.0, (from, to), (note, now), taken);
    }
}
