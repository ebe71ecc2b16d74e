//! How a run begins: the simulation, the model, and the nodes.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use shardgram_core::{Config, LookupError};
use shardgram_sim::{NodeId, Sim, SimError};

use crate::handler::Chaotic;
use crate::ledger::Ledger;
use crate::plan::Plan;
use crate::reached::Reached;
use crate::run::Stage;
use crate::scenario::{NAMES, NodePlan, Scenario};
use crate::temper::Temper;
use crate::world::{Limits, Model, NodeModel, Note, ShardModel};

impl Stage {
    pub(super) fn new(plan: &Plan, trace: bool, reached: &mut Reached) -> Self {
        let scenario = Scenario::of(plan.seed, &plan.without, reached);
        let mut sim = Sim::new(plan.seed);
        sim.trace(trace);
        sim.link(scenario.link);
        sim.mis_steer(scenario.mis_steer).expect("in range");
        sim.stray(scenario.stray).expect("in range");
        sim.refuse_sockets(scenario.refuse).expect("in range");
        for ip in scenario.nodes.iter().flat_map(|node| &node.host) {
            sim.uplink(*ip, scenario.uplink).expect("in range");
        }
        sim.turn_cost(scenario.turn.0, scenario.turn.1).expect("in range");
        sim.train_limits(scenario.train_limits);
        let world = Rc::new(RefCell::new(Model {
            seed: plan.seed,
            calm: false,
            reached: Reached::default(),
            wrong: None,
            ledger: Ledger::new(&scenario),
            nodes: scenario.nodes.iter().map(model_of).collect(),
            budget: scenario.budget,
            targets: scenario.reachable().collect(),
            serial: 0,
            flooded: 0,
            keys: Default::default(),
        }));
        let clients = scenario.clients.iter().map(|address| (sim.socket(*address), *address)).collect();
        let nats = scenario.nats.iter().map(|plan| sim.nat(plan.config())).collect();
        let (steps, begun, doors, nodes) = (0, 0, Vec::new(), Vec::new());
        let (raw_sent, raw_received, port_zero, seed) = (0, 0, 0, plan.seed);
        let mut stage = Self {
            sim,
            scenario,
            world,
            nodes,
            clients,
            doors,
            seed,
            steps,
            begun,
            raw_sent,
            raw_received,
            port_zero,
            floods: Vec::new(),
            nats,
        };
        stage.find_doors();
        stage.set_names();
        stage
    }

    /// Handlers may speak with listeners from their start on, so their addresses are known before. Those of port 0
    /// are found later.
    fn find_doors(&mut self) {
        for node in &self.scenario.nodes {
            for listener in node.config.settings().listen.iter().filter(|listener| listener.port() != 0) {
                let any = listener.ip().is_unspecified();
                let of_it = |ip: &&std::net::IpAddr| {
                    if any { ip.is_ipv4() == listener.is_ipv4() } else { **ip == listener.ip() }
                };
                let ips = node.host.iter().filter(of_it);
                self.doors.extend(ips.map(|ip| SocketAddr::new(*ip, listener.port())));
            }
        }
        self.world.borrow_mut().targets.extend(&self.doors);
    }

    fn set_names(&mut self) {
        let found = [
            Ok(self.doors.iter().map(|door| door.ip()).collect()),
            Ok(self.scenario.reachable().map(|client| client.ip()).collect()),
            Err(LookupError::Temporary),
        ];
        for (name, addresses) in NAMES.into_iter().zip(found) {
            self.sim.name(name, addresses, Duration::from_millis(3));
        }
    }

    fn serve<const WHOLE: bool, const KEEPS: u8>(&mut self, index: usize) -> Result<NodeId<Note>, SimError> {
        let node = &self.scenario.nodes[index];
        self.sim.server(&node.host, &node.config, Chaotic::<WHOLE, KEEPS>::factory(&self.world, index))
    }

    pub(super) fn start(&mut self) -> Result<(), String> {
        for index in 0..self.scenario.nodes.len() {
            let Temper { whole_trains, keeps, .. } = self.scenario.nodes[index].temper;
            let started = match (whole_trains, keeps) {
                (false, 0) => self.serve::<false, 0>(index),
                (false, 1) => self.serve::<false, 1>(index),
                (false, _) => self.serve::<false, 2>(index),
                (true, 0) => self.serve::<true, 0>(index),
                (true, 1) => self.serve::<true, 1>(index),
                (true, _) => self.serve::<true, 2>(index),
            };
            let id = started.map_err(|error| format!("node {index} did not start: {error}"))?;
            let any_port = self.scenario.nodes[index]
                .config
                .settings()
                .listen
                .iter()
                .map(|listener| listener.port() == 0);
            for (address, any) in self.sim.local_addrs(&id).into_iter().zip(any_port) {
                if any {
                    self.doors.push(address);
                    self.world.borrow_mut().targets.push(address);
                }
            }
            self.nodes.push(id);
        }
        Ok(())
    }
}

fn model_of(node: &NodePlan) -> NodeModel {
    NodeModel {
        host: node.host.clone(),
        lost: Vec::new(),
        limits: limits_of(&node.config),
        temper: node.temper.clone(),
        shards: (0..node.config.settings().shards).map(|_| ShardModel::default()).collect(),
        peers: Default::default(),
        joined: Default::default(),
        mail: Default::default(),
        ends_by: None,
        stopped: false,
        drained: Cell::new(false),
        opened_endpoints: false,
        dialed: false,
        left: Default::default(),
    }
}

fn limits_of(config: &Config) -> Limits {
    let settings = config.settings();
    Limits {
        peers: settings.max_peers as usize,
        reserved: match (settings.max_proven_per_prefix, settings.max_proven_peers) {
            (0, 0) => Some((settings.max_peers - settings.max_peers.div_ceil(4)) as usize),
            (0, reserved) => Some(reserved as usize),
            _ => None,
        },
        timers: settings.max_timers as usize,
        mailbox: settings.mailbox_len as usize,
        endpoints: settings.max_endpoints as usize,
        amplification: settings.amplification_limit.into(),
        datagram: settings.max_datagram as usize,
        idle: settings.idle_timeout,
        ecn: settings.ecn,
        times: settings.receive_timestamps,
        queue: settings.outbox_datagrams.into(),
    }
}
