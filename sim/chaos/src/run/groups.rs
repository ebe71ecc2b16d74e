//! What clients send to groups, which ones they are in, and who hears a group when all is quiet.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use shardgram_core::config::Hearers;
use shardgram_core::flow::flow_shard;
use shardgram_core::{Ecn, Snapshot};

use crate::dice::{Dice, Purpose};
use crate::groups::{GROUPS, PORTS};
use crate::payload;
use crate::run::Stage;
use crate::run::probes::TIME;
use crate::world::{Door, NodeModel};

/// Ports of strangers' probes, from which nobody is known: each is used once.
const STRANGERS: Range<u16> = 10_000..30_000;
/// Addresses that nobody else has.
const NOBODY: [&str; 2] = ["10.99.0.2", "fd00:99::2"];

impl Stage {
    /// A client writes to a group: at the port of listeners, of endpoints, or of clients.
    pub(super) fn write_to_group(&mut self, dice: &mut Dice) {
        let group = GROUPS[dice.below(GROUPS.len() as u64) as usize];
        let clients: Vec<_> = self.clients.iter().filter(|(_, at)| at.is_ipv4() == group.is_ipv4()).collect();
        let Some((key, from)) = dice.pick(&clients).map(|client| **client) else { return };
        let members: Vec<_> = self.world.borrow().hearers.iter().map(|(at, ..)| at.port()).collect();
        let port = match dice.below(4) {
            0 => PORTS[1],
            1 => dice.pick(&members).copied().unwrap_or(PORTS[0]),
            _ => PORTS[0],
        };
        let (to, len) = (SocketAddr::new(group, port), Self::length(dice));
        for _ in 0..dice.range(1..=8) {
            let number = dice.number();
            self.sim.send(key, to, &payload::of(number, len));
            let from = self.outside(from, to);
            self.enter(number, (from, to), len, Ecn::NotEct);
        }
    }

    /// A client joins a group, or leaves one that it is in. A translator lets no group through.
    pub(super) fn member(&mut self, dice: &mut Dice) {
        let (key, at) = self.clients[dice.below(self.clients.len() as u64) as usize];
        let groups: Vec<IpAddr> =
            GROUPS.into_iter().filter(|group| group.is_ipv4() == at.is_ipv4()).collect();
        let Some(group) = dice.pick(&groups).copied() else { return };
        let (now, mut model) = (self.sim.now(), self.world.borrow_mut());
        if model.ledger.translators.around(at.ip()).is_some() {
            return;
        }
        let is_in = |one: &&mut (SocketAddr, IpAddr, _)| (one.0, one.1, one.2) == (at, group, None);
        let (done, name) = match model.hearers.iter_mut().find(is_in) {
            Some(one) => {
                one.2 = Some(now);
                (self.sim.leave(key, group), "left")
            }
            None => {
                model.hearers.push((at, group, None));
                (self.sim.join(key, group), "joined")
            }
        };
        model.reached.note("client", name);
        model.expect(done, || format!("{at} has not {name} {group}"));
    }

    /// Sends a datagram to each group at each port from a stranger, and from each source that somebody named, on a network
    /// without faults: every member has it, and nobody else.
    pub(super) fn probe_groups(&mut self) -> Result<(), String> {
        let mut dice = Dice::of(&[self.seed, Purpose::Probe as u64, 1]);
        let mut sources: Vec<IpAddr> = NOBODY.iter().filter_map(|ip| ip.parse().ok()).collect();
        let mut ports = PORTS.to_vec();
        for node in &self.world.borrow().nodes {
            sources.extend(node.members.sources());
            ports.extend(node.shards.iter().flat_map(|shard| &shard.endpoints).map(|endpoint| endpoint.port));
        }
        ports.sort_unstable();
        ports.dedup();
        sources.sort_unstable();
        sources.dedup();
        if self.scenario.sources.is_empty() {
            return Ok(());
        }
        let mut strangers = STRANGERS;
        for group in GROUPS {
            for source in sources.iter().filter(|source| source.is_ipv4() == group.is_ipv4()) {
                for port in ports.iter().filter(|port| **port != 0) {
                    let mut from = strangers.by_ref().map(|port| SocketAddr::new(*source, port));
                    let from = from.find(|from| !self.scenario.clients.contains(from));
                    let Some(from) = from else { return Ok(()) };
                    let way = (from, SocketAddr::new(group, *port));
                    self.probe_group(way, dice.number())?;
                }
            }
        }
        Ok(())
    }

    fn probe_group(&mut self, (from, to): (SocketAddr, SocketAddr), number: u64) -> Result<(), String> {
        let before = self.heard_by_shards();
        self.enter(number, (from, to), payload::NUMBER, Ecn::NotEct);
        self.sim.send_from(from, to, &payload::of(number, payload::NUMBER));
        self.pass(TIME)?;
        let after = self.heard_by_shards();
        let model = self.world.borrow();
        for index in self.places.clone() {
            let node = &model.nodes[index];
            if node.shards.iter().any(|shard| shard.ended) {
                continue;
            }
            if node.members.has_asked() {
                return Err(format!("node {index} was asked for groups and has not joined them"));
            }
            for shard in 0..node.shards.len() as u16 {
                let at = |all: &[Vec<(u64, u64)>]| all[index][usize::from(shard)];
                let (before, after) = (at(&before), at(&after));
                let heard = (after.0 - before.0, after.1 - before.1);
                let right = expected(node, shard, from, to);
                if heard != right {
                    return Err(format!(
                        "of one datagram from {from} to {to} shard {shard} of node {index} had {} copies and forwarded {};                          there should be {right:?}: {:?}",
                        heard.0, heard.1, node.members.all
                    ));
                }
            }
        }
        drop(model);
        self.world.borrow_mut().reached.note("group", "probed");
        Ok(())
    }

    /// How many datagrams each shard of each node has received, and how many of them it was to forward.
    fn heard_by_shards(&self) -> Vec<Vec<(u64, u64)>> {
        let model = self.world.borrow();
        let of = |stats: Snapshot| (stats.received, stats.forwarded_out + stats.dropped_forward_full);
        let each = self.nodes.iter().zip(&model.nodes);
        each.map(|(id, node)| {
            (0..node.shards.len() as u16).map(|shard| of(self.sim.shard_stats(id, shard))).collect()
        })
        .collect()
    }
}

/// How many copies a shard has, and how many of them it forwards.
fn expected(node: &NodeModel, shard: u16, from: SocketAddr, to: SocketAddr) -> (u64, u64) {
    let elsewhere = flow_shard(from, node.shards.len() as u16) != shard;
    let endpoints = &node.shards[usize::from(shard)].endpoints;
    let (mut copies, mut forwarded) = (0, 0);
    for member in node.members.on_shard(shard, from.ip(), to) {
        match member.door {
            Door::Endpoint(id) => {
                copies += u64::from(endpoints.iter().any(|one| one.id == id && one.port == to.port()));
            }
            Door::Listener(_) => {
                copies += 1;
                let one = member.membership.hearers() != Hearers::EveryShard;
                forwarded += u64::from(one && elsewhere);
            }
        }
    }
    (copies, forwarded)
}
