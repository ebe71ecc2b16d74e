//! What a run is made of, all of it from one number: nodes, their configurations and tempers, links, clients, and
//! what happens when.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use shardgram_core::config::TierPolicy;
use shardgram_core::outbox::TrainLimits;
use shardgram_core::{Config, PathMtu, WaitPolicy};
use shardgram_sim::LinkConfig;

use crate::dice::Dice;
use crate::reached::Reached;
use crate::translators::NatPlan;

/// What a stream of numbers is for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Purpose {
    Scenario = 1,
    Node,
    Action,
    Callback,
}

/// What a run can do without, so that one that fails can be made simpler.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Part {
    /// Loss, duplication, reordering, jitter, MTUs, cuts.
    Faults,
    /// Datagrams that reach a shard that does not own them.
    MisSteering,
    /// Several datagrams that travel as one.
    Trains,
    /// Handlers that panic.
    Panics,
    /// Drains and stops.
    Ends,
    /// Sources that are forged.
    Spoofs,
    /// Many of them, at a rate.
    Floods,
    /// Clients behind translators of addresses.
    Nats,
    /// Endpoints of handlers.
    Endpoints,
    /// Messages between shards.
    Messages,
    /// Timers.
    Timers,
    /// Sockets of peers' own.
    Tiers,
    /// Local addresses that come and go.
    Addresses,
    /// Peers that are known by their names.
    Dials,
}

impl Part {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::Faults,
        Self::MisSteering,
        Self::Trains,
        Self::Panics,
        Self::Ends,
        Self::Spoofs,
        Self::Floods,
        Self::Nats,
        Self::Endpoints,
        Self::Messages,
        Self::Timers,
        Self::Tiers,
        Self::Addresses,
        Self::Dials,
    ];
}

/// What a handler may do in a callback.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Act {
    Send,
    SendToOther,
    SendToStale,
    SendTooLong,
    Slot,
    SlotDropped,
    SlotTooLong,
    Share,
    ShareStale,
    Close,
    CloseOther,
    CloseWhileWalking,
    SetTimer,
    SetPeerTimer,
    Cancel,
    Tell,
    TellNowhere,
    OpenEndpoint,
    OpenByEndpoint,
    OpenByListener,
    OpenWrongly,
    CloseEndpoint,
    Promote,
    Demote,
    Mark,
    Validate,
    UsePath,
    UseWrongPath,
    Cookie,
    Answer,
    AnswerNobody,
    Dial,
    Redial,
}

const ACTS: [(Act, Option<Part>); 33] = [
    (Act::Send, None),
    (Act::SendToOther, None),
    (Act::SendToStale, None),
    (Act::SendTooLong, None),
    (Act::Slot, None),
    (Act::SlotDropped, None),
    (Act::SlotTooLong, None),
    (Act::Share, None),
    (Act::ShareStale, None),
    (Act::Close, None),
    (Act::CloseOther, None),
    (Act::CloseWhileWalking, None),
    (Act::SetTimer, Some(Part::Timers)),
    (Act::SetPeerTimer, Some(Part::Timers)),
    (Act::Cancel, Some(Part::Timers)),
    (Act::Tell, Some(Part::Messages)),
    (Act::TellNowhere, Some(Part::Messages)),
    (Act::OpenEndpoint, Some(Part::Endpoints)),
    (Act::OpenByEndpoint, Some(Part::Endpoints)),
    (Act::OpenByListener, None),
    (Act::OpenWrongly, None),
    (Act::CloseEndpoint, Some(Part::Endpoints)),
    (Act::Promote, Some(Part::Tiers)),
    (Act::Demote, Some(Part::Tiers)),
    (Act::Mark, None),
    (Act::Validate, None),
    (Act::UsePath, None),
    (Act::UseWrongPath, None),
    (Act::Cookie, None),
    (Act::Answer, None),
    (Act::AnswerNobody, None),
    (Act::Dial, Some(Part::Dials)),
    (Act::Redial, Some(Part::Dials)),
];

