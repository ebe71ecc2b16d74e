//! One turn of a shard: from what a driver hands over to callbacks, and back to what it has to send.

pub mod control;
pub(crate) mod dispatch;
pub(crate) mod hearing;
pub(crate) mod held;
pub(crate) mod panics;
pub(crate) mod quota;
pub(crate) mod setup;
pub mod shard_loop;
