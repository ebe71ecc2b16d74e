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
//! | a sleeping shard is woken by an arrival, a deadline, or its [`Bell`] | yes | yes | yes |
//! | deadlines are kept to | microseconds | a millisecond (epoll's) | exactly |
//! | a datagram longer than [`Config::max_datagram`] is flagged | yes | yes | yes |
//! | replies leave from the address written to | yes | yes | yes |
//! | every receive buffer comes back after its callback or its send | yes | yes | yes |
//! | what failed is reported with its peer, and ends nothing else | yes | yes | yes |
//! | what a full socket refuses waits in the [`Backlog`], in order | yes | yes | yes, behind a slow uplink |
//! | sends are marked as [`Train::ecn`] and [`Waiting::ecn`] say | yes; the DSCP stays | yes; the DSCP stays on Linux | yes |
//! | [`Meta::ecn`] and [`Meta::kernel_time`] are told where they are asked for | yes | marks where the system has them, times on Linux | yes, by the virtual clock |
//! | endpoints can be bound to an interface ([`Endpoint::on_interface`]) | yes | Linux, macOS; else EOPNOTSUPP | hosts have none: ENODEV |
//! | what came to a group is told ([`Sink::sent_to`]), and answered from an address of this host | yes | yes | yes |
//! | groups are joined and left ([`Driver::join`]) | yes | yes; with IPv6, for one source on Linux only | yes, on no interface in particular |
//! | several shards receive at one address | yes | where the system divides what comes to it; else one receives, and others send by duplicates | yes |
//! | peers can have sockets of their own ([`Driver::connect`]) | Linux 6.1 | no | yes |
//!
//! [`Bell`]: crate::mailbox::Bell
//! [`Config::max_datagram`]: crate::Config::max_datagram
//! [`Train::ecn`]: crate::outbox::Train::ecn
//! [`Waiting::ecn`]: crate::backlog::Waiting::ecn
//! [`Meta::ecn`]: crate::Meta::ecn
//! [`Meta::kernel_time`]: crate::Meta::kernel_time
//!
//! # A whole driver
//!
//! In memory, with one listener and one receive buffer. It has no sockets to give to endpoints.
//!
//! ```
//! use std::{collections::VecDeque, io, net::SocketAddr, sync::Arc, time::Instant};
//!
//! use shardgram_core::backlog::Backlog;
//! use shardgram_core::datagram::{RxSlice, SocketId};
//! use shardgram_core::driver::{Arrival, Capabilities, Driver, SendFailure, SendFault, Sink, Turned, Wait};
//! use shardgram_core::outbox::{Outbox, Source, TrainLimits};
//! use shardgram_core::shard_loop::{Secrets, Setup, ShardLoop, Turn};
//! use shardgram_core::{Config, Endpoint, Meta, PeerError, ShardInfo, mailbox::mailboxes};
//! # use shardgram_core::{Accept, Context, Datagram, Handler, PeerId};
//! # struct Echo;
//! # impl Handler for Echo {
//! #     type Peer = (); type Timer = (); type Message = ();
//! #     fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
//! #         Accept::Peer(())
//! #     }
//! #     fn on_datagram(&mut self, cx: &mut Context<'_, Self>, _: PeerId, datagram: Datagram<'_>) {
//! #         let len = datagram.len();
//! #         let _ = cx.io.reply(datagram, len);
//! #     }
//! # }
//!
//! #[derive(Default)]
//! struct Memory {
//!     arriving: VecDeque<(SocketAddr, Vec<u8>)>,
//!     buffer: Vec<u8>,
//!     sent: Vec<(SocketAddr, Vec<u8>)>,
//!     failed: Vec<SendFailure>,
//! }
//!
//! impl Driver for Memory {
//!     fn capabilities(&self) -> Capabilities { Capabilities::new(TrainLimits::SINGLE) }
//!     fn now(&self) -> Instant { Instant::now() }
//!     fn open(&mut self, _: SocketId, _: &Endpoint) -> Result<SocketAddr, i32> { Err(95) } // EOPNOTSUPP
//!     fn close(&mut self, _: SocketId) {}
//!     fn wake(&mut self, _: u16) {} // there is only one shard
//!
//!     fn turn(&mut self, outbox: &Outbox, _: &mut Backlog, wait: Wait) -> io::Result<Turned> {
//!         for train in outbox.trains() {
//!             if train.path.socket.as_listener().is_none() {
//!                 let fault = SendFault::Peer(PeerError::NotOpened { errno: 9 }); // EBADF
//!                 self.failed.push(SendFailure { peer: train.peer, datagrams: train.datagrams, fault });
//!                 continue;
//!             }
//!             for source in outbox.sources(train) { // one, since trains are of single datagrams
//!                 let bytes = match source {
//!                     Source::Outbox { start, len } => outbox.bytes(start, len),
//!                     Source::Buffer(RxSlice { start, len, .. }) => {
//!                         &self.buffer[start as usize..][..len as usize]
//!                     }
//!                 };
//!                 self.sent.push((train.path.remote, bytes.to_vec()));
//!             }
//!         }
//!         // It cannot block; others would sleep here until `at`, or until their bell is rung.
//!         let nothing = self.arriving.is_empty() && self.failed.is_empty();
//!         let asleep = matches!(wait, Wait::Until(at) if nothing && at.is_none_or(|at| at > self.now()));
//!         Ok(if asleep { Turned::Asleep } else { Turned::Awake })
//!     }
//!
//!     fn receive(&mut self, budget: usize, sink: &mut impl Sink) {
//!         self.failed.drain(..).for_each(|failure| sink.send_failed(failure));
//!         for _ in 0..budget {
//!             let Some((remote, bytes)) = self.arriving.pop_front() else { return };
//!             self.buffer = bytes;
//!             let (socket, meta, bytes) = (SocketId::listener(0), Meta::default(), &mut self.buffer);
//!             let arrival =
//!                 Arrival { socket, remote, local: None, meta, segment: 0, bytes, buffer: 0, start: 0 };
//!             let fate = sink.datagram(arrival);
//!             if fate.stop || fate.kept > 0 {
//!                 return; // a reply lies in the only buffer, which is free again after the next turn
//!             }
//!         }
//!     }
//!
//!     fn has_more(&self) -> bool { !self.arriving.is_empty() }
//!     fn kernel_dropped(&mut self) -> u64 { 0 }
//! }
//!
//! let (postboxes, mut mailboxes) = mailboxes(1, 16);
//! let setup = Setup {
//!     info: ShardInfo::new(0, 1),
//!     listeners: Arc::new(["192.0.2.1:9000".parse().unwrap()]),
//!     mailbox: mailboxes.remove(0),
//!     postboxes,
//!     control: Arc::default(),
//!     stats: Arc::default(),
//!     secrets: Secrets { table: (1, 2), cookies: (3, 4) },
//!     resolver: None,
//!     start: Instant::now(),
//! };
//! let client: SocketAddr = "192.0.2.7:4000".parse().unwrap();
//! let arriving = VecDeque::from([(client, b"hello".to_vec())]);
//! let driver = Memory { arriving, ..Memory::default() };
//! let mut shard = ShardLoop::new(driver, setup, &Config::new(), |_| Echo).expect("a shard");
//! assert!(matches!(shard.turn(), Turn::Ran)); // the datagram comes, and the handler queues its reply
//! assert!(matches!(shard.turn(), Turn::Asleep)); // the reply leaves, and nothing is left to do
//! assert_eq!(shard.driver().sent, [(client, b"hello".to_vec())]);
//! ```

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use crate::backlog::Backlog;
use crate::capability::{Abilities, Capability};
use crate::datagram::{Meta, Path, SocketId};
use crate::endpoints::Endpoint;
use crate::error::{JoinError, PeerError};
use crate::multicast::Membership;
use crate::outbox::{Outbox, TrainLimits};
use crate::peers::PeerId;

