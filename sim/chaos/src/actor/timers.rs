//! Timers and messages.

use std::time::Duration;

use shardgram_core::PeerId;

use crate::actor::{Actor, Ours};
use crate::temper::Act;
use crate::world::{Note, TimerModel};

/// Timers that a handler remembers, so that it may cancel them.
const REMEMBERED: usize = 64;

impl<H: Ours> Actor<'_, '_, H> {
    pub(super) fn set_peer_timer(&mut self) {
        let stale = self.dice.one_in(8);
        let peer = if stale { self.some_stale() } else { self.me.or_else(|| self.some_open()) };
        if peer.is_some() {
            self.set_timer(peer);
        }
    }

    pub(super) fn set_timer(&mut self, peer: Option<PeerId>) {
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
        let closing = shard.closes_endpoints();
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

    pub(super) fn cancel(&mut self) {
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

    pub(super) fn tell(&mut self, act: Act) {
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
