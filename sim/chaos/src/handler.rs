//! Handlers that do anything a handler may, and compare what happens to them with the model.

use std::cell::RefMut;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use shardgram_core::flow::flow_shard;
use shardgram_core::{
    Accept, CloseReason, Context, Datagram, Drain, Ecn, Handler, Meta, Origin, Path, PeerError, PeerId,
    ReceivedTrain, ShardInfo,
};

use crate::acts::{Actor, Ours, send_outcome};
use crate::dice::Dice;
use crate::ledger::{Arrived, At, Receiver};
use crate::payload;
use crate::plan::Purpose;
use crate::world::{Decided, MAX_HOPS, Model, Note, PeerState, Pending, Tag, World, may_close};

/// What a handler panics with, by intent.
struct Planned;

/// A handler whose node, temper and fate stand in the model.
pub(crate) struct Chaotic<const WHOLE: bool> {
    world: World,
    place: (usize, u16),
}

impl<const WHOLE: bool> Chaotic<WHOLE> {
    /// What makes the handlers of a node; some panic, but never the first of a shard.
    pub(crate) fn factory(world: &World, node: usize) -> impl Fn(ShardInfo) -> Self + Clone + 'static {
        let world = World::clone(world);
        move |info| {
            let place = (node, info.shard);
            let mut model = world.borrow_mut();
            let (serial, panics) = (model.next_serial(), model.nodes[node].temper.panics);
            let shard = model.shard(place);
            shard.incarnation += 1;
            let again = shard.incarnation > 1;
            let mut dice = Dice::of(&[model.seed, Purpose::Callback as u64, serial]);
            if again && panics > 0 && dice.one_in(20) {
                model.reached.note("factory", "panicked");
                drop(model);
                std::panic::resume_unwind(Box::new(Planned));
            }
            model.shard(place).panicked = false;
            drop(model);
            Self { world: World::clone(&world), place }
        }
    }

    /// The beginning of every callback.
    fn enter(&self, callback: &'static str) -> RefMut<'_, Model> {
        let mut model = self.world.borrow_mut();
        model.reached.note("callback", callback);
        let shard = model.shard(self.place);
        let (panicked, ended) = (shard.panicked, shard.ended);
        // What `accept` asked to be closed is closed first.
        if !matches!(callback, "on_datagram" | "on_closed") {
            shard.pending = None;
        }
        let after_closed = std::mem::replace(&mut shard.after_closed, callback == "on_closed");
        if callback != "on_closed" {
            shard.decided = None;
            if !after_closed {
                shard.asked.clear();
            }
        }
        let place = self.place;
        model.expect(!panicked && !ended, || format!("{callback} on {place:?} after a panic or the end"));
        model
    }

    /// The end of a callback, which may be a panic.
    fn leave(&self, mut model: RefMut<'_, Model>, dice: &mut Dice) {
        let panics = model.nodes[self.place.0].temper.panics;
        if panics > 0 && !model.calm && dice.one_in(panics) {
            let shard = model.shard(self.place);
            shard.panic();
            drop(model);
            std::panic::resume_unwind(Box::new(Planned));
        }
    }

    fn dice(&self, model: &mut Model, key: Option<u64>) -> Dice {
        let key = key.unwrap_or_else(|| model.next_serial());
        let again = model.keys.entry(key).or_default();
        *again += 1;
        Dice::of(&[model.seed, Purpose::Callback as u64, key, *again])
    }

    fn actor<'a, 'c>(
        &self,
        model: &'a mut Model,
        cx: &'a mut Context<'c, Self>,
        dice: &Dice,
        hops: u8,
    ) -> Actor<'a, 'c, Self> {
        let (place, dice) = (self.place, dice.clone());
        Actor { model, cx, place, dice, hops, me: None, path: None, stranger: None }
    }

    /// Looks at a datagram that came to a peer, or, if there is none yet, to the handler.
    fn look(&self, model: &mut Model, peer: Option<PeerId>, path: Path, meta: Meta, bytes: &[u8]) -> u8 {
        let node = &model.nodes[self.place.0];
        let (limits, host) = (node.limits, node.host.clone());
        let at = match path.socket.as_listener() {
            Some(_) => At::Exactly(path.local),
            None => At::Host(&host),
        };
        let arrived = Arrived {
            receiver: peer.map_or(Receiver::Client, |peer| Receiver::Peer(self.place.0, peer)),
            from: path.remote,
            at,
            bytes,
            truncated_from: meta.truncated_from,
            ecn: limits.ecn.then_some(meta.ecn),
        };
        let hops = match model.ledger.arrived(&arrived, peer.is_some()) {
            Ok(hops) => hops,
            Err(what) => {
                model.fail(|| what);
                MAX_HOPS
            }
        };
        let place = self.place;
        let right = bytes.len() <= limits.datagram
            && (meta.truncated_from.is_some() == meta.truncated_from.is_some_and(|len| len > bytes.len()))
            && (limits.ecn || meta.ecn == Ecn::NotEct)
            && meta.kernel_time.is_some() == limits.times
            && path.remote.port() != 0;
        model.expect(right, || format!("a datagram of {} bytes with {meta:?} by {path:?}", bytes.len()));
        if meta.truncated_from.is_some() {
            model.reached.note("datagram", "truncated");
        }
        let shards = model.nodes[place.0].shards.len() as u16;
        let owner = flow_shard(path.remote, shards);
        let joined = peer.is_some_and(|peer| model.nodes[place.0].joined.contains(&peer));
        let ours = path.socket.as_endpoint().is_some() || owner == place.1 || joined;
        model.expect(ours, || format!("{path:?} belongs to shard {owner}, not to {place:?}"));
        hops
    }

    /// A peer that is heard: known, or the one that `accept` has just agreed to.
    fn heard(&self, actor: &mut Actor<'_, '_, Self>, from: PeerId, path: Path, bytes: &[u8]) {
        let place = self.place;
        let key = payload::number_of(bytes).map(|number| (number, path.remote, path.local));
        let left = key.and_then(|key| actor.model.nodes[place.0].left.remove(&key));
        let left = left.filter(|_| actor.model.ledger.at_most_once);
        let pending = actor.model.shard(place).pending.take();
        if !actor.model.nodes[place.0].peers.contains_key(&from) {
            match pending.filter(|pending| pending.path == path) {
                Some(pending) => actor.opened(from, pending, false),
                None => actor.model.fail(|| format!("{from} was not agreed to")),
            }
        } else {
            let limit = actor.model.nodes[place.0].limits.amplification;
            if let Some(peer) = actor.model.nodes[place.0].peers.get_mut(&from) {
                peer.earned += left.unwrap_or(limit * bytes.len() as u64);
            }
        }
        let now = actor.cx.io.now();
        let is = actor.cx.peers.get(from).copied();
        let node = &mut actor.model.nodes[place.0];
        let Some(peer) = node.peers.get_mut(&from) else { return };
        peer.last_seen = now;
        let (state, tag, active, dialed) = (peer.state, peer.tag, peer.path, peer.dialed);
        let right = state == PeerState::Open && is == Some(tag) && from.shard() == place.1;
        let told = actor.cx.io.path(from);
        let active = if dialed { told.unwrap_or(active) } else { active };
        actor
            .model
            .expect(right, || format!("a callback for {from}, which is {state:?} with {is:?}, not {tag:?}"));
        actor
            .model
            .expect(told == Some(active), || format!("{from} is answered along {told:?}, not {active:?}"));
        // Whoever is answered along this path would have got the datagram.
        let node = &actor.model.nodes[place.0];
        let others = node.open_peers(place.1).filter(|other| *other != from);
        let owner = others.into_iter().find(|other| actor.cx.io.path(*other) == Some(path));
        actor.model.expect(owner.is_none(), || format!("{from} got a datagram of {owner:?}"));
        actor.me = Some(from);
        actor.path = Some(path);
    }

    /// Replies in place, with all of it or with its beginning.
    fn reply(actor: &mut Actor<'_, '_, Self>, peer: PeerId, mut datagram: Datagram<'_>) {
        let path = datagram.path();
        let whole = datagram.len();
        let len = if actor.dice.one_in(4) { actor.dice.range(0..=whole as u64) as usize } else { whole };
        let number = actor.number();
        payload::fill(number, &mut datagram[..len]);
        if actor.dice.one_in(30) {
            let result = actor.cx.io.reply(datagram, whole + 1);
            return actor.judge("reply", (peer, Some(path)), (number, usize::MAX), result);
        }
        let result = actor.cx.io.reply(datagram, len);
        actor.judge("reply", (peer, Some(path)), (number, len), result);
    }

    /// What `accept` says, and what that means for the model.
    fn decide(actor: &mut Actor<'_, '_, Self>, first: &mut Datagram<'_>) -> Accept<Tag> {
        let (path, place) = (first.path(), actor.place);
        let weights = actor.model.nodes[place.0].temper.accepts;
        let (earned, spent) = actor.stranger.unwrap_or((0, 0));
        let choice = actor.dice.weighted(&weights);
        let names = ["Peer", "Connect", "Done", "Reply", "PathOf", "Drop"];
        let choice = if actor.may_go_on() { choice } else { [0, 5][choice % 2] };
        if choice != 4 {
            actor.model.reached.note("accept", names[choice]);
        }
        match choice {
            0 | 1 => {
                let tag = Tag(actor.model.next_serial());
                actor.model.shard(place).pending = Some(Pending { path, tag, earned, spent });
                if choice == 0 { Accept::Peer(tag) } else { Accept::Connect(tag) }
            }
            2 => {
                actor.model.shard(place).decide(Decided::Stateless);
                Accept::Done
            }
            3 => {
                let len = actor.dice.range(0..=first.len() as u64) as usize;
                let number = actor.number();
                payload::fill(number, &mut first[..len]);
                actor.model.shard(place).decide(Decided::Stateless);
                actor.maybe_sent(None, &path, (number, len));
                // More than there is sends what there is.
                Accept::Reply(if len == first.len() && actor.dice.one_in(2) { len + 9 } else { len })
            }
            4 => Self::path_of(actor, path),
            _ => {
                actor.model.shard(place).decide(Decided::Refused);
                Accept::Drop(["tired", "closed", "not today"][actor.dice.below(3) as usize])
            }
        }
    }

    fn path_of(actor: &mut Actor<'_, '_, Self>, path: Path) -> Accept<Tag> {
        let (node, shard) = actor.place;
        let all: Vec<PeerId> = actor.model.nodes[node].peers.keys().copied().collect();
        let chosen = match actor.dice.below(4) {
            0 => actor.some_stale(),
            _ => actor.dice.pick(&all).copied(),
        };
        let Some(peer) = chosen else {
            actor.model.shard(actor.place).decide(Decided::Refused);
            return Accept::Drop("nobody");
        };
        let name = match (actor.model.nodes[node].is_open(peer), peer.shard() == shard) {
            (true, true) => "PathOf a peer",
            (true, false) => "PathOf a peer elsewhere",
            (false, true) => "PathOf nobody",
            (false, false) => "PathOf nobody elsewhere",
        };
        actor.model.reached.note("accept", name);
        let model = &mut actor.model.nodes[node];
        model.joined.insert(peer);
        if usize::from(peer.shard()) >= model.shards.len() && path.socket.as_listener().is_some() {
            actor.model.shard(actor.place).decide(Decided::Nowhere);
        }
        Accept::PathOf(peer)
    }
}