/// What carries the datagrams of one shard.
///
/// See the [module documentation](self) for a whole driver.
///
/// ```
/// use shardgram_core::{backlog::Backlog, driver::{Driver, Wait}, outbox::Outbox};
/// fn flush<D: Driver>(driver: &mut D, outbox: &Outbox, backlog: &mut Backlog) -> std::io::Result<bool> {
///     driver.turn(outbox, backlog, Wait::Poll)?;
///     Ok(driver.has_more())
/// }
/// ```
pub trait Driver {
    /// What it can do. Asked once.
    ///
    /// ```
    /// use shardgram_core::{driver::Driver, outbox::TrainLimits};
    /// fn sends_trains(driver: &impl Driver) -> bool {
    ///     driver.capabilities().trains != TrainLimits::SINGLE
    /// }
    /// ```
    fn capabilities(&self) -> Capabilities;

    /// The time. Asked once a turn.
    ///
    /// ```
    /// use std::time::Duration;
    /// use shardgram_core::driver::{Driver, Wait};
    /// fn a_while(driver: &impl Driver) -> Wait {
    ///     Wait::Until(Some(driver.now() + Duration::from_millis(5)))
    /// }
    /// ```
    fn now(&self) -> Instant;

    /// Opens the socket of an endpoint and begins to receive on it; says which address it got.
    ///
    /// # Errors
    /// The system's error number.
    ///
    /// ```
    /// use shardgram_core::{Endpoint, datagram::SocketId, driver::Driver};
    /// fn open_first(driver: &mut impl Driver) -> Result<u16, i32> {
    ///     let endpoint = Endpoint::bound(([127, 0, 0, 1], 0).into());
    ///     Ok(driver.open(SocketId::endpoint(0), &endpoint)?.port())
    /// }
    /// ```
    fn open(&mut self, socket: SocketId, endpoint: &Endpoint) -> Result<SocketAddr, i32>;

