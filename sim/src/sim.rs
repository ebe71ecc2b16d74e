//! The public face: a simulation, and how its world is.

mod addresses;
mod clock;
mod faults;
mod floods;
mod nats;
mod nodes;
mod raw_sockets;

use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use shardgram_core::LookupError;
use shardgram_core::outbox::TrainLimits;

use crate::counts::Counts;
use crate::error::RangeError;
use crate::flood::{FloodId, Floods};
use crate::link::LinkConfig;
use crate::names::Names;
use crate::network::Network;
use crate::node::{Node, Runner};
use crate::plan::Plan;
use crate::seed::{Dice, Probability, Stream};
use crate::seeds::{LINES, how_to_run_again, lines_asked};

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

/// Something that is to be done at a time.
enum Task {
    Call(Box<dyn FnOnce(&mut Sim)>),
    Flood(FloodId),
}

/// A simulation: servers, clients, the network between them, and the time.
///
/// Time stands still while anything can run, but for the cost of turns, and then jumps to the next event.
/// See the [crate's page](crate) for an example.
pub struct Sim {
    network: Rc<RefCell<Network>>,
    nodes: Vec<Node>,
    shards: Vec<Shard>,
    names: Names,
    secrets: Dice,
    turn_dice: Dice,
    turn_least_ns: u64,
    turn_spread_ns: u64,
    trains: TrainLimits,
    seed: u64,
    plan: Plan<Task>,
    floods: Floods,
}

impl std::fmt::Debug for Sim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sim").field("elapsed", &self.elapsed()).field("nodes", &self.nodes.len()).finish()
    }
}

/// Says which seed it was when a test fails.
impl Drop for Sim {
    fn drop(&mut self) {
        if !thread::panicking() {
            return;
        }
        eprintln!("{}", how_to_run_again(self.seed(), self.elapsed()));
        // The panic may have come out of the network itself.
        if let Ok(network) = self.network.try_borrow() {
            let lines = network.log.lines();
            let before = lines.len().saturating_sub(LINES);
            lines.skip(before).for_each(|line| eprintln!("{line}"));
        }
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
            floods: Floods::new(Dice::new(seed, Stream::Floods)),
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
