//! Faults that a test has this crate and the simulator make, so that it is known what the randomised run finds
//! (`sim/chaos`). Without the feature `planted_faults` every question here is answered by a constant, and nothing of
//! it is left in the program.

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
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::ReorderedHandover,
        Self::LeakedBuffer,
        Self::StaleId,
        Self::WrongLocalAddress,
        Self::LostWakeUp,
        Self::DroppedForeign,
        Self::MiscountedDrop,
        Self::DoubleTimer,
    ];
}

pub use switch::*;

#[cfg(not(feature = "planted_faults"))]
mod switch {
    use super::Fault;

    /// Whether this fault is planted: never.
    #[inline(always)]
    pub const fn is(_: Fault) -> bool {
        false
    }

    /// A second one of a value: never.
    #[inline(always)]
    pub const fn second<T>(_: &T) -> Option<T> {
        None
    }
}

#[cfg(feature = "planted_faults")]
mod switch {
    use std::any::Any;
    use std::cell::Cell;

    use super::Fault;

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
}
