//! The public face: nodes, raw sockets, and the passing of time.

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};

use shardgram_core::datagram::{MAX_PAYLOAD_V4, MAX_PAYLOAD_V6};
use shardgram_core::outbox::TrainLimits;
use shardgram_core::shard_loop::{Ending, Turn};
use shardgram_core::{Config, Ecn, Handler, LookupError, ShardInfo, Snapshot};

use crate::error::{RangeError, SimError};
use crate::flood::Running;
use crate::link::LinkConfig;
use crate::names::Names;
use crate::network::{Counts, Network, Received, SocketKey};
use crate::node::{Node, NodeId, Runner, Site};
use crate::plan::Plan;
use crate::seed::{Dice, Probability, Stream};
use crate::seeds::lines_asked;

/// Trains as the kernel takes them: 64 datagrams and what fits below its own limit.
const TRAINS: TrainLimits = TrainLimits { datagrams: 64, bytes: 65_000 };
/// What a turn costs, unless told otherwise.
const TURN_NS: u64 = 1_000;
/// The longest a turn may cost.
const MAX_TURN: Duration = Duration::from_secs(1);

/// A shard of some node.
struct Shard {
    node: usize,
    /// `None` once it has ended.
    runner: Option<Box<dyn Runner>>,
}

/// A simulation: servers, clients, the network between them, and the time.
///
/// Time stands still while anything can run, but for the cost of turns, and then jumps to the next event.
/// See the [crate's page](crate) for an example.
pub struct Sim {
    pub(crate) network: Rc<RefCell<Network>>,
    pub(crate) nodes: Vec<Node>,
    shards: Vec<Shard>,
    names: Names,
    secrets: Dice,
    turn_dice: Dice,
    turn_least_ns: u64,
    turn_spread_ns: u64,
    trains: TrainLimits,
    seed: u64,
    pub(crate) plan: Plan,
    pub(crate) floods: Vec<Running>,
    pub(crate) flood_dice: Dice,
}

impl std::fmt::Debug for Sim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sim").field("elapsed", &self.elapsed()).field("nodes", &self.nodes.len()).finish()
    }
}

/// The world.
impl Sim {
    /// An empty one. Everything left to chance in it follows from the seed.
    pub fn new(seed: u64) -> Self {
        let mut network = Network::new(seed);
        network.log.trace(lines_asked());
        Self {
            network: Rc::new(RefCell::new(network)),
            nodes: Vec::new(),
            shards: Vec::new(),
            names: Names::default(),
            secrets: Dice::new(seed, Stream::Secrets),
            turn_dice: Dice::new(seed, Stream::TurnCost),
            turn_least_ns: TURN_NS,
            turn_spread_ns: 0,
            trains: TRAINS,
            seed,
            plan: Plan::default(),
            floods: Vec::new(),
            flood_dice: Dice::new(seed, Stream::Floods),
        }
    }

    /// The seed it was made with.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// How all links behave from now on, but for those of [`Sim::link_between`].
    pub fn link(&mut self, config: LinkConfig) {
        self.network.borrow_mut().links.set_all(config);
    }

    /// How the link from one address to another behaves from now on, in that direction.
    pub fn link_between(&mut self, from: IpAddr, to: IpAddr, config: LinkConfig) {
        self.network.borrow_mut().links.set(from, to, config);
    }

    /// The probability that a datagram for a server of several shards reaches one that does not own it,
    /// which then has to forward it. Default 0, range 0 to 1.
    ///
    /// # Errors
    /// If it is out of range.
    pub fn mis_steer(&mut self, probability: f64) -> Result<(), RangeError> {
        self.network.borrow_mut().mis_steer = Probability::new("mis_steer", probability)?;
        Ok(())
    }

    /// How much time a turn of a shard takes: `least`, and up to `spread` more as the seed has it. Default
    /// one microsecond and no spread, range one nanosecond to one second and 0 to one second.
    ///
    /// # Errors
    /// If either is out of range.
    pub fn turn_cost(&mut self, least: Duration, spread: Duration) -> Result<(), RangeError> {
        // A turn that takes no time would let a shard that must not sleep spin for ever.
        if least.is_zero() || least > MAX_TURN || spread > MAX_TURN {
            return Err(RangeError { field: "turn cost", range: "1 ns to 1 s, and a spread of 0 to 1 s" });
        }
        (self.turn_least_ns, self.turn_spread_ns) = (least.as_nanos() as u64, spread.as_nanos() as u64);
        Ok(())
    }

