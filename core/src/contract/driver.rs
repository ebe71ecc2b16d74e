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
//!         let asleep = match wait {
//!             Wait::Poll => false,
//!             Wait::Until(at) => nothing && at.is_none_or(|at| at > self.now()),
//!             Wait::Rest(at) => at > self.now(),
//!         };
//!         Ok(if asleep { Turned::Asleep } else { Turned::Awake })
//!     }
//!
//!     fn receive(&mut self, budget: usize, _: usize, sink: &mut impl Sink) -> usize {
//!         self.failed.drain(..).for_each(|failure| sink.send_failed(failure));
//!         for handed_over in 0..budget {
//!             let Some((remote, bytes)) = self.arriving.pop_front() else { return handed_over };
//!             self.buffer = bytes;
//!             let (socket, meta, bytes) = (SocketId::listener(0), Meta::default(), &mut self.buffer);
//!             let arrival =
//!                 Arrival { socket, remote, local: None, meta, segment: 0, bytes, buffer: 0, start: 0 };
//!             let fate = sink.datagram(arrival);
//!             if fate.stop || fate.kept > 0 {
//!                 return 0; // a reply lies in the only buffer, which is free again after the next turn
//!             }
//!         }
//!         budget
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
//!     own: Arc::default(),
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
use std::net::SocketAddr;
use std::time::{Duration, Instant};

