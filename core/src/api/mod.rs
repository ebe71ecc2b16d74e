//! What a user of the framework writes and calls: [`handler`], and what a callback may ask for.

mod answers;
pub mod context;
pub mod handler;
pub(crate) mod io;
pub(crate) mod slot;
pub(crate) mod tier;