    /// How long the trains are that nodes made from now on may send. Default 64 datagrams and 65,000
    /// bytes; [`TrainLimits::SINGLE`] stands for a system without segmentation offload.
    pub fn train_limits(&mut self, limits: TrainLimits) {
        self.trains = limits;
    }

    /// What becomes of lookups of this name from now on, and how long each takes: its addresses, or why there are
    /// none. A name that was never set is [`LookupError::NotFound`] after a millisecond. Handlers ask by
    /// [`shardgram_core::Context::dial`].
    ///
    /// ```
    /// use std::time::Duration;
    /// use shardgram_core::LookupError;
    /// let mut sim = shardgram_sim::Sim::new(1);
    /// sim.name("game.test", Ok(vec!["10.0.0.1".parse().unwrap()]), Duration::from_millis(20));
    /// sim.name("down.test", Err(LookupError::Temporary), Duration::from_secs(5));
    /// ```
    pub fn name(&mut self, name: &str, addresses: Result<Vec<IpAddr>, LookupError>, takes: Duration) {
        self.names.set(name, addresses, takes);
    }

    /// The virtual time.
    pub fn now(&self) -> Instant {
        self.network.borrow().now()
    }

    /// The virtual time since the beginning.
    pub fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.network.borrow().now_ns())
    }

    /// What became of all datagrams.
    pub fn counts(&self) -> Counts {
        self.network.borrow().counts()
    }

    /// One number for all that happened: time, kind, addresses, length, bytes and shard of every event in
    /// the life of a datagram, and time and shard of every turn.
    pub fn log_hash(&self) -> u64 {
        self.network.borrow().log.hash()
    }

    /// How many events there were.
    pub fn events(&self) -> u64 {
        self.network.borrow().log.events()
    }

    /// Whether events are also kept as lines to read, from now on. Default: no, they would fill the memory.
    pub fn trace(&mut self, yes: bool) {
        self.network.borrow_mut().log.trace(yes.then_some(usize::MAX));
    }

    /// The lines kept since [`Sim::trace`], one an event.
    ///
    /// ```
    /// let mut sim = shardgram_sim::Sim::new(1);
    /// sim.trace(true);
    /// let socket = sim.socket("10.0.0.2:5000".parse().unwrap());
    /// sim.send(socket, "10.0.0.1:7".parse().unwrap(), b"hello");
    /// assert!(sim.lines()[0].contains("Sent 10.0.0.2:5000 > 10.0.0.1:7 5 bytes"));
    /// ```
    pub fn lines(&self) -> Vec<String> {
        self.network.borrow().log.lines().cloned().collect()
    }
}

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
        let ringers: Vec<_> = (0..config.shard_count())
            .map(|_| {
                // A node that fails to start leaves its places behind; nothing ever runs in them.
                self.shards.push(Shard { node: index, runner: None });
                self.network.borrow_mut().add_shard(config.uses_trains()).1
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

    /// Has each shard of a node take a turn that reads what only its driver knows.
    pub fn refresh<M>(&mut self, node: &NodeId<M>) {
        self.nodes[node.index].control.refresh();
        for shard in self.nodes[node.index].shards.clone() {
            self.turn(shard);
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

    /// How the shards of a node ended, in their order. `None` while one of them runs.
    pub fn ended<M>(&self, node: &NodeId<M>) -> Option<Vec<&Ending>> {
        self.nodes[node.index].endings.iter().map(Option::as_ref).collect()
    }

    /// How many receive buffers of a node are kept by sends that have not left yet.
    pub fn buffers_out<M>(&self, node: &NodeId<M>) -> usize {
        let shards = self.nodes[node.index].shards.clone();
        shards.filter_map(|s| self.shards[s as usize].runner.as_ref()).map(|r| r.buffers_out()).sum()
    }

    fn ring_all(&mut self, node: usize) {
        for shard in self.nodes[node].shards.clone() {
            self.network.borrow_mut().schedule.run(shard);
        }
    }
}

/// Raw sockets, for tests that write datagrams by hand.
impl Sim {
    /// A socket bound to this address; port 0 takes a free one. It keeps all that arrives until
    /// [`Sim::receive`] takes it.
    ///
    /// # Panics
    /// If the address is in use or unspecified.
    pub fn socket(&mut self, address: SocketAddr) -> SocketKey {
        assert!(!address.ip().is_unspecified(), "a raw socket needs an address of its own, not {address}");
        let bound = self.network.borrow_mut().bind_raw(address);
        bound.unwrap_or_else(|_| panic!("{address} is in use"))
    }

    /// The address of a raw socket.
    pub fn socket_addr(&self, key: SocketKey) -> SocketAddr {
        self.network.borrow().raw_address(key)
    }

    /// Sends a datagram from a raw socket.
    ///
    /// # Panics
    /// If it is longer than UDP can carry.
    pub fn send(&mut self, key: SocketKey, to: SocketAddr, bytes: &[u8]) {
        let from = self.socket_addr(key);
        self.send_from(from, to, bytes);
    }

    /// Sends a datagram from a raw socket with this mark, which it keeps on its way.
    ///
    /// # Panics
    /// If it is longer than UDP can carry.
    pub fn send_marked(&mut self, key: SocketKey, to: SocketAddr, bytes: &[u8], ecn: Ecn) {
        check_length(to, bytes.len());
        let from = self.socket_addr(key);
        self.launch((from, to), bytes, 0, ecn);
    }

    /// Sends a datagram with any source address one likes, port 0 included.
    ///
    /// # Panics
    /// If it is longer than UDP can carry.
    pub fn send_from(&mut self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        check_length(to, bytes.len());
        self.launch((from, to), bytes, 0, Ecn::NotEct);
    }

    /// Sends datagrams of `segment` bytes each, the last perhaps shorter, as one train. It stays whole
    /// where [`LinkConfig::trains`] says so.
    ///
    /// # Panics
    /// If `segment` is 0 or the train is longer than one send can carry.
    pub fn send_train(&mut self, key: SocketKey, to: SocketAddr, bytes: &[u8], segment: usize) {
        self.send_train_marked(key, to, bytes, segment, Ecn::NotEct);
    }

    /// The same with this mark on each datagram.
    ///
    /// # Panics
    /// If `segment` is 0 or the train is longer than one send can carry.
    pub fn send_train_marked(
        &mut self,
        key: SocketKey,
        to: SocketAddr,
        bytes: &[u8],
        segment: usize,
        ecn: Ecn,
    ) {
        assert!(segment > 0, "datagrams of a train are not empty");
        check_length(to, bytes.len());
        let from = self.socket_addr(key);
        let whole = self.network.borrow().carries_trains(from, to);
        if whole && bytes.len() > segment {
            self.launch((from, to), bytes, segment as u32, ecn);
        } else {
            bytes.chunks(segment).for_each(|datagram| self.launch((from, to), datagram, 0, ecn));
        }
    }

    /// Whether trains come to a raw socket as they are, from now on. Default: no, each of their datagrams comes by itself.
    pub fn receive_trains(&mut self, key: SocketKey, yes: bool) {
        self.network.borrow_mut().receive_trains_raw(key, yes);
    }

    /// A socket as [`Sim::socket`] makes it, or `None` if the address is in use.
    pub fn try_socket(&mut self, address: SocketAddr) -> Option<SocketKey> {
        let bound = self.network.borrow_mut().bind_raw(address);
        bound.ok()
    }

    /// Closes a raw socket. Its address is free, what waits in it is discarded, and what comes for it later meets nobody:
    /// the host answers with an ICMP error. The key is good for nothing more.
    pub fn close(&mut self, key: SocketKey) {
        self.network.borrow_mut().close_raw(key);
    }

    /// Has a raw socket hear what is sent to a multicast group and its port; of 255.255.255.255, broadcasts. False if it
    /// hears that already. Nodes join by their configuration and by [`shardgram_core::Io::join`].
    ///
    /// ```
    /// let mut sim = shardgram_sim::Sim::new(1);
    /// let [one, two] = ["10.0.0.2:5353", "10.0.0.3:5353"].map(|at| sim.socket(at.parse().unwrap()));
    /// assert!(sim.join(two, "224.0.0.251".parse().unwrap()));
    /// sim.send(one, "224.0.0.251:5353".parse().unwrap(), b"anyone?");
    /// sim.run_until_quiet(std::time::Duration::from_secs(1));
    /// assert_eq!(sim.receive(two).map(|got| got.bytes), Some(b"anyone?".to_vec()));
    /// ```
    pub fn join(&mut self, key: SocketKey, group: IpAddr) -> bool {
        self.network.borrow_mut().join_raw(key, group)
    }

    /// Has it hear that no more. False if it does not.
    pub fn leave(&mut self, key: SocketKey, group: IpAddr) -> bool {
        self.network.borrow_mut().leave_raw(key, group)
    }

    /// The next datagram that waits in a raw socket. Of a train each datagram comes by itself, unless
    /// [`Sim::receive_trains`] said otherwise.
    pub fn receive(&mut self, key: SocketKey) -> Option<Received> {
        self.network.borrow_mut().receive_raw(key)
    }

    pub(crate) fn launch(&mut self, way: (SocketAddr, SocketAddr), bytes: &[u8], segment: u32, ecn: Ecn) {
        let mut network = self.network.borrow_mut();
        let flight = network.draft();
        network.write(flight, bytes);
        network.launch(flight, way, segment, ecn);
    }
}

pub(crate) fn check_length(to: SocketAddr, len: usize) {
    let max = if to.is_ipv4() { MAX_PAYLOAD_V4 } else { MAX_PAYLOAD_V6 };
    assert!(len <= max, "{len} bytes are more than the {max} that UDP can carry");
}

/// The passing of time.
impl Sim {
    /// Does the next thing: one turn of a shard that may run, or else the next event. False if there is
    /// nothing left to do, ever.
    pub fn step(&mut self) -> bool {
        self.step_until(u64::MAX)
    }

    /// Lets so much time pass.
    pub fn run_for(&mut self, duration: Duration) {
        let end_ns = self.end_of(duration);
        while self.network.borrow().now_ns() <= end_ns && self.step_until(end_ns) {}
        self.network.borrow_mut().advance_to(end_ns);
    }

    /// Runs until no datagram is on its way, no shard has anything to do, and no timer is due before
    /// `limit` has passed; or until it has. True if it is quiet.
    pub fn run_until_quiet(&mut self, limit: Duration) -> bool {
        let end_ns = self.end_of(limit);
        while self.network.borrow().now_ns() <= end_ns {
            if !self.step_until(end_ns) {
                return self.network.borrow().next_arrival().is_none() && self.names.next_answer().is_none();
            }
        }
        false
    }

    pub(crate) fn end_of(&self, duration: Duration) -> u64 {
        let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.network.borrow().now_ns().saturating_add(ns)
    }

    /// One step, if there is one that begins by `end_ns`.
    pub(crate) fn step_until(&mut self, end_ns: u64) -> bool {
        let mut network = self.network.borrow_mut();
        let now_ns = network.now_ns();
        // Before those who hear of it are looked for.
        self.names.answer(now_ns);
        network.advance_to(now_ns);
        if self.plan.next().is_some_and(|at| at <= now_ns) {
            drop(network);
            return self.carry_out_due(now_ns);
        }
        if let Some(shard) = network.schedule.next() {
            drop(network);
            self.turn(shard);
            return true;
        }
        let next = [
            network.next_arrival(),
            network.schedule.next_wake(),
            self.plan.next(),
            self.names.next_answer(),
        ];
        let next = next.into_iter().flatten().min();
        match next {
            Some(at) if at <= end_ns => {
                network.advance_to(at);
                true
            }
            _ => false,
        }
    }

    /// One turn of a shard, and what follows from it.
    fn turn(&mut self, at: u32) {
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
        if matches!(ending, Ending::TooManyRestarts | Ending::Failed(_)) {
            // As in a running server: one shard that gives up takes the others along.
            self.nodes[index].control.stop();
            self.ring_all(index);
        }
        let node = &mut self.nodes[index];
        node.endings[(at - node.shards.start) as usize] = Some(ending);
        self.network.borrow_mut().schedule.sleep(at, None);
    }
}
