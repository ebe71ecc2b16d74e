//! What is done to a run from outside: what clients and attackers send, faults, ends of nodes.

use std::net::SocketAddr;
use std::time::Duration;

use shardgram_core::{Ecn, PeerError};
use shardgram_sim::SocketKey;

use crate::actions::{Action, What};
use crate::dice::{Dice, Purpose};
use crate::ledger::{Copy, From};
use crate::payload;
use crate::run::{SLACK, Stage};
use crate::world::Note;

impl Stage {
    pub(super) fn perform(&mut self, action: &Action) -> Result<(), String> {
        let mut dice = Dice::of(&[self.seed, Purpose::Action as u64, u64::from(action.index)]);
        self.world.borrow_mut().reached.note("action", action.what.name());
        match action.what {
            What::Datagram => self.datagrams(&mut dice, 1),
            What::Burst => {
                let count = dice.range(2..=30);
                self.datagrams(&mut dice, count);
            }
            What::Train => self.train(&mut dice),
            What::Spoof => self.spoof(&mut dice),
            What::Flood => self.flood(&mut dice),
            What::EndFloods => self.end_floods(),
            What::Nat => self.nat_forgets(&mut dice),
            What::ToEndpoint => self.foreigners(&mut dice),
            What::ToGroup => self.write_to_group(&mut dice),
            What::Member => self.member(&mut dice),
            What::Tell => self.tell(&mut dice),
            What::Cut | What::Heal => self.cut(&mut dice, action.what == What::Cut),
            What::Partition => self.partition(&mut dice),
            What::ForgedError => self.forge_error(&mut dice),
            What::Address => self.address(&mut dice),
            What::Flap => self.flap(&mut dice),
            What::Interface => self.interface(&mut dice),
            What::Kill => self.kill(&mut dice),
            What::Restart => return self.restart(),
            What::Stall => self.stall(&mut dice),
            What::Refresh => {
                let node = self.some_node(&mut dice);
                self.sim.refresh(&self.nodes[node].clone());
            }
            What::Drain | What::Stop => {
                let node = self.some_node(&mut dice);
                let within = Duration::from_micros(dice.below(50_000));
                if action.what == What::Drain { self.drain(node, within) } else { self.stop(node) }
            }
        }
        Ok(())
    }

    /// A client and a listener it can write to.
    fn flow(&self, dice: &mut Dice) -> Option<(SocketKey, SocketAddr, SocketAddr)> {
        let (key, from) = *dice.pick(&self.clients)?;
        let doors: Vec<_> = self.doors.iter().filter(|door| door.is_ipv4() == from.is_ipv4()).collect();
        // Mostly the same one, so that peers last.
        let door = if dice.one_in(4) {
            dice.pick(&doors)
        } else {
            doors.get(usize::from(from.port()) % doors.len().max(1))
        };
        Some((key, from, **door?))
    }

    pub(super) fn enter(&mut self, number: u64, (from, to): (SocketAddr, SocketAddr), len: usize, ecn: Ecn) {
        self.raw_sent += 1;
        let from = From::Exactly(from);
        let now = self.sim.now();
        self.world.borrow_mut().sent(now, number, Copy { from, to, len, ecn, peer: None, hops: 0 });
    }

    pub(super) fn length(dice: &mut Dice) -> usize {
        match dice.below(12) {
            0 => dice.below(9) as usize,
            1 => dice.range(1..=3_000) as usize,
            2 => [9_000, 65_507][dice.below(2) as usize],
            n => [8, 40, 40, 100, 1_200][n as usize % 5],
        }
    }

    fn datagrams(&mut self, dice: &mut Dice, count: u64) {
        let Some((key, from, to)) = self.flow(dice) else { return };
        let len = Self::length(dice);
        for _ in 0..count {
            let number = dice.number();
            let ecn = if dice.one_in(4) { Ecn::Ect0 } else { Ecn::NotEct };
            self.sim.send_marked(key, to, &payload::of(number, len), ecn);
            let from = self.outside(from, to);
            self.enter(number, (from, to), len, ecn);
        }
    }

    fn train(&mut self, dice: &mut Dice) {
        let Some((key, from, to)) = self.flow(dice) else { return };
        let segment = [8, 40, 100, 1_200][dice.below(4) as usize];
        let whole = dice.range(1..=40) as usize;
        let last = dice.range(0..=segment as u64) as usize;
        let (mut bytes, mut all) = (Vec::new(), Vec::new());
        for len in std::iter::repeat_n(segment, whole).chain((last > 0).then_some(last)) {
            let number = dice.number();
            all.push((number, len));
            bytes.extend(payload::of(number, len));
        }
        self.sim.send_train(key, to, &bytes, segment);
        let from = self.outside(from, to);
        for (number, len) in all {
            self.enter(number, (from, to), len, Ecn::NotEct);
        }
    }