    /// Closes the socket of an endpoint, if it is open. Nothing of it is handed over afterwards, and its
    /// number may be opened anew at once.
    ///
    /// ```
    /// use shardgram_core::{datagram::SocketId, driver::Driver};
    /// fn close_all(driver: &mut impl Driver, slots: u32) {
    ///     (0..slots).for_each(|slot| driver.close(SocketId::endpoint(slot)));
    /// }
    /// ```
    fn close(&mut self, socket: SocketId);

    /// Gives a path of a listener a socket of its own: what comes along it from now on comes by `socket`,
    /// after what the listener holds of it. The local address of the path is specific, never a wildcard.
    ///
    /// # Errors
    /// See [`ConnectFault`]. The path then stays with the listener.
    ///
    /// ```
    /// use shardgram_core::{Path, datagram::SocketId, driver::{ConnectFault, Driver}};
    /// fn first(driver: &mut impl Driver, path: &Path) -> Result<(), ConnectFault> {
    ///     driver.connect(SocketId::connected(0), path)
    /// }
    /// ```
    fn connect(&mut self, socket: SocketId, path: &Path) -> Result<(), ConnectFault> {
        let _ = (socket, path);
        Err(ConnectFault::Unsupported)
    }

    /// Takes a connected socket out of service: what comes along its path from now on comes by the listener
    /// again. Nothing is lost: what the socket holds is handed over as before, and then
    /// [`Sink::retired`] says that its number may be used anew. Called after the sends of a turn.
    ///
    /// ```
    /// use shardgram_core::{datagram::SocketId, driver::Driver};
    /// fn demote(driver: &mut impl Driver, slot: u32) { driver.retire(SocketId::connected(slot)); }
    /// ```
    fn retire(&mut self, socket: SocketId) {
        let _ = socket;
    }

