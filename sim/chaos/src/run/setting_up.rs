//! How a run begins: the simulation, the model, and the nodes.

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use shardgram_core::LookupError;
use shardgram_sim::{NodeId, Sim, SimError};

use crate::groups::{GROUPS, PORTS};
use crate::handler::Chaotic;
use crate::ledger::Ledger;
use crate::plan::Plan;
use crate::reached::Reached;
use crate::run::Stage;
use crate::scenario::{NAMES, Scenario};
use crate::temper::Temper;
use crate::world::{Model, Note};

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
            nodes: Vec::new(),
            budget: scenario.budget,
            targets: scenario.reachable().collect(),
            sources: scenario.sources.clone(),
            hearers: Vec::new(),
            serial: 0,
            flooded: 0,
            keys: Default::default(),
            cookies: Default::default(),
        }));
        scenario.nodes.iter().for_each(|node| world.borrow_mut().add_node(node, Default::default()));
        let clients = scenario.clients.iter().map(|address| (sim.socket(*address), *address)).collect();
        let nats = scenario.nats.iter().map(|plan| sim.nat(plan.config())).collect();
        let places = (0..scenario.nodes.len()).collect();
        let (steps, begun, doors, nodes) = (0, 0, Vec::new(), Vec::new());
        let (raw_sent, raw_received, port_zero, seed) = (0, 0, 0, plan.seed);
        let mut stage = Self {
            sim,
            scenario,
            world,
            nodes,
            places,
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
                let of_it = |ip: &&IpAddr| {
                    if any { ip.is_ipv4() == listener.is_ipv4() } else { **ip == listener.ip() }
                };
                let ips = node.host.iter().filter(of_it);
                self.doors.extend(ips.map(|ip| SocketAddr::new(*ip, listener.port())));
            }
        }
        let mut model = self.world.borrow_mut();
        model.targets.extend(&self.doors);
        if !model.sources.is_empty() {
            let each = GROUPS.iter().flat_map(|group| PORTS.map(|port| SocketAddr::new(*group, port)));
            model.targets.extend(each);
        }
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
        let gone = self.world.borrow().nodes[index].gone.clone();
        let host: Vec<IpAddr> = node.host.iter().copied().filter(|ip| !gone.contains_key(ip)).collect();
        self.sim.server(&host, &node.config, Chaotic::<WHOLE, KEEPS>::factory(&self.world, index))
    }

    pub(super) fn start(&mut self) -> Result<(), String> {
        for index in 0..self.scenario.nodes.len() {
            self.start_node(index).map_err(|error| format!("node {index} did not start: {error}"))?;
        }
        Ok(())
    }

    /// Starts the next node.
    pub(super) fn start_node(&mut self, index: usize) -> Result<(), SimError> {
        let Temper { whole_trains, keeps, .. } = self.scenario.nodes[index].temper;
        let id = match (whole_trains, keeps) {
            (false, 0) => self.serve::<false, 0>(index),
            (false, 1) => self.serve::<false, 1>(index),
            (false, _) => self.serve::<false, 2>(index),
            (true, 0) => self.serve::<true, 0>(index),
            (true, 1) => self.serve::<true, 1>(index),
            (true, _) => self.serve::<true, 2>(index),
        }?;
        let any_port =
            self.scenario.nodes[index].config.settings().listen.iter().map(|listener| listener.port() == 0);
        for (address, any) in self.sim.local_addrs(&id).into_iter().zip(any_port) {
            if any {
                self.doors.push(address);
                self.world.borrow_mut().targets.push(address);
            }
        }
        self.nodes.push(id);
        Ok(())
    }
}
