//! Handlers that do anything a handler may, and compare what happens to them with the model.

mod answer;
mod begin_and_end;
mod look;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use shardgram_core::{
    Accept, AfterPanic, CloseReason, Context, Datagram, Drain, Handler, JoinError, Membership, Origin,
    PeerError, PeerId, ReceivedTrain, SendError, Via,
};

use crate::actor::{Ours, send_outcome};
use crate::payload;
use crate::world::{By, Note, PeerState, Tag, World, may_close, way};

/// What is kept when a handler panics.
const CHOICES: [AfterPanic; 3] = [AfterPanic::Restart, AfterPanic::KeepPeers, AfterPanic::ClosePeer];
/// The one with which the handler itself is.
const SAME_HANDLER: u8 = 2;

/// A handler whose node, temper and fate stand in the model.
pub(crate) struct Chaotic<const WHOLE: bool, const KEEPS: u8> {
    world: World,
    place: (usize, u16),
}

/// Closings in a turn of a shard after which handlers do nothing more in one: each may bring about more, and this must come to
/// an end.
const MOST_CLOSINGS: u32 = 100;

impl<const WHOLE: bool, const KEEPS: u8> Handler for Chaotic<WHOLE, KEEPS> {
    type Peer = Tag;
    type Timer = u64;
    type Message = Note;

    const WHOLE_TRAINS: bool = WHOLE;
    const AFTER_PANIC: AfterPanic = CHOICES[KEEPS as usize];

    fn accept(&mut self, cx: &mut Context<'_, Self>, first: &mut Datagram<'_>) -> Accept<Tag> {
        let mut model = self.enter(cx.io.now(), "accept");
        let path = first.path();
        let group = cx.io.group(first.meta());
        let hops = self.look(&mut model, None, path, (first.meta(), group), first);
        let (place, refused) = (self.place, model.shard(self.place).refuses(&path, cx.io.now()));
        model.expect(!refused, || format!("{place:?} was given what came along {path:?}, which is refused"));
        let node = &model.nodes[self.place.0];
        // One that the node has not at every moment may have been a stranger's when it was looked at.
        let own = node.listens_at(cx.io.listeners(), path.remote) && !node.lost.contains(&path.remote.ip());
        model.expect(!own, || format!("a handler was asked about {path:?}, where its own node listens"));
        let mut dice = self.dice(&mut model, payload::number_of(first));
        let limit = model.nodes[self.place.0].limits.amplification;
        let mut actor = self.actor(&mut model, cx, &dice, hops);
        actor.path = Some(path);
        actor.stranger = Some((limit * first.len() as u64, 0));
        actor.perform();
        // A panic leaves no decision, so it comes before there is one.
        let (stranger, verified) = (actor.stranger, actor.verified);
        // Of what was sent to a group another shard may have another copy at the same time.
        if let (Some(number), Some((earned, spent)), None) = (payload::number_of(first), stranger, group) {
            actor.model.nodes[self.place.0]
                .left
                .insert((number, path.remote, path.local), earned.saturating_sub(spent));
        }
        dice = actor.dice.clone();
        self.leave(model, &mut dice, cx.io.now(), By::datagram(None, path));
        let mut model = self.world.borrow_mut();
        let mut actor = self.actor(&mut model, cx, &dice, hops);
        (actor.stranger, actor.verified) = (stranger, verified);
        Self::decide(&mut actor, first)
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, from: PeerId, datagram: Datagram<'_>) {
        let mut model = self.enter(cx.io.now(), "on_datagram");
        model.shard(self.place).delivered += 1;
        let path = datagram.path();
        let group = cx.io.group(datagram.meta());
        let hops = self.look(&mut model, Some(from), path, (datagram.meta(), group), &datagram);
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
        self.leave(model, &mut dice, cx.io.now(), By::datagram(Some(from), path));
    }