    /// Joins a multicast group with a listener or an endpoint that is bound to a wildcard address.
    ///
    /// # Errors
    /// See [`JoinError`].
    ///
    /// ```
    /// use shardgram_core::{JoinError, Membership, datagram::SocketId, driver::Driver};
    /// fn hear(driver: &mut impl Driver) -> Result<(), JoinError> {
    ///     driver.join(SocketId::listener(0), &Membership::any_source([224, 0, 0, 251]))
    /// }
    /// ```
    fn join(&mut self, socket: SocketId, membership: &Membership) -> Result<(), JoinError> {
        let _ = (socket, membership);
        Err(JoinError::Unsupported { what: "a multicast group", remedy: "use another driver" })
    }

    /// Leaves a group that the socket joined in the same way.
    ///
    /// # Errors
    /// See [`JoinError`].
    ///
    /// ```
    /// use shardgram_core::{Membership, datagram::SocketId, driver::Driver};
    /// fn hear_no_more(driver: &mut impl Driver) {
    ///     let _ = driver.leave(SocketId::listener(0), &Membership::any_source([224, 0, 0, 251]));
    /// }
    /// ```
    fn leave(&mut self, socket: SocketId, membership: &Membership) -> Result<(), JoinError> {
        let _ = (socket, membership);
        Err(JoinError::Unsupported { what: "a multicast group", remedy: "use another driver" })
    }

    /// Wakes another shard of the same server, with the next [`Driver::turn`] at the latest.
    ///
    /// ```
    /// fn wake_all(driver: &mut impl shardgram_core::driver::Driver, claimed: &mut Vec<u16>) {
    ///     claimed.drain(..).for_each(|shard| driver.wake(shard));
    /// }
    /// ```
    fn wake(&mut self, shard: u16);

    /// Sends all that the outbox holds, then waits as told. When it returns nothing refers to the outbox
    /// any more, and the receive buffers it referred to are the driver's again. A train for a socket that
    /// is not open fails as [`PeerError::NotOpened`].
    ///
    /// What a socket has no room for goes into the backlog, and so does everything for a peer of whom
    /// something waits there already: order within a peer is kept. What waits is sent as soon as its socket
    /// has room, which also ends a wait.
    ///
    /// # Errors
    /// Only what ends the shard. What befalls one socket or one peer is reported by [`Driver::receive`].
    ///
    /// ```
    /// use shardgram_core::{backlog::Backlog, driver::{Driver, Turned, Wait}, outbox::Outbox};
    /// fn sleep<D: Driver>(driver: &mut D, outbox: &Outbox, backlog: &mut Backlog) -> std::io::Result<bool> {
    ///     let until = driver.now() + std::time::Duration::from_millis(20);
    ///     Ok(driver.turn(outbox, backlog, Wait::Until(Some(until)))? == Turned::Asleep)
    /// }
    /// ```
    fn turn(&mut self, outbox: &Outbox, backlog: &mut Backlog, wait: Wait) -> io::Result<Turned>;

    /// Hands over up to `budget` arrivals, and all failures that are known.
    ///
    /// ```
    /// use shardgram_core::driver::{Driver, Sink};
    /// fn failures_only(driver: &mut impl Driver, sink: &mut impl Sink) {
    ///     driver.receive(0, sink);
    /// }
    /// ```
    fn receive(&mut self, budget: usize, sink: &mut impl Sink);

    /// Whether more is known to wait than was handed over, so that the next turn must not sleep.
    ///
    /// ```
    /// use shardgram_core::driver::{Driver, Wait};
    /// fn wait(driver: &impl Driver) -> Wait {
    ///     if driver.has_more() { Wait::Poll } else { Wait::Until(None) }
    /// }
    /// ```
    fn has_more(&self) -> bool;

    /// Whether nothing is under way that will hand something over by itself: no peer's datagrams are held
    /// back while it moves from a socket to another. A drain waits for that.
    ///
    /// ```
    /// fn may_end(driver: &impl shardgram_core::driver::Driver) -> bool { driver.is_settled() }
    /// ```
    fn is_settled(&self) -> bool {
        !self.has_more()
    }

