//! Who is known: by path and by id, how well, and who gives way to whom.

pub(crate) mod cookie;
pub(crate) mod crowd;
pub(crate) mod idle;
pub mod own_addresses;
pub(crate) mod prefix;
pub(crate) mod refused_sources;
pub(crate) mod routes;
pub(crate) mod standing;
pub(crate) mod states;
