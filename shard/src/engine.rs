//! A ring with the memory it shares with the kernel, in the order in which they have to be dropped.

use std::io;

use crate::buf_ring::BufRing;
use crate::op::Operands;
use crate::ring::Ring;

#[derive(Debug)]
pub(crate) struct Engine {
    // Dropped first: from then on the kernel neither reads nor writes what follows.
    pub(crate) ring: Ring,
    pub(crate) buffers: BufRing,
    pub(crate) operands: Operands,
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Err(error) = self.ring.shut_down() {
            // Duplicates of its descriptor keep the ring, and with it what is outstanding.
            tracing::warn!(%error, "a ring's operations could not be cancelled: the memory they may write to is not used again");
            self.buffers.leak();
            self.operands.leak();
        }
    }
}

/// Which step failed, and how.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) step: &'static str,
    pub(crate) error: io::Error,
}

impl Failed {
    pub(crate) fn at(step: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self { step, error }
    }
}
