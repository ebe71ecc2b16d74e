//! Receive buffers, and how what lies in them is cut into datagrams to send.

use shardgram_core::datagram::RxSlice;
use shardgram_core::outbox::{Outbox, Source};

use crate::network::Network;

#[derive(Debug, Default)]
pub(crate) struct Buffer {
    pub(crate) bytes: Vec<u8>,
    /// How many queued sends refer to it.
    kept: u32,
}

/// Numbered receive buffers. Their bytes are exchanged with the network's, so none is ever copied into.
#[derive(Debug)]
pub(crate) struct Buffers {
    pub(crate) all: Vec<Buffer>,
    pub(crate) free: Vec<u32>,
}

impl Buffers {
    pub(crate) fn new(count: u16) -> Self {
        let all = (0..count).map(|_| Buffer::default()).collect();
        Self { all, free: (0..u32::from(count)).rev().collect() }
    }

    pub(crate) fn out(&self) -> usize {
        self.all.len() - self.free.len()
    }

    /// The buffer that would be taken next goes out for so many sends.
    #[inline]
    pub(crate) fn keep_last(&mut self, sends: u32) {
        if let Some(buffer) = self.free.pop() {
            self.all[buffer as usize].kept = sends;
        }
    }

    /// One send that referred to a buffer is done.
    #[inline]
    pub(crate) fn release(&mut self, buffer: u32) {
        let kept = &mut self.all[buffer as usize].kept;
        debug_assert!(*kept > 0, "more sends refer to a receive buffer than were announced");
        *kept = kept.saturating_sub(1);
        if *kept == 0 {
            self.free.push(buffer);
        }
    }

    #[inline]
    pub(crate) fn bytes<'a>(&'a self, outbox: &'a Outbox, source: Source) -> &'a [u8] {
        match source {
            Source::Outbox { start, len } => outbox.bytes(start, len),
            Source::Buffer(RxSlice { buffer, start, len }) => {
                &self.all[buffer as usize].bytes[start as usize..][..len as usize]
            }
        }
    }
}

/// Cuts what lies in pieces into datagrams of equal size.
pub(crate) struct Cut {
    pub(crate) segment: usize,
    /// Bytes that the datagram at hand still takes, and the datagram.
    pub(crate) room: usize,
    pub(crate) flight: Option<u32>,
}

impl Cut {
    /// Launches each datagram when something follows it.
    pub(crate) fn write(
        &mut self,
        network: &mut Network,
        mut bytes: &[u8],
        launch: impl Fn(&mut Network, u32),
    ) {
        while !bytes.is_empty() {
            if self.room == 0 {
                if let Some(full) = self.flight.take() {
                    launch(network, full);
                }
                self.room = self.segment;
            }
            let flight = *self.flight.get_or_insert_with(|| network.draft());
            let (now, rest) = bytes.split_at(bytes.len().min(self.room));
            network.write(flight, now);
            self.room -= now.len();
            bytes = rest;
        }
    }
}
