//! What a run is made of, all of it from one number: nodes, their configurations and tempers, links, clients, and
//! what happens when.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use shardgram_core::Config;
use shardgram_core::outbox::TrainLimits;
use shardgram_sim::LinkConfig;

use crate::actions::{Action, What, actions};
use crate::dice::{Dice, Purpose};
use crate::groups;
use crate::part::Part;
use crate::reached::Reached;
use crate::settings::configuration;
use crate::temper::Temper;
use crate::translators::NatPlan;

/// Names that are known in every run, beside one that is not.
pub(crate) const NAMES: [&str; 4] = ["doors.test", "clients.test", "down.test", "nobody.test"];

#[derive(Clone, Debug)]
pub(crate) struct NodePlan {
    pub(crate) host: Vec<IpAddr>,
    pub(crate) config: Config,
    pub(crate) temper: Temper,
}

#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) nodes: Vec<NodePlan>,
    pub(crate) clients: Vec<SocketAddr>,
    pub(crate) nats: Vec<NatPlan>,
    pub(crate) link: LinkConfig,
    /// How long it takes at least.
    pub(crate) delay: Duration,
    /// Sources that may be named, where a group is joined for some.
    pub(crate) sources: Vec<IpAddr>,
    pub(crate) mis_steer: f64,
    /// How often datagrams come by another peer's socket, and how often peers are refused one.
    pub(crate) stray: f64,
    pub(crate) refuse: f64,
    /// Bytes a second of the nodes' interfaces.
    pub(crate) uplink: Option<u64>,
    pub(crate) turn: (Duration, Duration),
    pub(crate) train_limits: TrainLimits,
    pub(crate) actions: Vec<Action>,
    /// Whether the network keeps the order of datagrams, doubles none, and loses none.
    pub(crate) in_order: bool,
    pub(crate) at_most_once: bool,
    pub(crate) lossless: bool,
    /// How long what is on its way takes at most.
    pub(crate) slowest: Duration,
    pub(crate) budget: u32,
}

impl Scenario {
    pub(crate) fn of(seed: u64, without: &[Part], reached: &mut Reached) -> Self {
        let has = |part: Part| !without.contains(&part);
        let mut dice = Dice::of(&[seed, Purpose::Scenario as u64]);
        let shape = dice.number();
        let mut count = Dice::of(&[shape, 1]);
        let nodes = (0..count.range(1..=3))
            .map(|index| {
                node(&mut Dice::of(&[seed, Purpose::Node as u64, index]), index as u8, &has, reached)
            })
            .collect();
        let clients = (0..count.range(1..=8)).map(|index| client(&mut count, index as u8)).collect();
        let mut links = Dice::of(&[shape, 2]);
        let faulty = links.percent(60) && has(Part::Faults);
        let mut scenario = Self {
            nodes,
            clients,
            nats: Vec::new(),
            link: LinkConfig::new(),
            delay: Duration::ZERO,
            sources: Vec::new(),
            mis_steer: 0.0,
            stray: 0.0,
            refuse: 0.0,
            uplink: None,
            turn: (Duration::from_micros(1), Duration::ZERO),
            train_limits: TrainLimits { datagrams: 64, bytes: 65_000 },
            actions: Vec::new(),
            in_order: true,
            at_most_once: true,
            lossless: true,
            slowest: Duration::from_secs(2),
            budget: 4_000,
        };
        scenario.links(&mut links, faulty, has(Part::Trains));
        if links.percent(40) && has(Part::MisSteering) {
            scenario.mis_steer = [0.02, 0.2, 0.8][links.below(3) as usize];
        }
        if links.percent(25) && has(Part::MisSteering) && has(Part::Tiers) {
            scenario.stray = [0.05, 0.5][links.below(2) as usize];
        }
        if links.percent(15) && has(Part::Tiers) {
            scenario.refuse = [0.1, 0.9][links.below(2) as usize];
        }
        if links.percent(30) && has(Part::Faults) {
            scenario.uplink = links.pick(&[100_000, 500_000, 5_000_000]).copied();
        }
        let mut turns = Dice::of(&[shape, 3]);
        scenario.turn = *turns
            .pick(&[(1_000, 0), (1_000, 5_000), (50_000, 200_000), (300, 100)])
            .map(|(least, spread)| (Duration::from_nanos(*least), Duration::from_nanos(*spread)))
            .get_or_insert((Duration::from_micros(1), Duration::ZERO));
        scenario.train_limits = match turns.below(3) {
            0 => TrainLimits::SINGLE,
            1 => TrainLimits { datagrams: turns.range(2..=8) as u32, bytes: turns.range(500..=8_000) as u32 },
            _ => TrainLimits { datagrams: 64, bytes: 65_000 },
        };
        let mut nats = Dice::of(&[shape, 5]);
        if nats.percent(40) && has(Part::Nats) {
            scenario.nats = translators(&mut nats, &scenario.clients);
        }
        if has(Part::Groups) {
            scenario.join_groups(seed);
        }
        scenario.actions = actions(&mut Dice::of(&[shape, 4]), faulty, &has);
        let takes_away = |a: &Action| {
            use What::{Address, Cut, Flap, Interface, Kill, Partition};
            matches!(a.what, Cut | Partition | Address | Flap | Interface | Kill)
        };
        scenario.lossless &= !scenario.actions.iter().any(takes_away);
        scenario
    }

