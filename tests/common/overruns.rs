//! Counts the sends of the io_uring driver that met a full socket although it was reckoned to have room.

use std::sync::atomic::{AtomicUsize, Ordering};

static OVERRUNS: AtomicUsize = AtomicUsize::new(0);

/// From now on they are counted.
pub fn watch() {
    super::log::listen(
        |metadata| metadata.target() == "shardgram::overrun",
        |_| {
            OVERRUNS.fetch_add(1, Ordering::Relaxed);
        },
    );
}

pub fn count() -> usize {
    OVERRUNS.load(Ordering::Relaxed)
}
