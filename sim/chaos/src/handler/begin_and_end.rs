//! The beginning and the end of a handler, and of each callback.

use std::cell::RefMut;
use std::time::Instant;

use shardgram_core::{Context, ShardInfo};

use crate::actor::Actor;
use crate::dice::{Dice, Purpose};
use crate::handler::{Chaotic, SAME_HANDLER};
use crate::world::{By, Model, PeerState, World};

/// What a handler panics with, by intent.
struct Planned;

impl<const WHOLE: bool, const KEEPS: u8> Chaotic<WHOLE, KEEPS> {
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
                model.shard(place).panics += 1;
                drop(model);
                std::panic::resume_unwind(Box::new(Planned));
            }
            model.shard(place).panicked = false;
            drop(model);
            Self { world: World::clone(&world), place }
        }
    }

    /// The beginning of every callback.
    pub(super) fn enter(&self, now: Instant, callback: &'static str) -> RefMut<'_, Model> {
        let mut model = self.world.borrow_mut();
        model.reached.note("callback", callback);
        let node = &mut model.nodes[self.place.0];
        node.members.carry_out(self.place.1, now);
        let ending = node.stopped || node.ends_by.is_some();
        let shard = model.shard(self.place);
        let pause = shard.pauses_until.take().filter(|until| now < *until && !ending);
        if KEEPS == SAME_HANDLER {
            shard.panicked = false;
        }
        let (panicked, ended) = (shard.panicked, shard.ended);
        let stalled = shard.stalled_until.filter(|until| now < *until);
        shard.begun = match callback {
            // A stranger's datagram comes right after `accept` has had it, and after what that closed.
            "on_datagram" if shard.after_accept => shard.begun,
            "on_closed" | "on_start" | "on_turn_end" | "on_drain" | "on_peer_error" | "on_group_error" => {
                None
            }
            // In its last turn a shard hands over what waits, whether there is room or not.
            _ if ending => None,
            _ => Some(0),
        };
        shard.after_accept = callback == "accept" || (shard.after_accept && callback == "on_closed");
        // What `accept` asked to be closed is closed first.
        if !matches!(callback, "on_datagram" | "on_closed") {
            shard.pending = None;
        }
        if callback != "on_closed" {
            shard.decided = None;
        }
        let place = self.place;
        model.expect(!panicked && !ended, || format!("{callback} on {place:?} after a panic or the end"));
        let killed = model.nodes[place.0].killed;
        let gone = killed || stalled.is_some();
        model.expect(!gone, || format!("{callback} on {place:?}, killed: {killed}, stalled: {stalled:?}"));
        model.expect(pause.is_none(), || format!("{callback} on {place:?} in a pause until {pause:?}"));
        model
    }

    /// The end of a callback, which may be a panic.
    pub(super) fn leave(&self, mut model: RefMut<'_, Model>, dice: &mut Dice, now: Instant, by: By) {
        let panics = model.nodes[self.place.0].temper.panics;
        if panics > 0 && !model.calm && dice.one_in(panics) {
            model.reached.note("panic", if by.is_own { "own" } else { "with a source" });
            let shard = model.shard(self.place);
            let stays = KEEPS == SAME_HANDLER && !by.is_own;
            shard.panic(&by, now, stays);
            let members = &mut model.nodes[self.place.0].members;
            // That an endpoint is not there is its own doing or not, so it pauses or does not.
            match stays {
                true => members.may_miss_refusals(self.place.1),
                false => members.forget_refusals(self.place.1),
            }
            // It is gone before its handler hears of it.
            let blamed = by.peer.filter(|_| KEEPS > 0);
            if let Some(peer) = blamed.and_then(|peer| model.nodes[self.place.0].peers.get_mut(&peer))
                && peer.state == PeerState::Open
            {
                peer.state = PeerState::Blamed;
                let shard = model.shard(self.place);
                shard.open -= 1;
                by.peer.into_iter().for_each(|peer| shard.forget_timers_of(peer));
            }
            drop(model);
            std::panic::resume_unwind(Box::new(Planned));
        }
    }

    pub(super) fn dice(&self, model: &mut Model, key: Option<u64>) -> Dice {
        let key = key.unwrap_or_else(|| model.next_serial());
        let again = model.keys.entry(key).or_default();
        *again += 1;
        Dice::of(&[model.seed, Purpose::Callback as u64, key, *again])
    }

    pub(super) fn actor<'a, 'c>(
        &self,
        model: &'a mut Model,
        cx: &'a mut Context<'c, Self>,
        dice: &Dice,
        hops: u8,
    ) -> Actor<'a, 'c, Self> {
        let (place, dice) = (self.place, dice.clone());
        Actor { model, cx, place, dice, hops, me: None, path: None, stranger: None, verified: false }
    }
}
