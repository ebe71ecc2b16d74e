//! What the program and its shards share and tell each other.

use std::sync::atomic::AtomicU64;
use std::sync::mpsc::Sender;
use std::sync::{Arc, OnceLock};
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
    /// A shard of the embedded server knows of this run.
    Watching,
    /// What a shard of the embedded server counted of this run.
    Served(Box<Tally>),
    /// Nothing can come any more.
    Done(Box<Tally>),
}

/// What the program tells a shard.
#[derive(Debug)]
pub(crate) enum Command {
    /// Begin at this time.
    Begin(Instant),
    /// All that was sent has arrived somewhere, so there is nothing to wait for.
    Finish,
}

/// What the program tells a shard of the embedded server, and these each other.
pub(crate) enum Order {
    /// A run is about to begin.
    Begin(Arc<Shared>),
    /// Fan-out: send this to all subscribers of the shard.
    Publish(Arc<[u8]>),
    /// The run is over.
    End,
}

/// What a shard shows while it runs.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Progress {
    pub(crate) sent: AtomicU64,
    pub(crate) received: AtomicU64,
    pub(crate) lost: AtomicU64,
    /// Everything that was sent and that came, warm-up and strangers included.
    pub(crate) all_sent: AtomicU64,
    pub(crate) all_heard: AtomicU64,
}

/// What every shard is given.
pub(crate) struct Shared {
    pub(crate) plan: Plan,
    pub(crate) events: Sender<Event>,
    /// Of the generator's shards, then of the embedded server's.
    pub(crate) progress: Vec<Progress>,
    pub(crate) threads: Threads,
    /// When counting begins, once the program has said when to begin to send.
    pub(crate) counted_from_ns: OnceLock<u64>,
}
