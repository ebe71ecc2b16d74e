//! The contract between the shard loop and what carries its datagrams.
//!
//! Three drivers keep it: io_uring, mio, and the simulator. A driver supplies sockets, datagrams and
//! sends. It knows nothing of handlers, of admission or of timers. What each promises:
//!
//! | promise | io_uring | mio | simulator |
//! | --- | --- | --- | --- |
//! | [`Driver::turn`] carries out the whole outbox before it waits | yes | yes | yes |
//! | one kernel entry for sends and wait | yes | one a send, one a wait | no kernel |
//! | order of sends to one peer is kept | yes | yes | yes, until the network reorders |
//! | a sleeping shard is woken by an arrival, a deadline, or its [`Bell`](crate::mailbox::Bell) | yes | yes | yes |
//! | deadlines are kept to | microseconds | a millisecond (epoll's) | exactly |
//! | a datagram longer than [`Config::max_datagram`](crate::Config::max_datagram) is flagged | yes | yes | yes |
//! | replies leave from the address written to | yes | yes | yes |
//! | every receive buffer comes back after its callback or its send | yes | yes | yes |
//! | what failed is reported with its peer, and ends nothing else | yes | yes | yes |

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use crate::datagram::{Meta, SocketId};
use crate::endpoints::Endpoint;
use crate::error::PeerError;
use crate::outbox::{Outbox, TrainLimits};
use crate::peers::PeerId;

/// What carries the datagrams of one shard.
pub trait Driver {
    /// What it can do. Asked once.
    fn capabilities(&self) -> Capabilities;

    /// The time. Asked once a turn.
    fn now(&self) -> Instant;

    /// Opens the socket of an endpoint and begins to receive on it; says which address it got.
    ///
    /// # Errors
    /// The system's error number.
    fn open(&mut self, socket: SocketId, endpoint: &Endpoint) -> Result<SocketAddr, i32>;

    /// Closes the socket of an endpoint, if it is open. Nothing of it is handed over afterwards, and its number may be
    /// opened anew at once.
    fn close(&mut self, socket: SocketId);

    /// Wakes another shard of the same server, with the next [`Driver::turn`] at the latest.
    fn wake(&mut self, shard: u16);

    /// Sends all that the outbox holds, then waits as told. When it returns nothing refers to the outbox
    /// any more, and the receive buffers it referred to are the driver's again. A train for a socket that
    /// is not open fails as [`PeerError::NotOpened`].
    ///
    /// # Errors
    /// Only what ends the shard. What befalls one socket or one peer is reported by [`Driver::receive`].
    fn turn(&mut self, outbox: &Outbox, wait: Wait) -> io::Result<Turned>;

    /// Hands over up to `budget` arrivals, and all failures that are known.
    fn receive(&mut self, budget: usize, sink: &mut impl Sink);

    /// Whether more is known to wait than was handed over, so that the next turn must not sleep.
    fn has_more(&self) -> bool;

    /// Datagrams the system dropped because a receive buffer was full, on all sockets since the start.
    fn kernel_dropped(&mut self) -> u64;
}

/// Fixed facts of a driver.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Capabilities {
    /// How long trains to send may be.
    pub trains: TrainLimits,
}

impl Capabilities {
    /// Trains of up to this length.
    pub fn new(trains: TrainLimits) -> Self {
        Self { trains }
    }
}

/// How long [`Driver::turn`] may sleep.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wait {
    /// Not at all: take what is there.
    Poll,
    /// Until something arrives, the bell rings, or this time has come.
    Until(Option<Instant>),
}

/// What [`Driver::turn`] came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Turned {
    /// Something may have come, or the wait is over.
    Awake,
    /// Only from a driver that cannot block (the simulator's): all is sent, and there is nothing to hand
    /// over before the wait ends. The loop gives control back with its bell ready to be rung, and is to be
    /// called again when there is a reason.
    Asleep,
}

/// A datagram, or a train of them, as it came from the network.
#[derive(Debug)]
pub struct Arrival<'a> {
    /// The socket it came by.
    pub socket: SocketId,
    /// Who sent it.
    pub remote: SocketAddr,
    /// The local address it was sent to, if the socket is bound to a wildcard and answers must leave
    /// from it. `None`: the socket's own address.
    pub local: Option<IpAddr>,
    /// What else the kernel said.
    pub meta: Meta,
    /// Size of each datagram but the last, in bytes; 0 if it is a single one.
    pub segment: usize,
    /// The bytes.
    pub bytes: &'a mut [u8],
    /// The driver's number of the buffer they lie in, and where in it they begin.
    pub buffer: u32,
    /// Offset of `bytes` in that buffer.
    pub start: u32,
}

/// What is to become of the buffer of an [`Arrival`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fate {
    /// How many queued sends refer to the buffer. With 0 it may be used again at once; otherwise after
    /// that many sends of the next turn.
    pub kept: u32,
    /// Hand over nothing more in this turn.
    pub stop: bool,
}

/// A train that could not be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SendFailure {
    /// Whose it was, `None` for a stateless answer.
    pub peer: Option<PeerId>,
    /// How many datagrams were not sent.
    pub datagrams: u32,
    /// Why.
    pub fault: SendFault,
}

/// Why a train could not be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SendFault {
    /// The socket's buffer is full. The peer is not to blame and hears nothing.
    SocketFull,
    /// The peer, the path to it or a local rule.
    Peer(PeerError),
}

/// Where a driver hands over what arrived. The shard loop implements it.
pub trait Sink {
    /// A datagram or a train.
    fn datagram(&mut self, arrival: Arrival<'_>) -> Fate;

    /// Something was received that has no usable source address or impossible control data.
    fn malformed(&mut self);

    /// So many datagrams had been received on an endpoint when it was closed.
    fn too_late(&mut self, datagrams: u32);

    /// A train could not be sent.
    fn send_failed(&mut self, failure: SendFailure);

    /// A receive ended and was armed again; `exhausted` if the receive buffers had run out.
    fn rearmed(&mut self, exhausted: bool);
}
