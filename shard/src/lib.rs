//! The io_uring driver of shardgram (Linux 6.1 and later).
//!
//! Each shard has a ring of its own. Listeners and endpoints are fixed files with one multishot `recvmsg`
//! each, which all draw from one ring of provided buffers. Sends are made with `MSG_DONTWAIT` and without
//! a completion for success, so when the submitting call returns every one of them is done.
//!
//! Unsafe code is in eight files: `ring` (set-up, what may be queued, and what is taken back), `op` (what the queued entries point
//! to), `send` and `probe` (what a send points to outlives its submission), `direct` (a system call that receives),
//! `mapping` (memory shared with the kernel), `buf_ring` (the receive buffers) and `wake` (the event descriptor). What the
//! kernel reports and wrote is read, and who owns a buffer is decided, by safe and pure code: [`completion`],
//! [`recv`], [`user_data`] and [`ownership`].
#![cfg(target_os = "linux")]
#![deny(unsafe_code)]

mod addresses;
mod arrived;
#[allow(unsafe_code)]
mod buf_ring;
mod closed;
pub mod completion;
mod connected;
mod credit;
#[allow(unsafe_code)]
mod direct;
mod driver;
mod engine;
mod errno;
mod exchange;
mod faults;
#[cfg(test)]
mod hard_times;
mod inbox;
#[allow(unsafe_code)]
mod mapping;
mod marker;
mod marking;
#[allow(unsafe_code)]
mod op;
pub mod ownership;
mod places;
mod poison;
mod prepare;
#[allow(unsafe_code)]
pub mod probe;
pub mod recv;
mod refusal;
mod reports;
mod retiring;
#[allow(unsafe_code)]
mod ring;
#[allow(unsafe_code)]
mod send;
mod socket;
mod sockets;
mod strain;
mod to_arm;
pub mod user_data;
#[allow(unsafe_code)]
mod wake;
mod wakeups;

pub use addresses::Changes;
pub use driver::{Parts, UringDriver};
pub use prepare::{Prepared, Shortage, prepare};
pub use probe::{Probed, probe};
pub use refusal::Refusal;
pub use wake::Fleet;
