//! A shard's sockets and their places in the ring's table of fixed files.

use std::net::{SocketAddr, UdpSocket};

use shardgram_core::datagram::SocketId;

use crate::user_data::next_generation;

/// What the receive of a socket needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Arm {
    /// Nothing: it is armed.
    Armed,
    /// It has to be armed.
    Needed,
    /// It ended for want of buffers and has to be armed again, to begin by waiting for readiness.
    Starved,
    /// It failed again and again and is left alone for a while.
    Resting,
}

#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) socket: UdpSocket,
    pub(crate) id: SocketId,
    /// Bound to a wildcard and replying from the address written to. Endpoints let the kernel choose.
    pub(crate) wildcard: bool,
    pub(crate) arm: Arm,
    /// Receives in a row that ended with an error and brought nothing.
    pub(crate) failures: u32,
}

/// Sockets by fixed-file slot: listeners first, then endpoints.
#[derive(Debug)]
pub(crate) struct Sockets {
    slots: Vec<Option<Socket>>,
    generations: Vec<u32>,
    listeners: u32,
}

impl Sockets {
    pub(crate) fn new(listeners: usize, size: usize) -> Self {
        Self {
            slots: (0..size).map(|_| None).collect(),
            generations: vec![0; size],
            listeners: listeners as u32,
        }
    }

    /// The slot of a socket, whether or not it is taken.
    #[inline]
    pub(crate) fn slot_of(&self, id: SocketId) -> Option<u32> {
        let slot = match id.as_listener() {
            Some(index) => u32::from(index),
            None => self.listeners.checked_add(id.as_endpoint()?)?,
        };
        ((slot as usize) < self.slots.len()).then_some(slot)
    }

    pub(crate) fn insert(&mut self, slot: u32, socket: UdpSocket, id: SocketId, local: SocketAddr) {
        let wildcard = id.as_listener().is_some() && local.ip().is_unspecified();
        self.slots[slot as usize] = Some(Socket { socket, id, wildcard, arm: Arm::Needed, failures: 0 });
    }

    /// Takes a socket out; completions of its generation are strangers from now on.
    pub(crate) fn remove(&mut self, slot: u32) -> Option<Socket> {
        let socket = self.slots.get_mut(slot as usize)?.take()?;
        self.generations[slot as usize] = next_generation(self.generations[slot as usize]);
        Some(socket)
    }

    pub(crate) fn generation(&self, slot: u32) -> u32 {
        self.generations.get(slot as usize).copied().unwrap_or(0)
    }

    #[inline]
    pub(crate) fn get(&self, slot: u32) -> Option<&Socket> {
        self.slots.get(slot as usize)?.as_ref()
    }

    /// The socket a completion belongs to, unless it was closed since.
    #[inline]
    pub(crate) fn current(&mut self, slot: u32, generation: u32) -> Option<&mut Socket> {
        if self.generation(slot) != generation {
            return None;
        }
        self.slots.get_mut(slot as usize)?.as_mut()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Socket> {
        self.slots.iter().flatten()
    }
}
