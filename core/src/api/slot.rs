//! Writing a datagram in place.

use std::ops::{Deref, DerefMut};

use crate::api::handler::Handler;
use crate::api::io::Io;
use crate::send::outbox::Source;
use crate::types::error::SendError;
use crate::types::ids::PeerId;

/// Room in the outbox to write a datagram in place.
///
/// ```
/// use shardgram_core::{Handler, Io, PeerId, SendError};
/// fn greet<H: Handler>(io: &mut Io<H>, to: PeerId) -> Result<(), SendError> {
///     let mut slot = io.slot(to, 64)?;
///     slot[..5].copy_from_slice(b"hello");
///     slot.commit(5)
/// }
/// ```
#[derive(Debug)]
pub struct Slot<'a, H: Handler> {
    io: &'a mut Io<H>,
    to: Option<PeerId>,
    start: usize,
    max: usize,
}

impl<'a, H: Handler> Slot<'a, H> {
    pub(crate) fn new(io: &'a mut Io<H>, to: PeerId, start: usize, max: usize) -> Self {
        Self { io, to: Some(to), start, max }
    }

    /// Queues the first `len` bytes.
    ///
    /// # Errors
    /// [`SendError::TooLong`] if the room is smaller than that; see [`SendError`] for the rest.
    ///
    /// ```
    /// use shardgram_core::{Handler, Io, PeerId, SendError};
    /// fn list<H: Handler>(io: &mut Io<H>, to: PeerId, items: &[u8]) -> Result<(), SendError> {
    ///     let mut slot = io.slot(to, 1200)?;
    ///     let len = items.len().min(slot.len());
    ///     slot[..len].copy_from_slice(&items[..len]);
    ///     slot.commit(len) // what was not used of the room is given back
    /// }
    /// ```
    pub fn commit(mut self, len: usize) -> Result<(), SendError> {
        self.io.sending.no_longer_than(self.max, len)?;
        let to = self.to.ok_or(SendError::Gone)?;
        let Io { sending, routes, .. } = &mut *self.io;
        let path = sending.written(routes, to, len)?;
        // From here on the bytes are queued, so dropping the slot must not take them back.
        self.to = None;
        sending.outbox.shrink_to(self.start + len);
        let source = Source::Outbox { start: self.start as u32, len: len as u32 };
        sending.push(routes, to, &path, source, len)
    }
}

impl<H: Handler> Drop for Slot<'_, H> {
    fn drop(&mut self) {
        if self.to.is_some() {
            self.io.sending.outbox.shrink_to(self.start);
        }
    }
}

impl<H: Handler> Deref for Slot<'_, H> {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.io.sending.outbox.reserved(self.start)
    }
}

impl<H: Handler> DerefMut for Slot<'_, H> {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.io.sending.outbox.reserved_mut(self.start)
    }
}
