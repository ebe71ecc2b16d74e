//! What is to leave, and under which bounds: the outbox of a turn, and what waits for room in a socket.

pub mod backlog;
pub(crate) mod gate;
pub mod outbox;
pub(crate) mod policy;
pub(crate) mod refused;
pub(crate) mod sending;
pub(crate) mod stateless;
pub(crate) mod train;