    fn on_train(&mut self, cx: &mut Context<'_, Self>, from: PeerId, mut train: ReceivedTrain<'_>) {
        let mut model = self.enter(cx.io.now(), "on_train");
        model.shard(self.place).delivered += train.datagrams() as u64;
        let (path, meta, segment) = (train.path(), train.meta(), train.segment());
        let mut hops = 0;
        let group = cx.io.group(meta);
        for bytes in train.chunks(segment) {
            hops = hops.max(self.look(&mut model, Some(from), path, (meta, group), bytes));
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
            if let Err(SendError::Full(bound)) = result {
                actor.refused("reply_train", bound, numbers.len() as u64);
            }
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
        self.leave(model, &mut dice, cx.io.now(), By::datagram(Some(from), path));
    }

    fn on_timer(&mut self, cx: &mut Context<'_, Self>, number: u64) {
        let mut model = self.enter(cx.io.now(), "on_timer");
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
        self.leave(model, &mut dice, cx.io.now(), timer.peer.map_or(By::OWN, By::peer));
    }

    fn on_message(&mut self, cx: &mut Context<'_, Self>, from: Origin, note: Note) {
        let mut model = self.enter(cx.io.now(), "on_message");
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
        self.leave(model, &mut dice, cx.io.now(), By::OWN);
    }

    fn on_writable(&mut self, cx: &mut Context<'_, Self>, peer: PeerId) {
        let mut model = self.enter(cx.io.now(), "on_writable");
        let node = &mut model.nodes[self.place.0];
        let refused = node.peers.get_mut(&peer).map(|p| std::mem::take(&mut p.refused));
        let right = refused.is_some() && node.is_open(peer);
        model.expect(right, || format!("there is room for {peer}, which is not open"));
        let mut dice = self.dice(&mut model, None);
        let mut actor = self.actor(&mut model, cx, &dice, 3);
        actor.send(Some(peer));
        dice = actor.dice.clone();
        self.leave(model, &mut dice, cx.io.now(), By::peer(peer));
    }

    fn on_attempt(&mut self, cx: &mut Context<'_, Self>, peer: PeerId, remote: SocketAddr) {
        let mut model = self.enter(cx.io.now(), "on_attempt");
        let path = cx.io.path(peer).filter(|path| path.remote == remote);
        let place = self.place;
        let node = &mut model.nodes[place.0];
        let known = node.peers.get_mut(&peer).filter(|p| p.dialed && p.state == PeerState::Open);
        let right = path.is_some() && known.is_some();
        if let (Some(known), Some(path)) = (known, path) {
            known.path = way(path);
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
        self.leave(model, &mut dice, cx.io.now(), By { peer: Some(peer), ..By::OWN });
    }

    fn on_peer_error(&mut self, cx: &mut Context<'_, Self>, peer: PeerId, error: PeerError) {
        let mut model = self.enter(cx.io.now(), "on_peer_error");
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
        // That an endpoint is not there is told of what was asked for and of what was sent.
        let is_own = matches!(error, PeerError::Unresolved { .. } | PeerError::NoAnswer { .. });
        let mut dice = self.dice(&mut model, None);
        let mut actor = self.actor(&mut model, cx, &dice, 3);
        actor.me = Some(peer);
        actor.perform();
        dice = actor.dice.clone();
        self.leave(model, &mut dice, cx.io.now(), By { peer: Some(peer), path: None, is_own });
    }

    fn on_group_error(&mut self, cx: &mut Context<'_, Self>, via: Via, group: Membership, error: JoinError) {
        let now = cx.io.now();
        let mut model = self.enter(now, "on_group_error");
        let name = match error {
            JoinError::AlreadyJoined => "AlreadyJoined",
            JoinError::NotJoined => "NotJoined",
            JoinError::UnknownInterface(_) => "UnknownInterface",
            JoinError::NoSuchSocket => "NoSuchSocket",
            _ => "other",
        };
        model.reached.note("group error", name);
        let unopened = matches!(via, Via::Endpoint(id) if cx.io.endpoint_address(id).is_none());
        let (place, told) = (self.place, (via, group, error));
        let members = &mut model.nodes[place.0].members;
        let right = members.is_told(place.1, &told, unopened, now);
        model.expect(right, || format!("{place:?} was told of {told:?}"));
        let mut dice = self.dice(&mut model, None);
        let mut actor = self.actor(&mut model, cx, &dice, 3);
        actor.perform();
        dice = actor.dice.clone();
        self.leave(model, &mut dice, cx.io.now(), By::OWN);
    }

    fn on_closed(&mut self, cx: &mut Context<'_, Self>, peer: PeerId, state: Tag, why: CloseReason) {
        let mut model = self.enter(cx.io.now(), "on_closed");
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
            CloseReason::Panicked => "Panicked",
            CloseReason::Drained => "Drained",
            CloseReason::Displaced => "Displaced",
            _ => "other",
        };
        model.reached.note("closed", name);
        let place = self.place;
        let node = &model.nodes[place.0];
        let known = node.peers.get(&peer).map(|p| (p.state, p.tag, may_close(node, peer, why, now)));
        let stale = !cx.peers.contains(peer) && cx.io.path(peer).is_none();
        let expected = match why {
            CloseReason::Restarted => PeerState::Orphaned,
            CloseReason::Panicked => PeerState::Blamed,
            _ => PeerState::Open,
        };
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
        shard.closings += 1;
        let closings = shard.closings;
        let mut dice = self.dice(&mut model, None);
        let mut actor = self.actor(&mut model, cx, &dice, 3);
        // Its id is stale by now.
        actor.me = Some(peer);
        // Who opens one there may have another closed, and so on.
        if closings < MOST_CLOSINGS {
            actor.perform();
        } else {
            actor.model.budget = actor.model.budget.saturating_sub(20);
        }
        dice = actor.dice.clone();
        self.leave(model, &mut dice, cx.io.now(), By::default());
    }

    fn on_start(&mut self, cx: &mut Context<'_, Self>) {
        let mut model = self.enter(cx.io.now(), "on_start");
        let place = self.place;
        let node = &mut model.nodes[place.0];
        let shard = &mut node.shards[usize::from(place.1)];
        let again = shard.incarnation > 1;
        let closed_meanwhile = shard.closes_endpoints() || !node.lost.is_empty();
        shard.drains = 0;
        shard.endpoints.clear();
        if KEEPS > 0 {
            shard.timers.retain(|_, timer| timer.peer.is_some());
            shard.forgot |= again;
        } else {
            shard.timers.clear();
            shard.open = 0;
            shard.many_proven = false;
            let open: Vec<PeerId> = node.open_peers(place.1).collect();
            for peer in open {
                if let Some(model) = node.peers.get_mut(&peer) {
                    model.state = PeerState::Orphaned;
                }
            }
        }
        let changed = again && node.members.begin_anew(place.1, cx.io.now());
        let opens = node.temper.opens_at_start;
        if changed {
            model.reached.note("group", "begun anew");
        }
        // Of some that were closed meanwhile it hears next.
        let (left, kept) = (cx.peers.len(), model.shard(place).open);
        let right = left == kept || (closed_meanwhile && left < kept);
        model.expect(right, || format!("{left} peers were there as {place:?} began, not {kept}"));
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
            self.leave(model, &mut dice, cx.io.now(), By::OWN);
        } else {
            model.nodes[place.0].members.starts(place.1);
        }
    }