/// Names that are known in every run, beside one that is not.
pub(crate) const NAMES: [&str; 4] = ["doors.test", "clients.test", "down.test", "nobody.test"];

/// How a node's handlers are. A seed leaves out about half of what there is, so that the rest meets more often.
#[derive(Clone, Debug)]
pub(crate) struct Temper {
    pub(crate) acts: Vec<Act>,
    /// Most acts in a callback.
    pub(crate) busy: u64,
    /// Of a hundred datagrams so many are replied to in place.
    pub(crate) replies: u8,
    /// Weights of what `accept` says: peer, connect, done, reply, path of, drop.
    pub(crate) accepts: [u8; 6],
    /// One callback in so many panics; never if 0.
    pub(crate) panics: u64,
    /// The length most datagrams have.
    pub(crate) segment: usize,
    pub(crate) whole_trains: bool,
    pub(crate) opens_at_start: bool,
    /// Of a hundred drains so many wait for the peers.
    pub(crate) patience: u8,
}

#[derive(Clone, Debug)]
pub(crate) struct NodePlan {
    pub(crate) host: Vec<IpAddr>,
    pub(crate) config: Config,
    pub(crate) temper: Temper,
}

/// Something that is done to the simulation from outside.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Action {
    /// How long after the one before.
    pub(crate) after: Duration,
    /// Which one, among those there were before any was left out.
    pub(crate) index: u32,
    pub(crate) what: What,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum What {
    Datagram,
    Burst,
    Train,
    Spoof,
    /// Datagrams of many sources that are nobody's, or somebody else's.
    Flood,
    EndFloods,
    /// A translator forgets all it knew, or moves to another address.
    Nat,
    ToEndpoint,
    Tell,
    Cut,
    Heal,
    /// A partition, or the end of all.
    Partition,
    /// An ICMP error that nobody had a reason for.
    ForgedError,
    /// A node loses an address, or gets one back.
    Address,
    Refresh,
    Drain,
    Stop,
}

#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) nodes: Vec<NodePlan>,
    pub(crate) clients: Vec<SocketAddr>,
    pub(crate) nats: Vec<NatPlan>,
    pub(crate) link: LinkConfig,
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
        scenario.actions = actions(&mut Dice::of(&[shape, 4]), faulty, &has);
        let takes_away = |a: &Action| matches!(a.what, What::Cut | What::Partition | What::Address);
        scenario.lossless &= !scenario.actions.iter().any(takes_away);
        scenario
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
        if config.listen_addrs().is_empty() {
            config = config.listen(SocketAddr::new(host[0], 0));
        }
    }
    let temper = temper(dice, has, config.listen_addrs().is_empty());
    NodePlan { host, config, temper }
}

fn temper(dice: &mut Dice, has: &impl Fn(Part) -> bool, is_client: bool) -> Temper {
    let share = *dice.pick(&[20, 50, 90]).unwrap_or(&50);
    let allowed = |part: &Option<Part>| part.is_none_or(has);
    let mut acts: Vec<Act> =
        ACTS.iter().filter(|(_, part)| dice.percent(share) && allowed(part)).map(|(act, _)| *act).collect();
    if acts.is_empty() {
        acts.push(Act::Send);
    }
    let mut accepts = [60, 20, 10, 10, 20, 10].map(|w: u8| if dice.percent(60) { w } else { 0 });
    if accepts[..2].iter().all(|w| *w == 0) && dice.percent(90) {
        accepts[dice.below(2) as usize] = 100;
    }
    if accepts.iter().all(|w| *w == 0) {
        accepts[0] = 1;
    }
    let panics = if dice.percent(30) && has(Part::Panics) { dice.range(5..=200) } else { 0 };
    Temper {
        acts,
        busy: *dice.pick(&[0, 1, 3, 8]).unwrap_or(&1),
        replies: *dice.pick(&[0, 50, 100]).unwrap_or(&50),
        accepts,
        panics,
        segment: *dice.pick(&[8, 40, 100, 1_200]).unwrap_or(&40),
        whole_trains: dice.percent(40),
        opens_at_start: is_client || dice.percent(20),
        patience: *dice.pick(&[0, 50, 100]).unwrap_or(&0),
    }
}

