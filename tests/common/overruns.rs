//! Counts the sends of the io_uring driver that met a full socket although it was reckoned to have room.

use std::sync::atomic::{AtomicUsize, Ordering};

use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

static OVERRUNS: AtomicUsize = AtomicUsize::new(0);

/// Listens to the log of the whole process.
struct Counter;

impl Subscriber for Counter {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "shardgram::overrun"
    }

    fn event(&self, _: &Event<'_>) {
        OVERRUNS.fetch_add(1, Ordering::Relaxed);
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// From now on they are counted.
pub fn watch() {
    tracing::subscriber::set_global_default(Counter).expect("nobody else listens");
}

pub fn count() -> usize {
    OVERRUNS.load(Ordering::Relaxed)
}
