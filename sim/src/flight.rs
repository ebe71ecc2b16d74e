//! Datagrams and trains on their way, in numbered places that are used again with their memory.

use std::net::{IpAddr, SocketAddr};

use shardgram_core::Ecn;
use shardgram_core::datagram::datagrams_in;

use crate::wire::{NOWHERE, headers};

/// A datagram, or a train of them.
#[derive(Debug)]
pub(crate) struct Flight {
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    /// Size of each datagram but the last, 0 for a single one.
    pub(crate) segment: u32,
    pub(crate) ecn: Ecn,
    /// Whether a router with a shorter MTU may fragment it.
    pub(crate) may_fragment: bool,
    /// The socket it waits in, once it has arrived, and since when.
    pub(crate) socket: u32,
    pub(crate) arrived_ns: u64,
    /// The address by which its receiver answers, as that was when it arrived.
    pub(crate) answers_from: Option<IpAddr>,
    /// Hash of the bytes, computed once.
    pub(crate) digest: u64,
    pub(crate) bytes: Vec<u8>,
}

impl Flight {
    /// How many datagrams it is. An empty datagram is one.
    #[inline]
    pub(crate) fn datagrams(&self) -> u64 {
        datagrams_in(self.bytes.len(), self.segment as usize) as u64
    }

    /// Bytes on the wire, with the headers of each datagram.
    pub(crate) fn wire_bytes(&self) -> u64 {
        self.bytes.len() as u64 + self.datagrams() * headers(self.to) as u64
    }

    /// Length of its longest datagram.
    pub(crate) fn longest(&self) -> usize {
        if self.segment == 0 { self.bytes.len() } else { self.bytes.len().min(self.segment as usize) }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Flights {
    all: Vec<Flight>,
    free: Vec<u32>,
}

impl Flights {
    /// An empty datagram to write to.
    #[inline]
    pub(crate) fn draft(&mut self) -> u32 {
        if let Some(flight) = self.free.pop() {
            let draft = &mut self.all[flight as usize];
            draft.bytes.clear();
            draft.may_fragment = false;
            return flight;
        }
        let bytes = Vec::new();
        self.all.push(Flight {
            from: NOWHERE,
            to: NOWHERE,
            segment: 0,
            ecn: Ecn::NotEct,
            may_fragment: false,
            socket: 0,
            arrived_ns: 0,
            answers_from: None,
            digest: 0,
            bytes,
        });
        self.all.len() as u32 - 1
    }

    /// Gives a place back.
    #[inline]
    pub(crate) fn free(&mut self, flight: u32) {
        self.free.push(flight);
    }

    #[inline]
    pub(crate) fn get(&self, flight: u32) -> &Flight {
        &self.all[flight as usize]
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, flight: u32) -> &mut Flight {
        &mut self.all[flight as usize]
    }

    /// A second one of the same bytes.
    pub(crate) fn copy(&mut self, flight: u32) -> u32 {
        self.copy_part(flight, 0..self.get(flight).bytes.len())
    }

    /// A second one of some of the bytes; its digest is that of the whole.
    pub(crate) fn copy_part(&mut self, flight: u32, part: std::ops::Range<usize>) -> u32 {
        let copy = self.draft();
        // The memory is taken out, so that both places can be held at once.
        let mut bytes = std::mem::take(&mut self.get_mut(copy).bytes);
        let original = self.get(flight);
        bytes.extend_from_slice(&original.bytes[part]);
        let Flight { from, to, segment, ecn, may_fragment, socket, arrived_ns, answers_from, digest, .. } =
            *original;
        *self.get_mut(copy) =
            Flight { from, to, segment, ecn, may_fragment, socket, arrived_ns, answers_from, digest, bytes };
        copy
    }
}
