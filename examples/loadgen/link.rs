//! What the program and its shards share and tell each other.

use std::sync::atomic::AtomicU64;
use std::sync::mpsc::Sender;
use std::time::Instant;

use super::cpu::Threads;
use super::plan::Plan;
use super::slices::Slice;
use super::tally::Tally;

/// What a shard tells the program.
pub(crate) enum Event {
    /// All its flows are open.
    Ready,
    /// They cannot be opened, for this reason.
    Refused(String),
    /// It sends no more.
    Stopped,
    /// An interval is over, with its index and what was counted in it.
    Interval(u64, Box<Slice>),
    /// Nothing can come any more.
    Done(Box<Tally>),
}

/// What the program tells a shard.
#[derive(Debug)]
pub(crate) enum Command {
    /// Begin at this time.
    Begin(Instant),
}

/// What a shard shows while it runs.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Progress {
    pub(crate) sent: AtomicU64,
    pub(crate) received: AtomicU64,
    pub(crate) lost: AtomicU64,
}

/// What every shard is given.
pub(crate) struct Shared {
    pub(crate) plan: Plan,
    pub(crate) events: Sender<Event>,
    pub(crate) progress: Vec<Progress>,
    pub(crate) threads: Threads,
}