    /// Datagrams the system dropped because a receive buffer was full, on all sockets since the start.
    ///
    /// ```
    /// fn refresh(driver: &mut impl shardgram_core::driver::Driver, stats: &shardgram_core::Stats) {
    ///     stats.kernel_dropped.set(driver.kernel_dropped());
    /// }
    /// ```
    fn kernel_dropped(&mut self) -> u64;
}

/// Fixed facts of a driver.
///
/// ```
/// use shardgram_core::{driver::Capabilities, outbox::TrainLimits};
/// fn capabilities(offload: bool) -> Capabilities {
///     let long = TrainLimits { datagrams: 64, bytes: 65_507 };
///     Capabilities::new(if offload { long } else { TrainLimits::SINGLE })
/// }
/// assert_eq!(capabilities(true).trains.datagrams, 64);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Capabilities {
    /// How long trains to send may be.
    pub trains: TrainLimits,
    /// How many sockets of peers' own there may be.
    pub connected: ConnectedLimits,
    /// Whether the driver can block, so that a shard that spins lets time pass ([`crate::config::WaitPolicy`]).
    pub blocks: bool,
    /// What does not follow from these.
    others: Abilities,
    /// Whether what is sent to a broadcast address reaches the listener of every shard. Then each shard handles what is
    /// from addresses it owns, and leaves the rest to the others.
    pub copies: bool,
}

/// How many sockets of peers' own a shard may have.
///
/// ```
/// use shardgram_core::driver::ConnectedLimits;
/// assert_eq!(ConnectedLimits::NONE.total, 0);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConnectedLimits {
    /// In all.
    pub total: u32,
    /// For each local address and port.
    pub per_address: u32,
}

impl ConnectedLimits {
    /// Peers stay with the listener.
    ///
    /// ```
    /// use shardgram_core::{driver::{Capabilities, ConnectedLimits}, outbox::TrainLimits};
    /// assert_eq!(Capabilities::new(TrainLimits::SINGLE).connected, ConnectedLimits::NONE);
    /// ```
    pub const NONE: Self = Self { total: 0, per_address: 0 };
}

/// Why a peer got no socket of its own.
///
/// ```
/// use shardgram_core::driver::ConnectFault;
/// fn fault(errno: i32) -> ConnectFault {
///     match errno {
///         23 | 24 => ConnectFault::Exhausted { errno }, // ENFILE, EMFILE
///         errno => ConnectFault::Failed { errno },
///     }
/// }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectFault {
    /// This driver has no such sockets, or not for this local address.
    #[error("peers of this address have no sockets of their own")]
    Unsupported,
    /// The system has no more descriptors, or no memory: the next one will fail too.
    #[error("the system has no room for more sockets (system error {errno})")]
    Exhausted {
        /// The system's error number.
        errno: i32,
    },
    /// This one failed.
    #[error("system error {errno}")]
    Failed {
        /// The system's error number.
        errno: i32,
    },
}

impl Capabilities {
    /// Trains of up to this length.
    ///
    /// ```
    /// use shardgram_core::{driver::Capabilities, outbox::TrainLimits};
    /// assert_eq!(Capabilities::new(TrainLimits::SINGLE).trains.datagrams, 1);
    /// ```
    pub fn new(trains: TrainLimits) -> Self {
        let connected = ConnectedLimits::NONE;
        Self { trains, connected, blocks: true, others: Abilities::default(), copies: false }
    }

    /// With this as well. [`Capability::TrainsOut`], [`Capability::Connected`] and [`Capability::Blocking`] are
    /// said by the fields, so naming them here changes nothing.
    ///
    /// ```
    /// use shardgram_core::{Capability, driver::Capabilities, outbox::TrainLimits};
    /// let able = Capabilities::new(TrainLimits::SINGLE).with(&[Capability::EcnIn, Capability::EcnOut]);
    /// assert!(able.has(Capability::EcnIn) && !able.has(Capability::Timestamps));
    /// ```
    #[must_use]
    pub fn with(self, able: &[Capability]) -> Self {
        Self { others: able.iter().fold(self.others, |others, next| others.with(*next)), ..self }
    }

