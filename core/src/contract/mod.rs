//! What a driver promises, and what it is promised.

pub(crate) mod capabilities;
pub(crate) mod capability;
pub mod driver;
pub(crate) mod sink;
