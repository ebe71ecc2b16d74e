//! What is done to the simulation from outside, and when.

use std::time::Duration;

use crate::dice::Dice;
use crate::part::Part;

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
    /// Datagrams to a group.
    ToGroup,
    /// A client joins a group or leaves it.
    Member,
    Tell,
    Cut,
    Heal,
    /// A partition, or the end of all.
    Partition,
    /// An ICMP error that nobody had a reason for.
    ForgedError,
    /// A node loses an address, or gets one back.
    Address,
    /// It loses one and has it back at once.
    Flap,
    /// It loses all, or gets all back.
    Interface,
    /// A node ends without a word.
    Kill,
    /// Those that have ended start again.
    Restart,
    /// A shard has no processor for a while.
    Stall,
    Refresh,
    Drain,
    Stop,
}

impl What {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Datagram => "datagram",
            Self::Burst => "burst",
            Self::Train => "train",
            Self::Spoof => "spoof",
            Self::Flood => "flood",
            Self::EndFloods => "end of floods",
            Self::Nat => "translator",
            Self::ToEndpoint => "to an endpoint",
            Self::ToGroup => "to a group",
            Self::Member => "member",
            Self::Tell => "tell",
            Self::Cut => "cut",
            Self::Heal => "heal",
            Self::Partition => "partition",
            Self::ForgedError => "forged error",
            Self::Address => "address",
            Self::Flap => "flap",
            Self::Interface => "interface",
            Self::Kill => "kill",
            Self::Restart => "restart",
            Self::Stall => "stall",
            Self::Refresh => "refresh",
            Self::Drain => "drain",
            Self::Stop => "stop",
        }
    }
}

/// All that is done in a run.
pub(crate) fn actions(dice: &mut Dice, faulty: bool, has: &impl Fn(Part) -> bool) -> Vec<Action> {
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
        (What::Flap, 1, has(Part::Addresses)),
        (What::Interface, 1, has(Part::Addresses)),
        (What::Kill, 1, has(Part::Kills)),
        (What::Restart, 2, has(Part::Kills)),
        (What::Stall, 3, has(Part::Stalls)),
        (What::Refresh, 2, true),
        (What::Drain, 1, has(Part::Ends)),
        (What::Stop, 1, has(Part::Ends)),
        (What::ToGroup, 15, has(Part::Groups)),
        (What::Member, 4, has(Part::Groups)),
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
