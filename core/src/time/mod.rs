//! Time as an argument: deadlines, paces and how often something may be said. Nothing here reads a clock.

pub(crate) mod clock;
pub mod gathering;
pub(crate) mod moment;
pub(crate) mod pace;
pub mod seldom;
pub(crate) mod silence;
pub(crate) mod timers;