pub use crate::contract::capabilities::{Capabilities, ConnectFault, ConnectedLimits};
pub use crate::contract::sink::{Arrival, Fate, SendFailure, Sink};
use crate::send::backlog::Backlog;
use crate::send::outbox::Outbox;
pub use crate::send::policy::{After, Order, Outcome, Refusal, SendFault, after};
use crate::types::datagram::{Path, SocketId};
use crate::types::endpoint::Endpoint;
use crate::types::error::JoinError;
use crate::types::multicast::Membership;

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

    /// The time. Asked once a turn, and again where there is much to do, or what is done is slow.
    ///
    /// ```
    /// use std::time::Duration;
    /// use shardgram_core::driver::{Driver, Wait};
    /// fn a_while(driver: &impl Driver) -> Wait {
    ///     Wait::Until(Some(driver.now() + Duration::from_millis(5)))
    /// }
    /// ```
    fn now(&self) -> Instant;

    /// For how long the machine was suspended, as far as [`Driver::now`] does not count that. Only what is added to it
    /// matters, so it may begin anywhere. Asked ten times a second at most.
    ///
    /// ```
    /// use std::time::Duration;
    /// use shardgram_core::driver::Driver;
    /// fn slept_since(driver: &impl Driver, before: Duration) -> Duration {
    ///     driver.suspended().saturating_sub(before)
    /// }
    /// ```
    fn suspended(&self) -> Duration {
        Duration::ZERO
    }

    /// Opens the socket of an endpoint and begins to receive on it; says which address it got. What it brings is said to come by
    /// this very number ([`Arrival::socket`]), generation and all. No other endpoint of the same slot is open.
    ///
    /// # Errors
    /// The system's error number.
    ///
    /// ```
    /// use shardgram_core::{Endpoint, datagram::SocketId, driver::Driver};
    /// fn open_first(driver: &mut impl Driver) -> Result<u16, i32> {
    ///     let endpoint = Endpoint::bound(([127, 0, 0, 1], 0).into());
    ///     Ok(driver.open(SocketId::endpoint(0, 0), &endpoint)?.port())
    /// }
    /// ```
    fn open(&mut self, socket: SocketId, endpoint: &Endpoint) -> Result<SocketAddr, i32>;

    /// Closes the socket of an endpoint, if it is open. Nothing of it is handed over afterwards, and its
    /// slot may be opened anew at once.
    ///
    /// ```
    /// use shardgram_core::{datagram::SocketId, driver::Driver};
    /// fn close_all(driver: &mut impl Driver, open: Vec<SocketId>) {
    ///     open.into_iter().for_each(|socket| driver.close(socket));
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
    /// [`Sink::retired`] says that its number may be used anew. Called after the sends of a turn, of those too that the driver
    /// wants back ([`Sink::demote`]).
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
    /// is not open fails as [`PeerError::NotOpened`](crate::error::PeerError::NotOpened).
    ///
    /// What a socket has no room for goes into the backlog, and so does everything for a peer of whom
    /// something waits there already: order within a peer is kept. What waits is sent as soon as its socket
    /// has room, which also ends a wait.
    ///
    /// # Errors
    /// Only what ends the shard: its way into the system is gone. What befalls one socket or one peer is reported by
    /// [`Driver::receive`], and what the system is short of for a while is waited for with rests.
    ///
    /// ```
    /// use shardgram_core::{backlog::Backlog, driver::{Driver, Turned, Wait}, outbox::Outbox};
    /// fn sleep<D: Driver>(driver: &mut D, outbox: &Outbox, backlog: &mut Backlog) -> std::io::Result<bool> {
    ///     let until = driver.now() + std::time::Duration::from_millis(20);
    ///     Ok(driver.turn(outbox, backlog, Wait::Until(Some(until)))? == Turned::Asleep)
    /// }
    /// ```
    fn turn(&mut self, outbox: &Outbox, backlog: &mut Backlog, wait: Wait) -> io::Result<Turned>;

    /// Hands over up to `budget` arrivals, and all failures that are known. Says how much of the budget it used: if that
    /// is less than all, and the sink did not want it to stop ([`Fate::stop`]), nothing is left that could be handed over
    /// before the next [`Driver::turn`]. The loop calls it again for the next slice of a turn's budget otherwise, or
    /// leaves the rest to the next turn.
    ///
    /// Sockets that hold something take turns: after `each` arrivals of one it is the next one's turn, and a call goes on
    /// where the last one ended, within a turn of a socket too. So none gets more than another that holds as much,
    /// whatever the budget.
    ///
    /// ```
    /// use shardgram_core::driver::{Driver, Sink};
    /// fn hand_over_some(driver: &mut impl Driver, sink: &mut impl Sink) -> bool {
    ///     driver.receive(16, 4, sink) == 16 // there may be more
    /// }
    /// fn failures_only(driver: &mut impl Driver, sink: &mut impl Sink) {
    ///     driver.receive(0, 1, sink);
    /// }
    /// ```
    fn receive(&mut self, budget: usize, each: usize, sink: &mut impl Sink) -> usize;

    /// Whether more is known to wait than was handed over, so that the next turn must not sleep.
    ///
    /// ```
    /// use shardgram_core::driver::{Driver, Wait};
    /// fn wait(driver: &impl Driver) -> Wait {
    ///     if driver.has_more() { Wait::Poll } else { Wait::Until(None) }
    /// }
    /// ```
    fn has_more(&self) -> bool;

    /// Whether everything was handed over that had arrived when the last [`Driver::turn`] was called, as far as the driver
    /// knows: only then a peer that was not heard is taken to be silent. It is asked when somebody may be, after
    /// [`Driver::receive`] handed over less than it was to, and again in the next turns if it says no.
    ///
    /// ```
    /// fn may_judge(driver: &impl shardgram_core::driver::Driver) -> bool {
    ///     driver.is_caught_up()
    /// }
    /// ```
    fn is_caught_up(&self) -> bool {
        !self.has_more()
    }

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
    fn kernel_dropped(&mut self) -> u64;
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
///         Wait::Rest(until) => Some(until.saturating_duration_since(now)),
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
    /// Until the bell rings or this time has come, whatever waits to be handed over: the shard pauses, and takes nothing.
    /// It may end earlier, but not again and again for what was there when it began.
    Rest(Instant),
}

/// What [`Driver::turn`] came to.
///
/// ```
/// use std::time::Instant;
/// use shardgram_core::driver::{Turned, Wait};
/// fn without_blocking(wait: Wait, now: Instant) -> Turned {
///     match wait {
///         Wait::Until(at) if at.is_none_or(|at| at > now) => Turned::Asleep,
///         Wait::Rest(at) if at > now => Turned::Asleep,
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