impl<const WHOLE: bool> Handler for Chaotic<WHOLE> {
    type Peer = Tag;
    type Timer = u64;
    type Message = Note;

    const WHOLE_TRAINS: bool = WHOLE;

    fn accept(&mut self, cx: &mut Context<'_, Self>, first: &mut Datagram<'_>) -> Accept<Tag> {
        let mut model = self.enter("accept");
        let path = first.path();
        let hops = self.look(&mut model, None, path, first.meta(), first);
        let mut dice = self.dice(&mut model, payload::number_of(first));
        let limit = model.nodes[self.place.0].limits.amplification;
        let mut actor = self.actor(&mut model, cx, &dice, hops);
        actor.path = Some(path);
        actor.stranger = Some((limit * first.len() as u64, 0));
        actor.perform();
        // A panic leaves no decision, so it comes before there is one.
        let stranger = actor.stranger;
        if let (Some(number), Some((earned, spent))) = (payload::number_of(first), stranger) {
            actor.model.nodes[self.place.0]
                .left
                .insert((number, path.remote, path.local), earned.saturating_sub(spent));
        }
        dice = actor.dice.clone();
        self.leave(model, &mut dice);
        let mut model = self.world.borrow_mut();
        let mut actor = self.actor(&mut model, cx, &dice, hops);
        actor.stranger = stranger;
        Self::decide(&mut actor, first)
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, from: PeerId, datagram: Datagram<'_>) {
        let mut model = self.enter("on_datagram");
        model.shard(self.place).delivered += 1;
        let path = datagram.path();
        let hops = self.look(&mut model, Some(from), path, datagram.meta(), &datagram);
        let mut dice = self.dice(&mut model, payload::number_of(&datagram));
        let replies = dice.percent(model.nodes[self.place.0].temper.replies);
        let mut actor = self.actor(&mut model, cx, &dice, hops);
        self.heard(&mut actor, from, path, &datagram);
        let late = actor.dice.one_in(2);
        if late {
            actor.perform();
        }
        if replies && actor.may_go_on() {
            Self::reply(&mut actor, from, datagram);
        }
        if !late {
            actor.perform();
        }
        dice = actor.dice.clone();
        self.leave(model, &mut dice);
    }