    /// Whether the driver can do this.
    ///
    /// ```
    /// use shardgram_core::{Capability, driver::Capabilities, outbox::TrainLimits};
    /// let plain = Capabilities::new(TrainLimits::SINGLE);
    /// assert!(plain.has(Capability::Blocking) && !plain.has(Capability::TrainsOut));
    /// ```
    pub fn has(&self, capability: Capability) -> bool {
        match capability {
            Capability::TrainsOut => self.trains != TrainLimits::SINGLE,
            Capability::Connected => self.connected.total > 0,
            Capability::Blocking => self.blocks,
            other => self.others.has(other),
        }
    }

    /// With sockets of peers' own.
    ///
    /// ```
    /// use shardgram_core::{driver::{Capabilities, ConnectedLimits}, outbox::TrainLimits};
    /// let few = ConnectedLimits { total: 32, per_address: 32 };
    /// assert_eq!(Capabilities::new(TrainLimits::SINGLE).connected(few).connected, few);
    /// ```
    #[must_use]
    pub fn connected(self, connected: ConnectedLimits) -> Self {
        Self { connected, ..self }
    }

    /// For a driver under which every shard's listener gets its copy of a broadcast.
    ///
    /// ```
    /// use shardgram_core::{driver::Capabilities, outbox::TrainLimits};
    /// assert!(Capabilities::new(TrainLimits::SINGLE).with_copies(true).copies);
    /// ```
    #[must_use]
    pub fn with_copies(self, copies: bool) -> Self {
        Self { copies, ..self }
    }

    /// For a driver that cannot block: its shards never spin.
    ///
    /// ```
    /// use shardgram_core::{driver::Capabilities, outbox::TrainLimits};
    /// assert!(!Capabilities::new(TrainLimits::SINGLE).without_blocking().blocks);
    /// ```
    #[must_use]
    pub fn without_blocking(self) -> Self {
        Self { blocks: false, ..self }
    }
}

/// How long [`Driver::turn`] may sleep.
///
/// ```
/// use std::time::{Duration, Instant};
/// use shardgram_core::driver::Wait;
/// /// As poll(2) wants it: `None` is for ever.
/// fn timeout(wait: Wait, now: Instant) -> Option<Duration> {
///     match wait {
///         Wait::Poll => Some(Duration::ZERO),
///         Wait::Until(deadline) => deadline.map(|at| at.saturating_duration_since(now)),
///     }
/// }
/// assert_eq!(timeout(Wait::Poll, Instant::now()), Some(Duration::ZERO));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wait {
    /// Not at all: take what is there.
    Poll,
    /// Until something arrives, the bell rings, or this time has come.
    Until(Option<Instant>),
}

/// What [`Driver::turn`] came to.
///
/// ```
/// use std::time::Instant;
/// use shardgram_core::driver::{Turned, Wait};
/// fn without_blocking(wait: Wait, now: Instant) -> Turned {
///     match wait {
///         Wait::Until(at) if at.is_none_or(|at| at > now) => Turned::Asleep,
///         _ => Turned::Awake,
///     }
/// }
/// assert_eq!(without_blocking(Wait::Until(None), Instant::now()), Turned::Asleep);
/// ```
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
///
/// ```
/// use std::net::SocketAddr;
/// use shardgram_core::{Meta, datagram::SocketId, driver::Arrival};
/// fn single(remote: SocketAddr, bytes: &mut [u8]) -> Arrival<'_> {
///     let (socket, meta) = (SocketId::listener(0), Meta::default());
///     Arrival { socket, remote, local: None, meta, segment: 0, bytes, buffer: 0, start: 0 }
/// }
/// assert_eq!(single(([127, 0, 0, 1], 9).into(), &mut [1, 2, 3]).bytes.len(), 3);
/// ```
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
///
/// ```
/// use shardgram_core::driver::Fate;
/// fn take_back(fate: Fate, buffer: u32, free: &mut Vec<u32>, kept: &mut [u32]) -> bool {
///     match fate.kept {
///         0 => free.push(buffer),
///         sends => kept[buffer as usize] = sends,
///     }
///     !fate.stop
/// }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fate {
    /// How many queued sends refer to the buffer. With 0 it may be used again at once; otherwise after
    /// that many sends of the next turn.
    pub kept: u32,
    /// Hand over nothing more in this turn.
    pub stop: bool,
}