    /// Sources are clients that are known by their own addresses, and nodes.
    fn join_groups(&mut self, seed: u64) {
        let hosts = self.nodes.iter().flat_map(|node| &node.host).copied();
        self.sources = self.reachable().map(|client| client.ip()).chain(hosts).collect();
        for (index, node) in (0..).zip(&mut self.nodes) {
            let mut dice = Dice::of(&[seed, Purpose::Groups as u64, index]);
            let config = std::mem::take(&mut node.config);
            node.config = groups::configure(&mut dice, config, &node.temper.everywhere, &self.sources);
        }
    }

    /// The clients that others may write to first: those behind no translator.
    pub(crate) fn reachable(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        let hidden = |ip: IpAddr| self.nats.iter().any(|nat| nat.inside.contains(&ip));
        self.clients.iter().copied().filter(move |client| !hidden(client.ip()))
    }

    fn links(&mut self, dice: &mut Dice, faulty: bool, trains: bool) {
        let micros = |us: u64| Duration::from_micros(us);
        let mut link = LinkConfig::new().trains(trains && dice.percent(50));
        let delay = *dice.pick(&[0, 1, 50, 5_000]).unwrap_or(&50);
        link = link.delay(micros(delay)).expect("in range");
        self.delay = micros(delay);
        if faulty {
            if dice.percent(40) {
                link = link.loss([0.01, 0.3][dice.below(2) as usize]).expect("in range");
                self.lossless = false;
            }
            if dice.percent(40) {
                link = link.duplication([0.01, 0.3][dice.below(2) as usize]).expect("in range");
                self.at_most_once = false;
            }
            if dice.percent(30) {
                link = link.jitter(micros([5, 3_000][dice.below(2) as usize])).expect("in range");
                self.in_order = false;
            }
            if dice.percent(30) {
                link = link.reordering(0.1, micros(2_000)).expect("in range");
                self.in_order = false;
            }
            if dice.percent(30) {
                link = link.mtu(Some([68, 600, 1_500][dice.below(3) as usize])).expect("in range");
                self.lossless = false;
            }
            if dice.percent(20) {
                link = link.router_mtu(Some([68, 600, 1_500][dice.below(3) as usize])).expect("in range");
                self.lossless = false;
            }
            if dice.percent(20) {
                let (bytes, queue) =
                    ([30_000, 3_000_000][dice.below(2) as usize], dice.range(100..=20_000) as u32);
                link = link.bandwidth(bytes, queue).expect("in range");
                self.lossless = false;
            }
            link = link.silent(dice.percent(20));
        }
        self.link = link;
    }
}

/// Who is behind which translator: about half of the clients, and most of these behind the same one.
fn translators(dice: &mut Dice, clients: &[SocketAddr]) -> Vec<NatPlan> {
    let mut inside: [Vec<IpAddr>; 4] = Default::default();
    for client in clients {
        let (hidden, second) = (dice.percent(60), usize::from(dice.one_in(4)));
        if hidden {
            inside[2 * usize::from(client.is_ipv6()) + second].push(client.ip());
        }
    }
    let inside = inside.into_iter().filter(|inside| !inside.is_empty());
    inside.zip(0..).map(|(inside, index)| NatPlan::of(dice, index, inside)).collect()
}

fn client(dice: &mut Dice, index: u8) -> SocketAddr {
    let port = dice.range(1..=65_535) as u16;
    if dice.percent(75) {
        SocketAddr::new(Ipv4Addr::new(10, 9, dice.below(2) as u8, index + 1).into(), port)
    } else {
        SocketAddr::new(Ipv6Addr::new(0xfd00, 9, 0, 0, 0, 0, 0, u16::from(index) + 1).into(), port)
    }
}

fn node(dice: &mut Dice, index: u8, has: &impl Fn(Part) -> bool, reached: &mut Reached) -> NodePlan {
    let mut host: Vec<IpAddr> =
        (0..dice.range(1..=3)).map(|i| Ipv4Addr::new(10, 0, index, i as u8 + 1).into()).collect();
    let v6 = dice.percent(50);
    if v6 {
        let address = |i| IpAddr::from(Ipv6Addr::new(0xfd00, u16::from(index), 0, 0, 0, 0, 0, i as u16 + 1));
        host.extend((0..dice.range(1..=2)).map(address));
    }
    let mut config = configuration(dice, has, reached);
    // A client is a node without listeners.
    if index == 0 || dice.percent(75) {
        if dice.percent(60) {
            config = config.listen((Ipv4Addr::UNSPECIFIED, 7_000).into());
            if v6 {
                config = config.listen((Ipv6Addr::UNSPECIFIED, 7_000).into());
            }
        }
        let more: Vec<_> = host.iter().filter(|_| dice.percent(50)).copied().collect();
        for address in more {
            config = config.listen(SocketAddr::new(address, 8_000));
        }
        if config.settings().listen.is_empty() {
            config = config.listen(SocketAddr::new(host[0], 0));
        }
    }
    let temper = Temper::of(dice, has, config.settings().listen.is_empty());
    NodePlan { host, config, temper }
}
