//! Faults that the randomised run has to find: each is a branch that `faults.patch` adds to a copy of the framework, and that
//! is taken on threads where the fault is planted.

use std::any::Any;
use std::cell::Cell;

/// A fault that can be planted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Datagrams of a peer that changes its socket come out of order.
    ReorderedHandover,
    /// A receive buffer that a reply refers to is announced once too often, and so never comes back.
    LeakedBuffer,
    /// A route is found by its slot alone, whoever lives there by now.
    StaleId,
    /// A reply from a wildcard address leaves from the host's first address.
    WrongLocalAddress,
    /// Of several shards that are to be woken at once only the first one is.
    LostWakeUp,
    /// What a foreign source sent to a peer's own socket is dropped instead of dispatched.
    DroppedForeign,
    /// A datagram of a path that finds no room is in none of the outcomes.
    MiscountedDrop,
    /// A timer that fires as the last one of its turn's budget fires again.
    DoubleTimer,
    /// A newcomer displaces a peer that has proven its address.
    DisplacedProven,
    /// A new path of a peer that has proven its address passes for proven, too.
    AmplifiedPath,
    /// Callbacks begin however much of the outbox is in use.
    OpenGate,
    /// What waited for room in the outbox is not handed over when there is some.
    LostRest,
    /// What comes from a source that is refused is handed over.
    RefusedLetIn,
    /// A handler that takes over from one that panicked begins without the peers that it was to keep.
    PeersLost,
    /// A datagram whose source is a listener of the same process is let through.
    TalkWithOneself,
    /// The cookies of all servers have the same key, so one that starts again takes those of the one before.
    SameCookies,
    /// Peers of a local address that is gone stay.
    LeftBehind,
    /// What comes to an address that has come back reaches no listener for every address.
    DeafAddress,
    /// Peers' own sockets of a server that was killed stay open.
    SocketOutlivesServer,
    /// A timer that a shard comes to much too late does not fire.
    LateTimerLost,
    /// A handler that takes over from one that panicked begins with the groups that that one had joined.
    GroupsOutliveHandler,
    /// What waits for a shard when it leaves a group that every shard hears goes to the owner of its sender.
    CopiesForwarded,
    /// A peer that lives on a shard because of a group gets a socket of its own, which catches what the owner is to have.
    CaughtByGroup,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 23] = [
        Self::ReorderedHandover,
        Self::LeakedBuffer,
        Self::StaleId,
        Self::WrongLocalAddress,
        Self::LostWakeUp,
        Self::DroppedForeign,
        Self::MiscountedDrop,
        Self::DoubleTimer,
        Self::DisplacedProven,
        Self::AmplifiedPath,
        Self::OpenGate,
        Self::LostRest,
        Self::RefusedLetIn,
        Self::PeersLost,
        Self::TalkWithOneself,
        Self::SameCookies,
        Self::LeftBehind,
        Self::DeafAddress,
        Self::SocketOutlivesServer,
        Self::LateTimerLost,
        Self::GroupsOutliveHandler,
        Self::CopiesForwarded,
        Self::CaughtByGroup,
    ];
}

thread_local! {
    static PLANTED: Cell<Option<Fault>> = const { Cell::new(None) };
}

/// Plants a fault on this thread in place of the one before, or none.
pub fn plant(fault: Option<Fault>) {
    PLANTED.set(fault);
}

/// Whether this fault is planted.
pub fn is(fault: Fault) -> bool {
    PLANTED.get() == Some(fault)
}

/// A second one of a value that is a number of 64 bits.
pub fn second<T: 'static>(value: &T) -> Option<T> {
    let number = *(value as &dyn Any).downcast_ref::<u64>()?;
    (Box::new(number) as Box<dyn Any>).downcast().ok().map(|second| *second)
}
