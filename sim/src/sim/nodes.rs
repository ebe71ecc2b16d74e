//! Servers and clients: how they start, run and end.

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use shardgram_core::shard_loop::{Ending, Turn};
use shardgram_core::{Config, Handler, ShardInfo, Snapshot};

use crate::error::SimError;
use crate::node::{NodeId, Site};
use crate::sim::{Shard, Sim};

/// Servers and clients. Node ids are good in the simulation that gave them; another one may panic.
impl Sim {
    /// Starts a server on a host with these addresses; a client is one whose configuration has no
    /// listeners. Its keys come from the seed. Of the configuration, cores, backend, receivers, wait policy
    /// and signals mean nothing here.
    ///
    /// # Errors
    /// See [`SimError`].
    pub fn server<H, F>(
        &mut self,
        addresses: &[IpAddr],
        config: &Config,
        make: F,
    ) -> Result<NodeId<H::Message>, SimError>
    where
        H: Handler,
        F: Fn(ShardInfo) -> H + Clone + 'static,
    {
        config.validate().map_err(SimError::Config)?;
        self.network.borrow_mut().hosts.extend(addresses);
        let first = self.shards.len() as u32;
        let index = self.nodes.len();
        let ringers: Vec<_> = (0..config.settings().shards)
            .map(|_| {
                // A node that fails to start leaves its places behind; nothing ever runs in them.
                self.shards.push(Shard { node: index, runner: None });
                self.network.borrow_mut().add_shard(config.settings().trains).1
            })
            .collect();
        let site = Site {
            network: &self.network,
            secrets: &mut self.secrets,
            host: Rc::new(RefCell::new(addresses.to_vec())),
            config,
            trains: self.trains,
            resolver: self.names.resolver(),
            shards: first..self.shards.len() as u32,
            ringers,
        };
        let built = site.build(&make)?;
        let id = built.id(index);
        for (shard, runner) in built.node.shards.clone().zip(built.runners) {
            self.shards[shard as usize].runner = Some(runner);
            self.network.borrow_mut().schedule.run(shard);
        }
        self.nodes.push(built.node);
        Ok(id)
    }

    /// The addresses a node listens on, in the order of [`Config::listen`], with their ports.
    pub fn local_addrs<M>(&self, node: &NodeId<M>) -> Vec<SocketAddr> {
        self.nodes[node.index].listeners.to_vec()
    }

    /// The counters of all shards of a node. `kernel_dropped` is as of the last [`Sim::refresh`], or the
    /// shard's end.
    pub fn stats<M>(&self, node: &NodeId<M>) -> Snapshot {
        let mut total = Snapshot::default();
        for stats in &self.nodes[node.index].stats {
            total.add(&stats.snapshot());
        }
        total
    }

    /// The counters of one shard.
    ///
    /// # Panics
    /// If the node has no such shard.
    pub fn shard_stats<M>(&self, node: &NodeId<M>, shard: u16) -> Snapshot {
        self.nodes[node.index].stats[usize::from(shard)].snapshot()
    }

    /// Has each shard of a node take a turn that reads what only its driver knows. One that is stalled does so later.
    pub fn refresh<M>(&mut self, node: &NodeId<M>) {
        self.nodes[node.index].control.refresh();
        for shard in self.nodes[node.index].shards.clone() {
            if !self.network.borrow().schedule.is_stalled(shard) {
                self.turn(shard);
            }
        }
    }

    /// Drains a node: each shard ends when all are quiet, or after `within` at the latest.
    pub fn drain<M>(&mut self, node: &NodeId<M>, within: Duration) {
        let deadline = self.now() + within;
        self.nodes[node.index].control.drain(deadline);
        self.ring_all(node.index);
    }

    /// Has each shard of a node end with its next turn.
    pub fn stop<M>(&mut self, node: &NodeId<M>) {
        self.nodes[node.index].control.stop();
        self.ring_all(node.index);
    }