    fn on_train(&mut self, cx: &mut Context<'_, Self>, from: PeerId, mut train: ReceivedTrain<'_>) {
        let mut model = self.enter("on_train");
        model.shard(self.place).delivered += train.datagrams() as u64;
        let (path, meta, segment) = (train.path(), train.meta(), train.segment());
        let mut hops = 0;
        for bytes in train.chunks(segment) {
            hops = hops.max(self.look(&mut model, Some(from), path, meta, bytes));
        }
        let mut dice = self.dice(&mut model, payload::number_of(&train));
        let replies = dice.percent(model.nodes[self.place.0].temper.replies);
        let mut actor = self.actor(&mut model, cx, &dice, hops);
        self.heard(&mut actor, from, path, &train);
        actor.perform();
        if replies && actor.may_go_on() && actor.dice.one_in(2) {
            let numbers: Vec<(u64, usize)> =
                train.chunks(segment).map(|bytes| (actor.number(), bytes.len())).collect();
            for (bytes, (number, _)) in train.chunks_mut(segment).zip(&numbers) {
                payload::fill(*number, bytes);
            }
            let result = actor.cx.io.reply_train(train);
            actor.model.reached.note("reply_train", send_outcome(&result));
            for sent in numbers {
                match result {
                    Ok(()) => actor.sent(Some(from), &path, sent),
                    Err(_) => actor.maybe_sent(Some(from), &path, sent),
                }
            }
        } else if replies {
            for datagram in train {
                if actor.may_go_on() {
                    Self::reply(&mut actor, from, datagram);
                }
            }
        }
        dice = actor.dice.clone();
        self.leave(model, &mut dice);
    }

