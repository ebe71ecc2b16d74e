//! A randomised run of shardgram on its simulator: from one number a configuration, handlers that do anything a
//! handler may, traffic and faults; and a model that says after every step what has to hold.
//!
//! A failing run is made shorter, and printed with what replays it. See CONTRIBUTING.md, "Randomised run".
#![forbid(unsafe_code)]

mod acts;
mod dice;
mod floods;
mod handler;
mod ledger;
mod outside;
mod payload;
mod plan;
mod quiet;
mod reached;
mod run;
mod shrink;
mod translators;
mod world;

pub use plan::Part;
pub use reached::Reached;
pub use run::{Plan, Report, run};
pub use shrink::shrink;
