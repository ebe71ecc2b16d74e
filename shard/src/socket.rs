//! A socket with what its shard knows of it.

use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Instant;

use shardgram_core::Ecn;
use shardgram_core::datagram::{Path, SocketId};
use shardgram_sys::interfaces::bound_interface;
use shardgram_sys::{Drops, Lease, Usage, socket};

use crate::credit::Credit;
use crate::marking::{By, Marking};
use crate::op::{Destination, Sender, Target};

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
    /// It is to go, and its peer can neither be turned away from it nor be refused: it is closed whatever it holds.
    pub(crate) abandoned: bool,
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
    /// How many datagrams and trains it has brought, as [`crate::to_arm::ToArm`] counts them.
    pub(crate) had: u64,
    pub(crate) credit: Credit,
    pub(crate) marking: Marking,
    pub(crate) own: Option<Own>,
    /// Of a listener: the index of the interface it was bound to when it came, or 0.
    pub(crate) interface: u32,
    /// What is armed on it is being cancelled; its last completion closes it.
    pub(crate) cancelling: bool,
    pub(crate) drops: Drops,
    /// The host has lost its address: then it is closed, whatever it holds.
    pub(crate) close_by: Option<Instant>,
    /// Of a local address under a wildcard, and of its peers: what comes is counted there.
    pub(crate) usage: Option<Usage>,
    /// Of a socket in the port group of a local address. The last field: it goes after the socket.
    pub(crate) lease: Option<Lease>,
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
            had: 0,
            credit: Credit::default(),
            marking: Marking::default(),
            own: None,
            interface: 0,
            cancelling: false,
            close_by: None,
            drops: Drops::default(),
            usage: None,
            lease: None,
        }
    }

    /// Whether it was bound to an interface that was made anew since, and is bound to none now ([`Tied`]).
    ///
    /// [`Tied`]: shardgram_sys::interfaces::Tied
    pub(crate) fn was_let_go(&self) -> bool {
        self.interface != 0 && bound_interface(&self.socket) != self.interface
    }

    /// A datagram or a train has come by it.
    #[inline]
    pub(crate) fn brought_one(&self) {
        if let Some(usage) = &self.usage {
            usage.count();
        }
    }

    /// How many datagrams the kernel dropped at it.
    pub(crate) fn dropped(&mut self) -> u64 {
        socket::drop_count(&self.socket).map_or(self.drops.total(), |now| self.drops.advance(now))
    }

    /// What a send by this socket has to say.
    #[inline]
    fn sender(&self) -> Sender {
        if self.own.is_some() {
            Sender::Connected
        } else if self.wildcard {
            Sender::Wildcard
        } else {
            Sender::Unconnected
        }
    }

    /// Whence and whither something leaves that is marked so, in this turn.
    #[inline]
    pub(crate) fn destination<'a>(&mut self, path: &'a Path, ecn: Ecn, turn: u32) -> Destination<'a> {
        let by = By { ipv6: self.local.is_ipv6(), own_socket: self.own.is_some(), turn };
        let class = self.marking.of_send(&self.socket, by, ecn);
        Destination { target: self.target, path, kind: self.sender(), class }
    }
}
