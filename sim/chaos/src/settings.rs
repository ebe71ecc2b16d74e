//! Configurations of nodes.

use std::time::Duration;

use shardgram_core::config::TierPolicy;
use shardgram_core::{Config, PathMtu, WaitPolicy};

use crate::dice::Dice;
use crate::part::Part;
use crate::reached::Reached;

type Setter = fn(Config, &mut Dice) -> Config;

fn small(dice: &mut Dice, choices: &[u32]) -> u32 {
    *dice.pick(choices).unwrap_or(&1)
}

/// Every setting that means something without a kernel, and the values it may get: small ones above all, since
/// bounds are what is to be met.
const SETTERS: [(&str, Setter); 36] = [
    ("shards", |c, d| c.shards(d.range(1..=4) as u16)),
    ("max_peers", |c, d| c.max_peers(small(d, &[1, 2, 3, 8, 64]))),
    ("max_proven_peers", |c, d| {
        let most = c.settings().max_peers;
        c.max_proven_peers(d.below(most.into()) as u32)
    }),
    ("max_proven_per_prefix", |c, d| c.max_proven_per_prefix(small(d, &[0, 1, 3]))),
    ("newcomers_per_prefix", |c, d| c.newcomers_per_prefix(small(d, &[0, 1, 10]))),
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
    ("stateless_answers_per_second", |c, d| c.stateless_answers_per_second(small(d, &[0, 1, 3, 100]))),
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

/// A configuration, with some of its settings drawn.
pub(crate) fn configuration(dice: &mut Dice, has: &impl Fn(Part) -> bool, reached: &mut Reached) -> Config {
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
