//! The suite of conformance over io_uring.
#![allow(unreachable_pub, clippy::unwrap_used, clippy::needless_pass_by_value, reason = "a test program")]

#[macro_use]
mod common;

use common::conformance::RealBed;

fn bed() -> Option<RealBed> {
    RealBed::uring()
}

shardgram_conformance::conformance!(crate::bed);