/// A train that could not be sent.
///
/// ```
/// use shardgram_core::driver::{SendFailure, SendFault};
/// use shardgram_core::{PeerError, outbox::Train};
/// fn refused(train: &Train) -> SendFailure {
///     let fault = SendFault::Peer(PeerError::Refused);
///     SendFailure { peer: train.peer, datagrams: train.datagrams, fault }
/// }
/// ```
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
///
/// ```
/// use shardgram_core::{PeerError, driver::SendFault};
/// fn fault(errno: i32) -> SendFault {
///     match errno {
///         11 => SendFault::SocketFull, // EAGAIN
///         111 => SendFault::Peer(PeerError::Refused), // ECONNREFUSED
///         errno => SendFault::Peer(PeerError::Other { errno }),
///     }
/// }
/// assert_eq!(fault(11), SendFault::SocketFull);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SendFault {
    /// The socket's buffer is full. The peer is not to blame and hears nothing.
    SocketFull,
    /// The peer, the path to it or a local rule.
    Peer(PeerError),
}

/// Where a driver hands over what arrived. The shard loop implements it.
///
/// See the [module documentation](self) for its use in a driver. One for a driver's own tests:
///
/// ```
/// use std::net::IpAddr;
/// use shardgram_core::{PeerError, datagram::SocketId};
/// use shardgram_core::driver::{Arrival, Fate, SendFailure, Sink};
/// #[derive(Default)]
/// struct Count { datagrams: u32, failed: u32 }
/// impl Sink for Count {
///     fn datagram(&mut self, _: Arrival<'_>) -> Fate {
///         self.datagrams += 1;
///         Fate { kept: 0, stop: false }
///     }
///     fn send_failed(&mut self, failure: SendFailure) { self.failed += failure.datagrams; }
///     fn malformed(&mut self) {}
///     fn too_late(&mut self, _: u32) {}
///     fn rearmed(&mut self, _: bool) {}
///     fn train_refused(&mut self, _: Option<shardgram_core::PeerId>, _: u32) {}
///     fn retired(&mut self, _: SocketId) {}
///     fn peer_error(&mut self, _: SocketId, _: PeerError) {}
///     fn address_gone(&mut self, _: SocketId, _: IpAddr) {}
///     fn handover_timed_out(&mut self) {}
/// }
/// let mut sink = Count::default();
/// sink.malformed();
/// assert_eq!((sink.datagrams, sink.failed), (0, 0));
/// ```
pub trait Sink {
    /// A datagram or a train.
    ///
    /// ```
    /// use shardgram_core::driver::{Arrival, Sink};
    /// fn hand_over(sink: &mut impl Sink, arrival: Arrival<'_>, free: &mut Vec<u32>) -> bool {
    ///     let buffer = arrival.buffer;
    ///     let fate = sink.datagram(arrival);
    ///     if fate.kept == 0 { free.push(buffer); }
    ///     !fate.stop
    /// }
    /// ```
    fn datagram(&mut self, arrival: Arrival<'_>) -> Fate;

    /// The next datagram, of which [`Meta::to_many`] is set, was sent to this multicast group or broadcast address.
    ///
    /// ```
    /// use std::net::IpAddr;
    /// use shardgram_core::driver::{Arrival, Fate, Sink};
    /// fn to_group(sink: &mut impl Sink, group: IpAddr, mut arrival: Arrival<'_>) -> Fate {
    ///     arrival.meta.to_many = true;
    ///     sink.sent_to(group);
    ///     sink.datagram(arrival)
    /// }
    /// ```
    fn sent_to(&mut self, group: IpAddr) {
        let _ = group;
    }

    /// Something was received that has no usable source address or impossible control data.
    ///
    /// ```
    /// use std::net::SocketAddr;
    /// use shardgram_core::driver::Sink;
    /// fn check(sink: &mut impl Sink, source: Option<SocketAddr>) -> Option<SocketAddr> {
    ///     if source.is_none() { sink.malformed(); }
    ///     source
    /// }
    /// ```
    fn malformed(&mut self);

    /// So many datagrams had been received on an endpoint when it was closed.
    ///
    /// ```
    /// fn drop_queue(sink: &mut impl shardgram_core::driver::Sink, closed: &mut Vec<Vec<u8>>) {
    ///     sink.too_late(closed.drain(..).count() as u32);
    /// }
    /// ```
    fn too_late(&mut self, datagrams: u32);

    /// A train could not be sent.
    ///
    /// ```
    /// use shardgram_core::driver::{SendFailure, Sink};
    /// fn report(sink: &mut impl Sink, failures: &mut Vec<SendFailure>) {
    ///     failures.drain(..).for_each(|failure| sink.send_failed(failure));
    /// }
    /// ```
    fn send_failed(&mut self, failure: SendFailure);

    /// The system refused a train of datagrams of `segment` bytes, which the driver then sent one by one. None so
    /// long is to be built for this peer again.
    ///
    /// ```
    /// use shardgram_core::{driver::Sink, outbox::Train};
    /// fn refused(sink: &mut impl Sink, train: &Train) { sink.train_refused(train.peer, train.segment); }
    /// ```
    fn train_refused(&mut self, peer: Option<PeerId>, segment: u32);

    /// A receive ended and was armed again; `exhausted` if the receive buffers had run out.
    ///
    /// ```
    /// fn receive_ended(sink: &mut impl shardgram_core::driver::Sink, errno: i32) {
    ///     const NO_BUFFERS: i32 = 105; // ENOBUFS
    ///     sink.rearmed(errno == NO_BUFFERS);
    /// }
    /// ```
    fn rearmed(&mut self, exhausted: bool);

    /// A connected socket that was retired is empty and closed: its number may be used anew.
    ///
    /// ```
    /// use shardgram_core::{datagram::SocketId, driver::Sink};
    /// fn closed(sink: &mut impl Sink, slots: &mut Vec<u32>) {
    ///     slots.drain(..).for_each(|slot| sink.retired(SocketId::connected(slot)));
    /// }
    /// ```
    fn retired(&mut self, socket: SocketId);

    /// The network told a connected socket that its peer cannot be reached as it is written to.
    ///
    /// ```
    /// use shardgram_core::{PeerError, datagram::SocketId, driver::Sink};
    /// fn receive_ended(sink: &mut impl Sink, slot: u32, errno: i32) {
    ///     const REFUSED: i32 = 111; // ECONNREFUSED
    ///     if errno == REFUSED { sink.peer_error(SocketId::connected(slot), PeerError::Refused); }
    /// }
    /// ```
    fn peer_error(&mut self, socket: SocketId, error: PeerError);

    /// A local address of a listener that takes every address is this host's no longer.
    ///
    /// ```
    /// use std::net::IpAddr;
    /// use shardgram_core::{datagram::SocketId, driver::Sink};
    /// fn interface_went(sink: &mut impl Sink, addresses: &[IpAddr]) {
    ///     addresses.iter().for_each(|ip| sink.address_gone(SocketId::listener(0), *ip));
    /// }
    /// ```
    fn address_gone(&mut self, socket: SocketId, ip: IpAddr);

    /// A peer that moved to a socket of its own was handed over before it was certain that nothing of it was
    /// left at the listener: its datagrams may be out of order.
    ///
    /// ```
    /// use std::time::Duration;
    /// use shardgram_core::driver::Sink;
    /// fn waited(sink: &mut impl Sink, so_long: Duration) {
    ///     if so_long > Duration::from_secs(1) { sink.handover_timed_out(); }
    /// }
    /// ```
    fn handover_timed_out(&mut self);
}