type Setter = fn(Config, &mut Dice) -> Config;

fn small(dice: &mut Dice, choices: &[u32]) -> u32 {
    *dice.pick(choices).unwrap_or(&1)
}

/// Every setting that means something without a kernel, and the values it may get: small ones above all, since
/// bounds are what is to be met.
const SETTERS: [(&str, Setter); 32] = [
    ("shards", |c, d| c.shards(d.range(1..=4) as u16)),
    ("max_peers", |c, d| c.max_peers(small(d, &[1, 2, 3, 8, 64]))),
    ("max_paths_per_peer", |c, d| c.max_paths_per_peer(small(d, &[1, 2, 3, 8]) as u8)),
    ("max_datagram", |c, d| c.max_datagram(small(d, &[1, 7, 8, 64, 512, 1_472, 9_000]))),
    ("receive_buffers", |c, d| c.receive_buffers(small(d, &[8, 16, 64]) as u16)),
    ("submission_entries", |c, d| c.submission_entries(small(d, &[4, 16]) as u16)),
    ("completion_entries", |c, d| c.completion_entries(small(d, &[1_024, 65_536]))),
    ("turn_budget", |c, d| c.turn_budget(small(d, &[1, 2, 7, 64]))),
    ("gather_us", |c, d| c.gather_us(small(d, &[0, 1_000]))),
    ("event_budget", |c, d| c.event_budget(small(d, &[1, 2, 5, 64]))),
    ("outbox_bytes", |c, d| c.outbox_bytes(small(d, &[64 << 10, 128 << 10]))),
    ("outbox_datagrams", |c, d| c.outbox_datagrams(small(d, &[1, 2, 5, 20, 500]))),
    ("send_queue_bytes", |c, d| c.send_queue_bytes(small(d, &[4 << 10, 16 << 10]))),
    ("send_backlog_bytes", |c, d| c.send_backlog_bytes(small(d, &[64 << 10, 128 << 10]))),
    ("mailbox_len", |c, d| c.mailbox_len(small(d, &[1, 2, 5, 64]))),
    ("max_lookups", |c, d| c.max_lookups(small(d, &[1, 2, 5]))),
    ("max_timers", |c, d| c.max_timers(small(d, &[1, 2, 5, 100]))),
    ("max_endpoints", |c, d| c.max_endpoints(small(d, &[0, 1, 2, 5]))),
    ("receive_socket_bytes", |c, d| c.receive_socket_bytes(small(d, &[4 << 10, 16 << 10, 1 << 20]))),
    ("send_socket_bytes", |c, d| c.send_socket_bytes(small(d, &[4 << 10, 16 << 10, 1 << 20]))),
    ("amplification_limit", |c, d| c.amplification_limit(small(d, &[1, 3, 100]))),
    ("max_restarts_per_minute", |c, d| c.max_restarts_per_minute(small(d, &[0, 1, 1_000, 1_000]))),
    ("max_local_addresses", |c, d| c.max_local_addresses(small(d, &[0, 1, 8]) as u16)),
    ("idle_timeout", |c, d| c.idle_timeout(*d.pick(&IDLE).unwrap_or(&None))),
    ("trains", |c, d| c.trains(d.percent(50))),
    ("ecn", |c, _| c.ecn(true)),
    ("receive_timestamps", |c, _| c.receive_timestamps(true)),
    ("path_mtu", |c, d| c.path_mtu(*d.pick(&MTUS).unwrap_or(&PathMtu::System))),
    ("tier", |c, d| c.tier(*d.pick(&TIERS).unwrap_or(&TierPolicy::Listener))),
    ("wait", |c, d| c.wait(*d.pick(&WAITS).unwrap_or(&WaitPolicy::Block))),
    ("max_connected", |c, d| c.max_connected(small(d, &[0, 4, 8, 32]))),
    ("max_connected_per_address", |c, d| c.max_connected_per_address(small(d, &[0, 1, 4, 8]))),
];

