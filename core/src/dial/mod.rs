//! Peers that are known by name: lookups off the shards, and attempts at one address after the other.

pub(crate) mod attempts;
pub(crate) mod dials;
pub(crate) mod request;
pub mod resolver;
