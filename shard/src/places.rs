//! Which sockets have which places: their numbers in a shard's tables, and in the ring's table of fixed files.

use std::io;

use shardgram_core::datagram::SocketId;

use crate::ring::Ring;

/// How many places there are of each kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Places {
    pub(crate) listeners: u32,
    pub(crate) addresses: u32,
    pub(crate) connected: u32,
    pub(crate) endpoints: u32,
}

impl Places {
    pub(crate) fn total(self) -> u32 {
        self.listeners + self.addresses + self.connected + self.endpoints
    }

    /// Those of peers' own sockets.
    pub(crate) fn own(self) -> std::ops::Range<u32> {
        let first = self.listeners + self.addresses;
        first..first + self.connected
    }

    /// The place of a socket.
    #[inline]
    pub(crate) fn of(self, id: SocketId) -> Option<u32> {
        let Self { listeners, addresses, connected, endpoints } = self;
        if let Some(index) = id.as_listener() {
            return (u32::from(index) < listeners).then_some(u32::from(index));
        }
        if let Some(slot) = id.as_connected() {
            return (slot < connected).then(|| listeners + addresses + slot);
        }
        let slot = id.as_endpoint()?;
        (slot < endpoints).then(|| listeners + addresses + connected + slot)
    }

    /// Makes the table of fixed files. It cannot be larger than the limit of descriptors (RLIMIT_NOFILE), so
    /// endpoints get what is left of it; one beyond fails to open with EMFILE.
    pub(crate) fn register(mut self, ring: &Ring, fixed_files: bool) -> io::Result<Self> {
        loop {
            let size = if fixed_files { self.total() } else { self.listeners };
            match ring.register_files(size.max(1)) {
                Ok(()) => return Ok(self),
                Err(e) if e.raw_os_error() == Some(libc::EMFILE) && self.endpoints > 0 => {
                    self.endpoints -= (self.endpoints / 8).max(1);
                }
                Err(e) => return Err(e),
            }
        }
    }
}