    fn spoof(&mut self, dice: &mut Dice) {
        let Some((_, _, to)) = self.flow(dice) else { return };
        for _ in 0..dice.range(1..=20) {
            let port = if dice.one_in(8) { 0 } else { dice.range(1..=65_535) as u16 };
            let forged = match to {
                SocketAddr::V4(_) => SocketAddr::from(([10, 66, 0, dice.below(4) as u8], port)),
                SocketAddr::V6(_) => {
                    SocketAddr::from(([0xfd00, 66, 0, 0, 0, 0, 0, dice.below(4) as u16], port))
                }
            };
            let victim = dice.pick(&self.clients).and_then(|(_, address)| self.seen_as(*address));
            let from = victim.filter(|v| v.is_ipv4() == to.is_ipv4() && dice.one_in(3)).unwrap_or(forged);
            let from = self.door_beside(dice, to).filter(|_| dice.one_in(4)).unwrap_or(from);
            let (number, len) = (dice.number(), Self::length(dice));
            self.port_zero += u64::from(from.port() == 0);
            self.enter(number, (from, to), len, Ecn::NotEct);
            self.sim.send_from(from, to, &payload::of(number, len));
        }
    }

    /// A listener of the same node, that one or another.
    fn door_beside(&self, dice: &mut Dice, to: SocketAddr) -> Option<SocketAddr> {
        let node = self.scenario.nodes.iter().find(|node| node.host.contains(&to.ip()))?;
        let beside = |door: &&SocketAddr| node.host.contains(&door.ip()) && door.is_ipv4() == to.is_ipv4();
        let doors: Vec<_> = self.doors.iter().filter(beside).collect();
        dice.pick(&doors).map(|door| **door)
    }

    /// To sockets of handlers, which may not know the sender.
    fn foreigners(&mut self, dice: &mut Dice) {
        let targets = self.world.borrow().targets.clone();
        let doors: Vec<_> = targets
            .iter()
            .filter(|t| !self.doors.contains(t) && !self.scenario.clients.contains(t))
            .collect();
        let Some(to) = dice.pick(&doors).map(|to| **to) else { return };
        let clients: Vec<_> = self.clients.iter().filter(|(_, c)| c.is_ipv4() == to.is_ipv4()).collect();
        let Some((key, from)) = dice.pick(&clients).map(|client| **client) else { return };
        for _ in 0..dice.range(1..=5) {
            let (number, len) = (dice.number(), Self::length(dice));
            self.sim.send(key, to, &payload::of(number, len));
            let from = self.outside(from, to);
            self.enter(number, (from, to), len, Ecn::NotEct);
        }
    }

    fn tell(&mut self, dice: &mut Dice) {
        let node = self.some_node(dice);
        for _ in 0..dice.range(1..=5) {
            let mut model = self.world.borrow_mut();
            let shards = model.nodes[node].shards.len() as u64;
            let to = dice.below(shards) as u16;
            let note = Note { number: model.next_serial(), hops: 0 };
            let taken = self.nodes[node].tell(to, note).is_ok();
            let now = self.sim.now();
            model.told(node, (None, to), (note, now), taken);
        }
    }

    fn cut(&mut self, dice: &mut Dice, yes: bool) {
        let (Some(client), Some(door)) = (dice.pick(&self.clients), dice.pick(&self.doors)) else { return };
        let (client, door) = (self.host_seen_as(client.1.ip()), door.ip());
        let link = self.scenario.link;
        if yes {
            self.sim.link_between(client, door, link.cut(dice.one_in(2)));
            self.sim.link_between(door, client, link.cut(true));
        } else {
            for (_, client) in &self.clients {
                for door in &self.doors {
                    let client = self.host_seen_as(client.ip());
                    self.sim.link_between(client, door.ip(), link);
                    self.sim.link_between(door.ip(), client, link);
                }
            }
        }
    }

    fn partition(&mut self, dice: &mut Dice) {
        if dice.one_in(2) {
            return self.sim.heal_all();
        }
        let Some(node) = dice.pick(&self.scenario.nodes) else { return };
        let here = &node.host[dice.below(node.host.len() as u64) as usize..];
        let clients = self.clients.iter().map(|(_, client)| self.host_seen_as(client.ip()));
        let there: Vec<_> = clients.filter(|_| dice.one_in(2)).collect();
        if dice.one_in(2) {
            self.sim.partition(here, &there);
        } else {
            self.sim.partition_towards(here, &there);
        }
    }

    fn forge_error(&mut self, dice: &mut Dice) {
        let Some((_, client, to)) = self.flow(dice) else { return };
        let Some(about) = self.seen_as(client) else { return };
        let errors = [PeerError::Refused, PeerError::Unreachable, PeerError::TooLong { mtu: Some(600) }];
        let error = errors[dice.below(3) as usize];
        self.sim.forge_error(to, about, error);
    }

    pub(super) fn drain(&mut self, index: usize, within: Duration) {
        let by = self.sim.now() + within + SLACK;
        let mut model = self.world.borrow_mut();
        let node = &mut model.nodes[index];
        // The first deadline stands.
        node.ends_by = node.ends_by.or(Some(node.turns_by(by, SLACK)));
        drop(model);
        self.sim.drain(&self.nodes[index].clone(), within);
    }

    pub(super) fn stop(&mut self, index: usize) {
        let by = self.sim.now() + SLACK;
        let mut model = self.world.borrow_mut();
        let node = &mut model.nodes[index];
        node.stopped = true;
        let by = node.turns_by(by, SLACK);
        node.ends_by = Some(node.ends_by.map_or(by, |other| other.min(by)));
        drop(model);
        self.sim.stop(&self.nodes[index].clone());
    }
}
