//! The io_uring driver of shardgram (Linux 6.1 and later).
//!
//! Each shard has a ring of its own. Listeners and endpoints are fixed files with one multishot `recvmsg`
//! each, which all draw from one ring of provided buffers. Sends are made with `MSG_DONTWAIT` and without
//! a completion for success, so when the submitting call returns every one of them is done.
//!
//! Unsafe code is in seven files: `ring` (set-up, and what may be queued), `op` (what the queued entries
//! point to), `driver` and `probe` (one place each: what a send points to outlives its submission), `mapping` (memory shared with the kernel), `buf_ring` (who owns a buffer) and `wake` (the
//! event descriptor).
#![cfg(target_os = "linux")]
#![deny(unsafe_code)]

mod addresses;
#[allow(unsafe_code)]
mod buf_ring;
mod credit;
mod driver;
mod engine;
mod errno;
#[allow(unsafe_code)]
mod mapping;
mod marker;
#[allow(unsafe_code)]
mod op;
mod own;
mod prepare;
#[allow(unsafe_code)]
pub mod probe;
mod receive;
pub mod recv;
#[allow(unsafe_code)]
mod ring;
#[allow(unsafe_code)]
mod send;
mod sockets;
mod user_data;
#[allow(unsafe_code)]
mod wake;

pub use addresses::Changes;
pub use driver::{Parts, UringDriver};
pub use prepare::{Prepared, Shortage, prepare};
pub use probe::{Probed, Refusal, probe};
pub use wake::Fleet;