const IDLE: [Option<Duration>; 4] =
    [None, Some(Duration::from_millis(8)), Some(Duration::from_millis(60)), Some(Duration::from_secs(1))];
const MTUS: [PathMtu; 3] = [PathMtu::Refuse, PathMtu::Probe, PathMtu::Fragment];
const TIERS: [TierPolicy; 2] = [TierPolicy::Connected, TierPolicy::Adaptive];
const WAITS: [WaitPolicy; 2] = [WaitPolicy::Spin, WaitPolicy::SpinFor(Duration::from_micros(50))];

fn configuration(dice: &mut Dice, has: &impl Fn(Part) -> bool, reached: &mut Reached) -> Config {
    // What is left as it is takes memory in proportion, so that is small too.
    let mut config = Config::new()
        .max_peers(32)
        .max_timers(64)
        .mailbox_len(64)
        .outbox_bytes(256 << 10)
        .outbox_datagrams(512)
        .receive_buffers(32)
        .max_datagram(2_000)
        .max_restarts_per_minute(100);
    let share = *dice.pick(&[10, 40, 80]).unwrap_or(&40);
    for (name, set) in SETTERS {
        let mut own = Dice::of(&[dice.number()]);
        let always = matches!(name, "shards");
        if (always || own.percent(share)) && (name != "tier" || has(Part::Tiers)) {
            config = set(config, &mut own);
            reached.note("config", name);
        }
    }
    config
}

fn actions(dice: &mut Dice, faulty: bool, has: &impl Fn(Part) -> bool) -> Vec<Action> {
    let count = *dice.pick(&[20, 100, 300]).unwrap_or(&100);
    let weights = [
        (What::Datagram, 50, true),
        (What::Burst, 15, true),
        (What::Train, 15, has(Part::Trains)),
        (What::Spoof, 8, has(Part::Spoofs)),
        (What::Flood, 2, has(Part::Floods)),
        (What::EndFloods, 2, has(Part::Floods)),
        (What::Nat, 2, has(Part::Nats)),
        (What::ToEndpoint, 8, has(Part::Endpoints)),
        (What::Tell, 8, has(Part::Messages)),
        (What::Cut, 1, faulty),
        (What::Heal, 3, faulty),
        (What::Partition, 2, faulty),
        (What::ForgedError, 3, has(Part::Spoofs)),
        (What::Address, 3, has(Part::Addresses)),
        (What::Refresh, 2, true),
        (What::Drain, 1, has(Part::Ends)),
        (What::Stop, 1, has(Part::Ends)),
    ];
    let mut left_out = Dice::of(&[dice.number()]);
    let ends = left_out.percent(30);
    let table: Vec<(What, u8)> = weights
        .iter()
        .map(|(what, weight, allowed)| {
            let ending = matches!(what, What::Drain | What::Stop);
            let stays = *allowed && (*what == What::Datagram || left_out.percent(70)) && (!ending || ends);
            (*what, if stays { *weight } else { 0 })
        })
        .collect();
    let hurry = dice.below(3);
    (0..count)
        .map(|index| {
            let mut own = Dice::of(&[dice.number()]);
            let what = table[own.weighted(&table.iter().map(|(_, w)| *w).collect::<Vec<_>>())].0;
            let most = [2, 100, 5_000][hurry as usize];
            let pause = if own.one_in(50) { own.below(200_000) } else { own.below(most) };
            Action { after: Duration::from_micros(pause), index, what }
        })
        .collect()
}
