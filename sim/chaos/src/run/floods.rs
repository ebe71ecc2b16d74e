//! Floods: what attackers send from many addresses, beside everything else.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use shardgram_core::Ecn;
use shardgram_sim::Flood;

use crate::dice::Dice;
use crate::ledger::{Copy, From};
use crate::payload;
use crate::run::Stage;
use crate::torrent::Torrent;
use crate::world::{Model, NodeModel, World};

/// Floods that go on at the same time.
const MOST: usize = 4;
/// How late a flood may be: the dearest turn of all shards there may be.
const LATE: Duration = Duration::from_millis(3);

impl Stage {
    pub(super) fn flood(&mut self, dice: &mut Dice) {
        let going = self.floods.iter().filter(|flood| !flood.ended).count();
        let Some(to) = self.victim(dice).filter(|_| going < MOST) else { return };
        let (network, bits, whose) = self.sources(dice, to);
        // Those without an end are slow, or a run would be nothing else.
        let endless = dice.one_in(4);
        let per_second = if endless { 1_000 } else { [2_000, 50_000, 5_000_000][dice.below(3) as usize] };
        let count = (!endless).then(|| dice.range(1..=300));
        let flood = Flood::new(to, per_second)
            .and_then(|flood| flood.sources(network, bits))
            .expect("in range")
            .count(count.unwrap_or(u64::MAX));
        let (world, mut own) = (World::clone(&self.world), Dice::of(&[dice.number()]));
        let len = [8, 8, 40, 100, 1_200, 5_000][dice.below(6) as usize];
        // Those that come again stay peers: a few, or more than a small table holds.
        let few = dice.percent(40).then(|| [2, 16, 100][dice.below(3) as usize]);
        let flood = match few {
            Some(few) => flood.repeating(few).expect("in range"),
            None => flood,
        };
        let now = self.sim.now();
        let flood = flood.payload(move |_| {
            let number = own.number();
            let len = if own.one_in(10) { own.below(9) as usize } else { len };
            let from = From::Within(network, bits);
            let mut model = world.borrow_mut();
            model.flooded += 1;
            model.sent(now, number, Copy { from, to, len, ecn: Ecn::NotEct, peer: None, hops: 0 });
            payload::of(number, len)
        });
        let (id, began) = (self.sim.flood(flood), self.sim.elapsed());
        self.floods.push(Torrent { id, began, per_second, count, ended: false });
        let mut model = self.world.borrow_mut();
        model.reached.note("flood", whose);
        if few.is_some() {
            model.reached.note("flood", "again and again");
        }
    }

    /// A listener, or now and then a socket of a handler.
    fn victim(&self, dice: &mut Dice) -> Option<SocketAddr> {
        let targets = self.world.borrow().targets.clone();
        let all: Vec<_> = targets.iter().filter(|t| !self.scenario.clients.contains(t)).collect();
        if dice.one_in(4) { dice.pick(&all).map(|to| **to) } else { dice.pick(&self.doors).copied() }
    }

    /// From where it seems to come: from nobody, from few addresses so that some are peers for a while, or from those of
    /// a client.
    fn sources(&self, dice: &mut Dice, to: SocketAddr) -> (IpAddr, u8, &'static str) {
        let v4 = to.is_ipv4();
        let clients: Vec<_> = self
            .clients
            .iter()
            .map(|(_, c)| self.host_seen_as(c.ip()))
            .filter(|ip| ip.is_ipv4() == v4)
            .collect();
        let (few, nobodys): (IpAddr, IpAddr) = if v4 {
            ([10, 66, 0, 0].into(), [198, 18, 0, 0].into())
        } else {
            ([0xfd00, 66, 0, 0, 0, 0, 0, 0].into(), [0x2001, 0xdb8, 0, 0, 0, 0, 0, 0].into())
        };
        let whole = if v4 { 32 } else { 128 };
        match (dice.below(3), dice.pick(&clients)) {
            (0, Some(client)) => (*client, whole, "as a client"),
            (1, _) => (few, whole - dice.below(4) as u8, "few hosts"),
            _ => (nobodys, if v4 { 15 } else { 32 }, "nobody's"),
        }
    }

    pub(super) fn end_floods(&mut self) {
        for flood in self.floods.iter_mut().filter(|flood| !flood.ended) {
            // It is judged first, as long as it has to keep its rate.
            let (sent, due) = (self.sim.flood_sent(flood.id), flood.due(self.sim.elapsed()));
            // What fell due while shards took their turns, each once at most, comes with the next steps.
            let late = LATE.as_nanos() * u128::from(flood.per_second) / 1_000_000_000;
            let right = sent <= due && u128::from(sent) + late + 1 >= u128::from(due);
            let mut model = self.world.borrow_mut();
            model.expect(right, || format!("{flood:?} has sent {sent} datagrams, not {due}"));
            model.reached.note("flood", if flood.count == Some(sent) { "complete" } else { "ended" });
            let full = |node: &NodeModel| node.shards.iter().any(|shard| shard.open >= node.limits.peers);
            if model.nodes.iter().any(full) {
                model.reached.note("flood", "against a full table");
            }
            self.sim.end_flood(flood.id);
            flood.ended = true;
        }
    }

    /// How many datagrams floods have sent.
    pub(super) fn flooded(&self) -> u64 {
        self.floods.iter().map(|flood| self.sim.flood_sent(flood.id)).sum()
    }

    pub(super) fn quiet_floods(&self, model: &Model, want: &mut impl FnMut(bool, String)) {
        let (sent, made) = (self.flooded(), model.flooded);
        want(sent == made, format!("floods sent {sent} datagrams, and {made} were made"));
    }
}
