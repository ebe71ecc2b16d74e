//! Words that every room needs: names, datagrams and where they come from, what can go wrong.

pub mod datagram;
pub(crate) mod ecn;
pub(crate) mod endpoint;
pub mod error;
pub mod flow;
pub(crate) mod ids;
pub(crate) mod interface;
pub(crate) mod join_error;
pub(crate) mod multicast;
pub(crate) mod names;
pub(crate) mod path_mtu;
pub(crate) mod receivers;
