//! What the measurements have in common.
//!
//! All traffic is on loopback, and everything they do is bounded by their options.
#![forbid(unsafe_code)]

pub mod figures;
pub mod flows;
pub mod process;
