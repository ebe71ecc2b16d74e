//! What shards send each other, and how they wake each other.

pub(crate) mod bell;
pub mod mailbox;
pub(crate) mod post;