    fn on_timer(&mut self, cx: &mut Context<'_, Self>, number: u64) {
        let mut model = self.enter("on_timer");
        let now = cx.io.now();
        let shard = model.shard(self.place);
        shard.fired += 1;
        let timer = shard.timers.remove(&number);
        let right = timer.is_some_and(|timer| timer.at <= now && timer.set < now);
        let place = self.place;
        model.expect(right, || format!("timer {number} of {place:?} fired, which is {timer:?}"));
        let Some(timer) = timer else { return };
        if let Some(peer) = timer.peer {
            model.reached.note("timer", "of a peer");
            let open = model.nodes[place.0].is_open(peer);
            model.expect(open, || format!("a timer of {peer} fired, which is not open"));
        }
        let mut dice = self.dice(&mut model, Some(number));
        let mut actor = self.actor(&mut model, cx, &dice, timer.hops);
        actor.me = timer.peer;
        actor.perform();
        dice = actor.dice.clone();
        self.leave(model, &mut dice);
    }

    fn on_message(&mut self, cx: &mut Context<'_, Self>, from: Origin, note: Note) {
        let mut model = self.enter("on_message");
        model.shard(self.place).messages += 1;
        let sender = match from {
            Origin::Shard(shard) => Some(shard),
            _ => None,
        };
        model.reached.note("message", if sender.is_some() { "of a shard" } else { "of a handle" });
        let mail = model.nodes[self.place.0].mail.entry((sender, self.place.1)).or_default();
        let next = mail.pop_front().map(|(note, _)| note);
        let place = self.place;
        model.expect(next == Some(note), || {
            format!("{place:?} got {note:?} of {from:?}, and {next:?} was next")
        });
        let mut dice = self.dice(&mut model, Some(note.number));
        let mut actor = self.actor(&mut model, cx, &dice, note.hops);
        actor.perform();
        dice = actor.dice.clone();
        self.leave(model, &mut dice);
    }

