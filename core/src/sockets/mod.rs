//! The sockets of a shard as its handler knows them: listeners, endpoints, and groups joined on them.

pub(crate) mod endpoints;
pub(crate) mod groups;
pub(crate) mod via;
