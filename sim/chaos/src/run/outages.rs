//! Outages of nodes: kills and fresh starts, shards without a processor, addresses and interfaces that go and come.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use shardgram_sim::SimError;

use crate::dice::Dice;
use crate::run::{SLACK, Stage};

/// How long a shard may be without a processor. A run goes on for longer than that after its last action.
const STALLS: [Duration; 4] = [
    Duration::from_micros(60),
    Duration::from_millis(2),
    Duration::from_millis(30),
    Duration::from_millis(300),
];

impl Stage {
    /// A node that stands where there is one: the last one that was started there.
    pub(super) fn some_node(&self, dice: &mut Dice) -> usize {
        self.places[dice.below(self.places.len() as u64) as usize]
    }

    /// A node ends without a word.
    pub(super) fn kill(&mut self, dice: &mut Dice) {
        let index = self.some_node(dice);
        if self.sim.ended(&self.nodes[index]).is_some() {
            return;
        }
        self.sim.kill(&self.nodes[index].clone());
        let mut model = self.world.borrow_mut();
        let node = &mut model.nodes[index];
        node.killed = true;
        (0..node.shards.len() as u16).for_each(|shard| node.members.end(shard, self.sim.now()));
        model.reached.note("kill", "done");
    }

    /// Every node that has ended is started again, on the same addresses: whoever was a peer of the one before is a
    /// stranger to it.
    pub(super) fn restart(&mut self) -> Result<(), String> {
        for place in 0..self.places.len() {
            let old = self.places[place];
            if self.sim.ended(&self.nodes[old]).is_none() {
                continue;
            }
            let (index, starts) = self.successor(old);
            let name = match self.start_node(index) {
                Ok(()) if starts => "started again",
                Err(SimError::NotLocal(_)) if !starts => "has no address",
                result => return Err(format!("node {old} was started again: {result:?}")),
            };
            self.world.borrow_mut().reached.note("restart", name);
            if starts {
                self.places[place] = index;
            } else {
                self.forget_successor();
            }
        }
        Ok(())
    }

    /// The plan and the model of a node that is to take the place of one that has ended, and whether it can: not while
    /// an address is gone that it is to be bound to.
    fn successor(&mut self, old: usize) -> (usize, bool) {
        let plan = self.scenario.nodes[old].clone();
        let mut model = self.world.borrow_mut();
        let gone = model.nodes[old].gone.clone();
        let there = |ip: IpAddr| plan.host.contains(&ip) && !gone.contains_key(&ip);
        let any = |v4: bool| plan.host.iter().any(|ip| ip.is_ipv4() == v4 && !gone.contains_key(ip));
        let binds = |at: &SocketAddr| match at.ip() {
            ip if ip.is_unspecified() => any(ip.is_ipv4()),
            ip => there(ip),
        };
        let starts = plan.config.settings().listen.iter().all(binds);
        model.add_node(&plan, gone);
        self.scenario.nodes.push(plan);
        (self.scenario.nodes.len() - 1, starts)
    }

    fn forget_successor(&mut self) {
        self.scenario.nodes.pop();
        self.world.borrow_mut().remove_last_node();
    }

    /// A shard gets no processor for a while.
    pub(super) fn stall(&mut self, dice: &mut Dice) {
        let index = self.some_node(dice);
        let (now, time) = (self.sim.now(), STALLS[dice.below(STALLS.len() as u64) as usize]);
        let mut model = self.world.borrow_mut();
        let node = &mut model.nodes[index];
        let shard = dice.below(node.shards.len() as u64) as u16;
        let stalled = &mut node.shards[usize::from(shard)].stalled_until;
        // One after the other for ever it would never come to what waits for it.
        if stalled.is_some_and(|until| now < until + SLACK) {
            return;
        }
        *stalled = Some(now + time);
        node.ends_by = node.ends_by.map(|by| by.max(now + time + SLACK));
        model.reached.note("stall", "done");
        self.sim.stall(&self.nodes[index].clone(), shard, time);
    }

    /// A node loses an address, or gets one back.
    pub(super) fn address(&mut self, dice: &mut Dice) {
        let index = self.some_node(dice);
        let host = self.scenario.nodes[index].host.clone();
        if let Some(ip) = dice.pick(&host) {
            let gone = self.world.borrow().nodes[index].gone.contains_key(ip);
            self.set_address(index, *ip, gone);
        }
    }

    /// An address goes and is back at once, a few times.
    pub(super) fn flap(&mut self, dice: &mut Dice) {
        let index = self.some_node(dice);
        let host = self.scenario.nodes[index].host.clone();
        let Some(ip) = dice.pick(&host).copied() else { return };
        for _ in 0..dice.range(1..=3) {
            self.set_address(index, ip, false);
            self.set_address(index, ip, true);
        }
    }

    /// The interface of a node goes with all addresses, or comes with all of them.
    pub(super) fn interface(&mut self, dice: &mut Dice) {
        let index = self.some_node(dice);
        let comes = !self.world.borrow().nodes[index].gone.is_empty();
        for ip in self.scenario.nodes[index].host.clone() {
            self.set_address(index, ip, comes);
        }
        self.world.borrow_mut().reached.note("interface", if comes { "came" } else { "went" });
    }

    /// All addresses that are gone are back.
    pub(super) fn all_addresses_come(&mut self) {
        for index in self.places.clone() {
            for ip in self.scenario.nodes[index].host.clone() {
                self.set_address(index, ip, true);
            }
        }
    }

    fn set_address(&mut self, index: usize, ip: IpAddr, there: bool) {
        let id = self.nodes[index].clone();
        if there {
            let result = self.sim.add_address(&id, ip);
            let mut model = self.world.borrow_mut();
            model.nodes[index].gone.remove(&ip);
            model.expect(result.is_ok(), || format!("{ip} does not come back: {result:?}"));
        } else if self.sim.remove_address(&id, ip) {
            let (now, mut model) = (self.sim.now(), self.world.borrow_mut());
            model.nodes[index].lost.push(ip);
            model.nodes[index].gone.insert(ip, now);
        }
    }
}
