//! What a run can do without.

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
    /// Local addresses and interfaces that come and go.
    Addresses,
    /// Peers that are known by their names.
    Dials,
    /// Nodes that are killed, and nodes that start again.
    Kills,
    /// Shards that get no processor.
    Stalls,
    /// Multicast groups.
    Groups,
}

impl Part {
    /// All of them.
    pub const ALL: [Self; 17] = [
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
        Self::Kills,
        Self::Stalls,
        Self::Groups,
    ];
}
