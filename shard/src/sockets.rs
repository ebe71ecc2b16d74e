//! A shard's sockets and their places: in the ring's table of fixed files, and in the tables here.
//!
//! A place serves one kind of socket: listeners first, then the listeners of single addresses under a
//! wildcard, then endpoints, then peers' own sockets.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

use shardgram_core::datagram::{Path, SocketId};

use crate::credit::Credit;
use crate::marking::Marking;
use crate::op::Target;
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
    /// It is not to be armed yet: what comes is held back in the kernel.
    Held,
    /// It is received from without the ring.
    Direct,
}

/// How far a peer's own socket has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stage {
    /// It is watched: nothing has come yet.
    Watched,
    /// Something has come and waits until the listener is known to hold nothing older.
    Waiting,
    /// It receives.
    Open,
}

/// What there is to know of a peer's own socket beside.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Own {
    pub(crate) stage: Stage,
    /// The place of the listener its peer came by.
    pub(crate) listener: u32,
}

#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) socket: UdpSocket,
    /// By which number the shard loop knows it.
    pub(crate) id: SocketId,
    /// The address it is bound to.
    pub(crate) local: SocketAddr,
    /// The address it stands for under a wildcard that it is not bound to itself.
    pub(crate) under_wildcard: bool,
    /// How entries name it.
    pub(crate) target: Target,
    /// Bound to a wildcard and replying from the address written to. Endpoints let the kernel choose.
    pub(crate) wildcard: bool,
    /// What comes by it says where it was sent to.
    pub(crate) told: bool,
    pub(crate) arm: Arm,
    /// Receives in a row that ended with an error and brought nothing.
    pub(crate) failures: u32,
    pub(crate) credit: Credit,
    pub(crate) marking: Marking,
    pub(crate) own: Option<Own>,
    /// What is armed on it is being cancelled; its last completion closes it.
    pub(crate) cancelling: bool,
}

impl Socket {
    pub(crate) fn new(socket: UdpSocket, id: SocketId, local: SocketAddr) -> Self {
        let fd = socket.as_raw_fd();
        let wildcard = id.as_listener().is_some() && local.ip().is_unspecified();
        Self {
            socket,
            id,
            local,
            under_wildcard: false,
            target: Target::Plain(fd),
            wildcard,
            told: wildcard,
            arm: Arm::Needed,
            failures: 0,
            credit: Credit::default(),
            marking: Marking::default(),
            own: None,
            cancelling: false,
        }
    }
}

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
}

/// Sockets by place.
#[derive(Debug)]
pub(crate) struct Sockets {
    slots: Vec<Option<Socket>>,
    generations: Vec<u32>,
    places: Places,
    /// Whether sockets stand in the ring's table, or are named by their descriptors.
    fixed: bool,
    /// Places of the listeners of single addresses, by listener and address.
    by_address: HashMap<(u16, IpAddr), u32>,
}

impl Sockets {
    pub(crate) fn new(places: Places, fixed: bool) -> Self {
        let size = places.total() as usize;
        Self {
            slots: (0..size).map(|_| None).collect(),
            generations: vec![0; size],
            places,
            fixed,
            by_address: HashMap::new(),
        }
    }

    /// The place of a socket, whether or not it is taken.
    #[inline]
    pub(crate) fn slot_of(&self, id: SocketId) -> Option<u32> {
        let Places { listeners, addresses, connected, endpoints } = self.places;
        if let Some(index) = id.as_listener() {
            return (u32::from(index) < listeners).then_some(u32::from(index));
        }
        if let Some(slot) = id.as_connected() {
            return (slot < connected).then(|| listeners + addresses + slot);
        }
        let slot = id.as_endpoint()?;
        (slot < endpoints).then(|| listeners + addresses + connected + slot)
    }

    /// The place of the socket by which a datagram leaves: under a wildcard that of its local address, if
    /// there is one.
    #[inline]
    pub(crate) fn leaving(&self, via: SocketId, path: &Path) -> Option<u32> {
        let slot = self.slot_of(via)?;
        if self.by_address.is_empty() {
            return Some(slot);
        }
        let Some(listen) = via.as_listener() else { return Some(slot) };
        Some(self.address(listen, path.local.ip()).unwrap_or(slot))
    }

    /// The place of the listener of one address under a wildcard.
    pub(crate) fn address(&self, listen: u16, ip: IpAddr) -> Option<u32> {
        self.by_address.get(&(listen, ip)).copied()
    }

    /// A free place for the listener of one more address.
    pub(crate) fn free_address(&self) -> Option<u32> {
        let first = self.places.listeners;
        (first..first + self.places.addresses).find(|slot| self.slots[*slot as usize].is_none())
    }

    pub(crate) fn name_address(&mut self, listen: u16, ip: IpAddr, slot: u32) {
        self.by_address.insert((listen, ip), slot);
    }

    /// Nothing leaves by that place any more.
    pub(crate) fn forget_address(&mut self, listen: u16, ip: IpAddr) -> Option<u32> {
        self.by_address.remove(&(listen, ip))
    }

    pub(crate) fn insert(&mut self, slot: u32, mut socket: Socket) {
        if self.is_fixed(slot) {
            socket.target = Target::Fixed(slot);
        }
        self.slots[slot as usize] = Some(socket);
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

    #[inline]
    pub(crate) fn get_mut(&mut self, slot: u32) -> Option<&mut Socket> {
        self.slots.get_mut(slot as usize)?.as_mut()
    }

    /// Whether sockets of this place stand in the ring's table. Listeners always do.
    pub(crate) fn is_fixed(&self, slot: u32) -> bool {
        self.fixed || slot < self.places.listeners + self.places.addresses
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