    fn on_writable(&mut self, cx: &mut Context<'_, Self>, peer: PeerId) {
        let mut model = self.enter("on_writable");
        let node = &mut model.nodes[self.place.0];
        let refused = node.peers.get_mut(&peer).map(|p| std::mem::take(&mut p.refused));
        let right = refused.is_some() && node.is_open(peer);
        model.expect(right, || format!("there is room for {peer}, which is not open"));
        let mut dice = self.dice(&mut model, None);
        let mut actor = self.actor(&mut model, cx, &dice, 3);
        actor.send(Some(peer));
        dice = actor.dice.clone();
        self.leave(model, &mut dice);
    }

    fn on_attempt(&mut self, cx: &mut Context<'_, Self>, peer: PeerId, remote: SocketAddr) {
        let mut model = self.enter("on_attempt");
        let path = cx.io.path(peer).filter(|path| path.remote == remote);
        let place = self.place;
        let node = &mut model.nodes[place.0];
        let known = node.peers.get_mut(&peer).filter(|p| p.dialed && p.state == PeerState::Open);
        let right = path.is_some() && known.is_some();
        if let (Some(known), Some(path)) = (known, path) {
            known.path = path;
        }
        model.expect(right, || format!("{peer} of {place:?} tries {remote}, along {path:?}"));
        let mut dice = self.dice(&mut model, None);
        let mut actor = self.actor(&mut model, cx, &dice, 2);
        actor.me = Some(peer);
        if actor.may_go_on() {
            actor.send(Some(peer));
        }
        actor.perform();
        dice = actor.dice.clone();
        self.leave(model, &mut dice);
    }

    fn on_peer_error(&mut self, cx: &mut Context<'_, Self>, peer: PeerId, error: PeerError) {
        let mut model = self.enter("on_peer_error");
        let open = model.nodes[self.place.0].is_open(peer) && cx.peers.contains(peer);
        model.expect(open, || format!("{peer} is told {error}, and is not open"));
        let name = match error {
            PeerError::Refused => "Refused",
            PeerError::Unreachable => "Unreachable",
            PeerError::TooLong { .. } => "TooLong",
            PeerError::NotOpened { .. } => "NotOpened",
            PeerError::Unresolved { .. } => "Unresolved",
            PeerError::NoAnswer { .. } => "NoAnswer",
            _ => "other",
        };
        model.reached.note("peer error", name);
        let mut dice = self.dice(&mut model, None);
        let mut actor = self.actor(&mut model, cx, &dice, 3);
        actor.me = Some(peer);
        actor.perform();
        dice = actor.dice.clone();
        self.leave(model, &mut dice);
    }

