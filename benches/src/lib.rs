//! What the measurements have in common.
//!
//! All traffic is on loopback, and everything they do is bounded by their options.
#![deny(unsafe_code)]

pub mod figures;
pub mod floods;
pub mod flows;
pub mod pps;
pub mod process;
