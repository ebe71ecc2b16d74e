//! The suite of conformance over mio where one shard receives for all, as on systems that do not divide what comes to a
//! port among sockets.
#![allow(unreachable_pub, clippy::unwrap_used, clippy::needless_pass_by_value, reason = "a test program")]

#[macro_use]
mod common;

use common::conformance::RealBed;
use shardgram::Receivers;

fn bed() -> Option<RealBed> {
    let one = |config: shardgram::Config| config.receivers(Receivers::One);
    Some(RealBed::mio().adjusted(one, |platform| platform.one_receiver = true))
}

shardgram_conformance::conformance!(crate::bed);