    /// Ends a node as if its process was killed: no callback is called, and nothing is sent any more. Its ports are
    /// free at once, so another one can be started in its place.
    pub fn kill<M>(&mut self, node: &NodeId<M>) {
        let node = node.index;
        for shard in self.nodes[node].shards.clone() {
            // Dropped here, since it closes its sockets, for which the network must not be held.
            let runner = self.shards[shard as usize].runner.take();
            if runner.is_some() {
                let first = self.nodes[node].shards.start;
                self.nodes[node].endings[(shard - first) as usize] = Some(Ending::Stopped);
                self.network.borrow_mut().schedule.sleep(shard, None);
            }
        }
    }

    /// Gives a shard of a node no turn for so long, as if its thread got no processor; what arrives waits in its sockets,
    /// as far as there is room ([`Config::receive_socket_bytes`]). It has a turn when that is over. A second call
    /// while it lasts takes the place of the first. Nothing happens if the node has no such shard.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use shardgram_sim::{NodeId, Sim};
    /// fn starve(sim: &mut Sim, server: &NodeId<()>) {
    ///     sim.stall(server, 0, Duration::from_millis(300));
    ///     sim.run_for(Duration::from_secs(1));
    ///     assert_eq!(sim.stats(server).kernel_dropped, 0, "there is room for what comes in 300 ms");
    /// }
    /// ```
    pub fn stall<M>(&mut self, node: &NodeId<M>, shard: u16, time: Duration) {
        let mut shards = self.nodes[node.index].shards.clone();
        if let Some(shard) = shards.nth(usize::from(shard)) {
            let until_ns = self.end_of(time);
            self.network.borrow_mut().schedule.stall(shard, until_ns);
        }
    }

    /// How the shards of a node ended, in their order. `None` while one of them runs.
    pub fn ended<M>(&self, node: &NodeId<M>) -> Option<Vec<&Ending>> {
        self.nodes[node.index].endings.iter().map(Option::as_ref).collect()
    }

    /// How one shard of a node ended. `None` while it runs, and if there is none.
    pub fn shard_ended<M>(&self, node: &NodeId<M>, shard: u16) -> Option<&Ending> {
        self.nodes[node.index].endings.get(usize::from(shard))?.as_ref()
    }

    /// How many receive buffers of a node are kept by sends that have not left yet.
    pub fn buffers_out<M>(&self, node: &NodeId<M>) -> usize {
        let shards = self.nodes[node.index].shards.clone();
        shards.filter_map(|s| self.shards[s as usize].runner.as_ref()).map(|r| r.buffers_out()).sum()
    }

    /// One turn of a shard, and what follows from it.
    pub(super) fn turn(&mut self, at: u32) {
        let shard = &mut self.shards[at as usize];
        let Some(runner) = &mut shard.runner else { return };
        let outcome = runner.turn();
        if matches!(outcome, Turn::Asleep) {
            return;
        }
        let cost = self.turn_least_ns + self.turn_dice.below(self.turn_spread_ns);
        {
            let mut network = self.network.borrow_mut();
            let now_ns = network.now_ns();
            network.log.turn(now_ns, at);
            let then_ns = now_ns + cost;
            network.advance_to(then_ns);
            network.schedule.run(at);
        }
        if let Turn::Ended(ending) = outcome {
            self.end(at, ending);
        }
    }

    fn end(&mut self, at: u32, ending: Ending) {
        let shard = &mut self.shards[at as usize];
        // Dropping it closes its sockets, for which the network must not be held.
        shard.runner = None;
        let index = shard.node;
        if matches!(ending, Ending::TooManyRestarts { .. } | Ending::Failed(_)) {
            // As in a running server: one shard that gives up takes the others along.
            self.nodes[index].control.stop();
            self.ring_all(index);
        }
        let node = &mut self.nodes[index];
        node.endings[(at - node.shards.start) as usize] = Some(ending);
        self.network.borrow_mut().schedule.sleep(at, None);
    }

    fn ring_all(&mut self, node: usize) {
        for shard in self.nodes[node].shards.clone() {
            self.network.borrow_mut().schedule.run(shard);
        }
    }
}
