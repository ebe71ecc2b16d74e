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

impl Engine {
    /// For the calling thread: a ring with so many entries and completions, and receive buffers that hold
    /// datagrams of so many bytes.
    pub(crate) fn new(entries: u32, completions: u32, buffers: u16, datagram: usize) -> Result<Self, Failed> {
        let ring = Ring::new(entries, completions).map_err(Failed::at("io_uring_setup"))?;
        let size = Operands::layout(true).payload() + datagram;
        let buffers = BufRing::register(&ring, buffers, size).map_err(Failed::at("buffer_ring"))?;
        let operands = Operands::new(ring.capacity());
        Ok(Self { ring, buffers, operands })
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.ring.shut_down();
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