    fn on_closed(&mut self, cx: &mut Context<'_, Self>, peer: PeerId, state: Tag, why: CloseReason) {
        let mut model = self.enter("on_closed");
        if why != CloseReason::Asked {
            // It does not come of what `accept` has asked for, so that was over before.
            model.shard(self.place).decided = None;
        }
        let now = cx.io.now();
        let name = match why {
            CloseReason::Asked => "Asked",
            CloseReason::Idle => "Idle",
            CloseReason::EndpointClosed => "EndpointClosed",
            CloseReason::AddressGone => "AddressGone",
            CloseReason::Restarted => "Restarted",
            CloseReason::Drained => "Drained",
            _ => "other",
        };
        model.reached.note("closed", name);
        let place = self.place;
        let node = &model.nodes[place.0];
        let known = node.peers.get(&peer).map(|p| (p.state, p.tag, may_close(node, peer, why, now)));
        let stale = !cx.peers.contains(peer) && cx.io.path(peer).is_none();
        let expected = if why == CloseReason::Restarted { PeerState::Orphaned } else { PeerState::Open };
        let right = stale && known == Some((expected, state, true));
        model
            .expect(right, || format!("{peer} of {place:?} was closed as {why:?} with {state:?}: {known:?}"));
        if let Some(model) = model.nodes[place.0].peers.get_mut(&peer) {
            model.state = PeerState::Closed;
        }
        let shard = model.shard(place);
        shard.forget_timers_of(peer);
        if expected == PeerState::Open {
            shard.open = shard.open.saturating_sub(1);
        }
        let mut dice = self.dice(&mut model, None);
        let mut actor = self.actor(&mut model, cx, &dice, 3);
        // Its id is stale by now.
        actor.me = Some(peer);
        actor.perform();
        dice = actor.dice.clone();
        self.leave(model, &mut dice);
    }

    fn on_start(&mut self, cx: &mut Context<'_, Self>) {
        let mut model = self.enter("on_start");
        let place = self.place;
        let node = &mut model.nodes[place.0];
        let open: Vec<PeerId> = node.open_peers(place.1).collect();
        for peer in open {
            if let Some(model) = node.peers.get_mut(&peer) {
                model.state = PeerState::Orphaned;
            }
        }
        let opens = node.temper.opens_at_start;
        let shard = &mut node.shards[usize::from(place.1)];
        shard.open = 0;
        shard.drains = 0;
        shard.timers.clear();
        shard.endpoints.clear();
        let again = shard.incarnation > 1;
        let left = cx.peers.len();
        model.expect(left == 0, || format!("{left} peers were there before {place:?} began"));
        let mut dice = self.dice(&mut model, None);
        let mut actor = self.actor(&mut model, cx, &dice, 0);
        if opens {
            actor.open_endpoint();
            actor.open_by_endpoint();
            actor.perform();
        }
        dice = actor.dice.clone();
        // The first handler of a shard may not fail, or there is no server.
        if again {
            self.leave(model, &mut dice);
        }
    }

    fn on_turn_end(&mut self, cx: &mut Context<'_, Self>) {
        let mut model = self.enter("on_turn_end");
        let place = self.place;
        let (open, is) = (model.shard(place).open, cx.peers.len());
        model.expect(open == is, || format!("{place:?} has {is} peers, and {open} are known"));
        let mut dice = self.dice(&mut model, None);
        if dice.one_in(10) && !model.calm {
            // Each act may bring about another turn, and this must come to an end.
            model.budget = model.budget.saturating_sub(1);
            let mut actor = self.actor(&mut model, cx, &dice, 3);
            actor.perform();
            dice = actor.dice.clone();
            self.leave(model, &mut dice);
        }
    }

    fn on_drain(&mut self, cx: &mut Context<'_, Self>, deadline: Instant) -> Drain {
        let mut model = self.enter("on_drain");
        let place = self.place;
        let now = cx.io.now();
        let asked = model.nodes[place.0].ends_by.is_some_and(|by| deadline <= by);
        let shard = model.shard(place);
        shard.drains += 1;
        let right = asked && shard.drains == 1 && deadline + Duration::from_secs(10) > now;
        model.expect(right, || format!("{place:?} was asked to drain by {deadline:?}"));
        let mut dice = self.dice(&mut model, None);
        let patient = dice.percent(model.nodes[place.0].temper.patience);
        let mut actor = self.actor(&mut model, cx, &dice, 3);
        actor.perform();
        dice = actor.dice.clone();
        model.reached.note("on_drain", if patient { "WhenPeersGone" } else { "WhenIdle" });
        self.leave(model, &mut dice);
        if patient { Drain::WhenPeersGone } else { Drain::WhenIdle }
    }
}

const _: fn() = || {
    fn is_ours<H: Ours>() {}
    is_ours::<Chaotic<true>>();
};
