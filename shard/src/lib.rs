//! The io_uring driver of shardgram (Linux 6.1 and later).
//!
//! Each shard has a ring of its own. Listeners and endpoints are fixed files with one multishot `recvmsg`
//! each, which all draw from one ring of provided buffers. Sends are made with `MSG_DONTWAIT` and without
//! a completion for success, so when the submitting call returns every one of them is done.
//!
//! Unsafe code is in eight files: `ring` (set-up, and what may be queued), `op` (what the queued entries point
//! to), `send` and `probe` (what a send points to outlives its submission), `direct` (a system call that receives),
//! `mapping` (memory shared with the kernel), `buf_ring` (the receive buffers) and `wake` (the event descriptor). What the
//! kernel reports and wrote is read, and who owns a buffer is decided, by safe and pure code: [`completion`],
//! [`recv`], [`user_data`] and [`ownership`].
#![cfg(target_os = "linux")]
#![deny(unsafe_code)]

mod addresses;
#[allow(unsafe_code)]
mod buf_ring;
pub mod completion;
mod credit;
#[allow(unsafe_code)]
mod direct;
mod driver;
mod engine;
mod errno;
#[allow(unsafe_code)]
mod mapping;
mod marker;
mod marking;
#[allow(unsafe_code)]
mod op;
mod own;
pub mod ownership;
mod poison;
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
pub mod user_data;
#[allow(unsafe_code)]
mod wake;

pub use addresses::Changes;
pub use driver::{Parts, UringDriver};
pub use prepare::{Prepared, Shortage, prepare};
pub use probe::{Probed, Refusal, probe};
pub use wake::Fleet;