    fn on_turn_end(&mut self, cx: &mut Context<'_, Self>) {
        let mut model = self.enter(cx.io.now(), "on_turn_end");
        let place = self.place;
        model.shard(place).closings = 0;
        let (open, is) = (model.shard(place).open, cx.peers.len());
        model.expect(open == is, || format!("{place:?} has {is} peers, and {open} are known"));
        let node = &mut model.nodes[place.0];
        for endpoint in &mut node.shards[usize::from(place.1)].endpoints {
            endpoint.port = cx.io.endpoint_address(endpoint.id).map_or(0, |address| address.port());
        }
        // In its last turns a shard may tell of nothing any more.
        let ends = node.stopped || node.ends_by.is_some();
        let untold = node.members.untold(place.1).filter(|_| !ends);
        model.expect(untold.is_none(), || format!("{place:?} was not told of {untold:?}"));
        let mut dice = self.dice(&mut model, None);
        if dice.one_in(10) && !model.calm {
            // Each act may bring about another turn, and this must come to an end.
            model.budget = model.budget.saturating_sub(1);
            let mut actor = self.actor(&mut model, cx, &dice, 3);
            actor.perform();
            dice = actor.dice.clone();
            self.leave(model, &mut dice, cx.io.now(), By::OWN);
        }
    }

    fn on_drain(&mut self, cx: &mut Context<'_, Self>, deadline: Instant) -> Drain {
        let mut model = self.enter(cx.io.now(), "on_drain");
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
        self.leave(model, &mut dice, cx.io.now(), By::OWN);
        if patient { Drain::WhenPeersGone } else { Drain::WhenIdle }
    }
}

const _: fn() = || {
    fn is_ours<H: Ours>() {}
    is_ours::<Chaotic<true, 0>>();
};
