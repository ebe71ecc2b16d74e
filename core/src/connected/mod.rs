//! Peers with sockets of their own.

pub(crate) mod links;
pub(crate) mod promotion;
