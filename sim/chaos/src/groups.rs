//! Multicast groups of a run: which there are, and which a node's configuration joins.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use shardgram_core::{Config, Membership};

use crate::dice::Dice;

/// All of them, of both families.
pub(crate) const GROUPS: [IpAddr; 4] = [
    IpAddr::V4(Ipv4Addr::new(239, 7, 0, 1)),
    IpAddr::V4(Ipv4Addr::new(239, 7, 0, 2)),
    IpAddr::V4(Ipv4Addr::new(232, 7, 0, 3)),
    IpAddr::V6(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x71)),
];
/// Where listeners for every address are, and where handlers like to have endpoints.
pub(crate) const PORTS: [u16; 2] = [7_000, 9_100];

/// Which of the groups every shard of a node hears, if any shard does: whatever joins one there agrees about that.
pub(crate) type Everywhere = [bool; GROUPS.len()];

pub(crate) fn is_everywhere(everywhere: &Everywhere, group: IpAddr) -> bool {
    GROUPS.iter().zip(everywhere).any(|(one, every)| *one == group && *every)
}

/// A membership of a node that has this to say of who hears what.
pub(crate) fn membership(
    dice: &mut Dice,
    (ipv4, shards): (bool, u16),
    everywhere: &Everywhere,
    sources: &[IpAddr],
) -> Membership {
    let of_family: Vec<_> =
        GROUPS.iter().zip(everywhere).filter(|(group, _)| group.is_ipv4() == ipv4).collect();
    let (group, every_shard) =
        dice.pick(&of_family).map_or((GROUPS[0], false), |(group, all)| (**group, **all));
    let sources: Vec<_> = sources.iter().filter(|ip| ip.is_ipv4() == group.is_ipv4()).copied().collect();
    let source = dice.pick(&sources).copied();
    let source = source.filter(|_| dice.one_in(3));
    let any = Membership::any_source(group);
    let one = source.and_then(|source| Membership::source_specific(group, source).ok()).unwrap_or(any);
    if every_shard { one.every_shard() } else { one.shard(dice.below(u64::from(shards)) as u16) }
}

/// A configuration that joins a few, if it has listeners that can.
pub(crate) fn configure(
    dice: &mut Dice,
    mut config: Config,
    everywhere: &Everywhere,
    sources: &[IpAddr],
) -> Config {
    if dice.percent(30) {
        return config;
    }
    for _ in 0..dice.range(1..=4) {
        let with = (dice.percent(70), config.settings().shards);
        let joined = config.clone().join(membership(dice, with, everywhere, sources));
        // Not for a family that nothing takes, nor twice on the same socket.
        if joined.validate().is_ok() {
            config = joined;
        }
    }
    config
}
