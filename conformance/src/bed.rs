//! What a test needs of a driver and of the network around it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use super::table::{self, Expected, Platform};
use shardgram_core::{Capability, Config, Ecn, Handler, ShardInfo, Snapshot};

/// How long anything may take that is expected to happen, by the bed's clock. Only a failing test waits this long.
///
/// ```
/// assert!(shardgram_conformance::PATIENCE.as_secs() >= 10);
/// ```
pub const PATIENCE: Duration = Duration::from_secs(30);

/// What a peer sends.
///
/// ```
/// use shardgram_conformance::Sending;
/// use shardgram_core::Ecn;
/// let train = Sending { segment: Some(2), ..Sending::of(b"aabb") };
/// assert_eq!((train.ecn, train.segment), (Ecn::NotEct, Some(2)));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sending<'a> {
    /// The bytes.
    pub bytes: &'a [u8],
    /// How it is marked.
    pub ecn: Ecn,
    /// The DSCP beside the mark, as a byte whose lowest two bits are 0. A network without such leaves it out.
    pub dscp: u8,
    /// Bytes of each datagram but the last, if it is a train of several. Asked for only where the table says that
    /// the driver receives trains.
    pub segment: Option<u16>,
}

impl<'a> Sending<'a> {
    /// One datagram without a mark.
    ///
    /// ```
    /// assert_eq!(shardgram_conformance::Sending::of(b"one").segment, None);
    /// ```
    pub fn of(bytes: &'a [u8]) -> Self {
        Self { bytes, ecn: Ecn::NotEct, dscp: 0, segment: None }
    }
}

/// What came to a peer.
///
/// ```
/// use shardgram_conformance::Came;
/// fn is_train(came: &Came) -> bool { came.segment.is_some() }
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Came {
    /// From where.
    pub from: SocketAddr,
    /// How it is marked, if the peer is an observer and the system tells.
    pub ecn: Option<Ecn>,
    /// Bytes of each datagram but the last, if it came as a train, which only observers are given so.
    pub segment: Option<usize>,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// How a shard ended.
///
/// ```
/// use shardgram_conformance::End;
/// assert_ne!(End::Drained, End::Deadline);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// [`Ending::Drained`](shardgram_core::shard_loop::Ending::Drained).
    Drained,
    /// [`Ending::DrainDeadline`](shardgram_core::shard_loop::Ending::DrainDeadline).
    Deadline,
    /// [`Ending::Stopped`](shardgram_core::shard_loop::Ending::Stopped).
    Stopped,
    /// [`Ending::TooManyRestarts`](shardgram_core::shard_loop::Ending::TooManyRestarts).
    TooManyRestarts,
}

/// How a server ended.
///
/// ```
/// use shardgram_conformance::{End, Ended};
/// fn in_time(ended: &Ended) -> bool { !ended.shards.contains(&End::Deadline) }
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ended {
    /// The counters of all shards together.
    pub total: Snapshot,
    /// How each shard ended, as far as that is told: of a server that ended because handlers panicked too often, one
    /// [`End::TooManyRestarts`] is enough.
    pub shards: Vec<End>,
}

/// Where behaviours are shown: a driver, a network, and a clock.
///
/// A value is good for one behaviour. Time passes in [`Bed::pass`] and in [`Bed::take`] at least; with drivers that run on
/// threads it passes all the time. A method that cannot do what it is asked panics, which fails the test.
///
/// ```
/// use shardgram_conformance::{Bed, loopback, Echo};
/// fn echoes<B: Bed>(mut bed: B) {
///     let server = bed.serve(loopback(), |_| Echo);
///     let at = bed.address(&server);
///     let peer = bed.peer(at);
///     assert_eq!(bed.ask(&peer, at, b"hello"), b"hello");
///     assert_eq!(bed.drain(server).received, 1);
/// }
/// ```
pub trait Bed: Sized {
    /// A running server that takes messages of this type.
    type Server<M: Send + 'static>;
    /// A bare socket that plays the peer. It is closed by [`Bed::close`], or with the bed.
    type Peer;

    /// Which driver this is, on which system.
    fn platform(&self) -> Platform;

    /// What the driver is expected to be able to do. A [`Driver::Other`](super::table::Driver::Other) has a table of its
    /// own.
    fn expected(&self, capability: Capability) -> Expected {
        table::expected(capability, self.platform())
    }

    /// Starts a server on every address of the configuration, all of them of loopback; port 0 takes a free one. A bed
    /// may adjust the configuration to run the whole suite in a mode of its driver.
    ///
    /// # Errors
    /// Why it did not start, as a user is told.
    fn try_serve<H: Handler>(
        &mut self,
        config: Config,
        make: impl Fn(ShardInfo) -> H + Send + Sync + Clone + 'static,
    ) -> Result<Self::Server<H::Message>, String>;

    /// The addresses it listens on, in the order of [`Config::listen`].
    fn addresses<M: Send + 'static>(&self, server: &Self::Server<M>) -> Vec<SocketAddr>;

    /// Sends a message to a shard; gives it back if the mailbox is full or the shard has ended.
    fn try_tell<M: Send + 'static>(
        &mut self,
        server: &Self::Server<M>,
        shard: u16,
        message: M,
    ) -> Result<(), M>;

    /// The counters of all shards together, with what the system dropped.
    fn stats<M: Send + 'static>(&mut self, server: &Self::Server<M>) -> Snapshot;

    /// Asks the shards to drain within this time.
    fn start_drain<M: Send + 'static>(&mut self, server: &Self::Server<M>, within: Duration);

    /// Lets time pass until every shard has ended, for whatever reason.
    fn wait<M: Send + 'static>(&mut self, server: Self::Server<M>) -> Ended;

    /// A socket at this address of loopback; port 0 takes a free port.
    ///
    /// # Errors
    /// Why there is none, such as a port that somebody has.
    fn try_peer(&mut self, at: SocketAddr) -> Result<Self::Peer, String>;

    /// A socket on a free port of this address of loopback that is told marks and is given trains as they came. Asked for
    /// only where the table says that the driver sends such.
    fn observer(&mut self, ip: IpAddr) -> Self::Peer;

    /// Closes the socket of a peer, so that its port is free.
    fn close(&mut self, peer: Self::Peer);

    /// So many addresses of loopback, at different ports, that are free and that nobody else takes in the meantime.
    fn quiet_addresses(&mut self, count: usize) -> Vec<SocketAddr>;

    /// Addresses of loopback that may be listened on: one of each family at least.
    fn loopback_addresses(&self) -> Vec<IpAddr>;

    /// The address of a peer.
    fn address_of(&self, peer: &Self::Peer) -> SocketAddr;

    /// Sends from a peer.
    fn send_as(&mut self, peer: &Self::Peer, to: SocketAddr, what: Sending<'_>);

    /// Sends a datagram whose source port is 0, which no socket can. False if this process may not; whoever says so
    /// records it as a test that was skipped.
    fn send_from_port_zero(&mut self, to: SocketAddr, bytes: &[u8]) -> bool;

    /// What comes to a peer next, if anything does within this time.
    fn take(&mut self, peer: &Self::Peer, within: Duration) -> Option<Came>;

    /// The time, by the clock that the driver goes by.
    fn now(&self) -> Instant;

    /// The time as [`Meta::kernel_time`](shardgram_core::Meta::kernel_time) counts it.
    fn system_time(&self) -> Duration;

    /// Lets so much time pass.
    fn pass(&mut self, time: Duration);

    /// What random choices follow from. Printed by tests that make some.
    fn seed(&self) -> u64;

    // What follows is the same for all.

    /// As [`Bed::try_serve`].
    fn serve<H: Handler>(
        &mut self,
        config: Config,
        make: impl Fn(ShardInfo) -> H + Send + Sync + Clone + 'static,
    ) -> Self::Server<H::Message> {
        self.try_serve(config, make).unwrap_or_else(|why| panic!("the server does not start: {why}"))
    }

    /// The first address it listens on.
    fn address<M: Send + 'static>(&self, server: &Self::Server<M>) -> SocketAddr {
        self.addresses(server)[0]
    }

    /// A socket on a free port of the loopback address of that family.
    fn peer(&mut self, like: SocketAddr) -> Self::Peer {
        let at = SocketAddr::new(loopback_of(like), 0);
        self.try_peer(at).unwrap_or_else(|why| panic!("no peer at {at}: {why}"))
    }

    /// Whether nobody has this address.
    fn is_free(&mut self, at: SocketAddr) -> bool {
        match self.try_peer(at) {
            Ok(peer) => {
                self.close(peer);
                true
            }
            Err(_) => false,
        }
    }

    /// Sends one datagram.
    fn send(&mut self, peer: &Self::Peer, to: SocketAddr, bytes: &[u8]) {
        self.send_as(peer, to, Sending::of(bytes));
    }

    /// The next datagram that comes to the peer, and from where.
    fn receive(&mut self, peer: &Self::Peer) -> (SocketAddr, Vec<u8>) {
        let came = self.next(peer);
        (came.from, came.bytes)
    }

    /// What comes next to the peer.
    fn next(&mut self, peer: &Self::Peer) -> Came {
        self.take(peer, PATIENCE).expect("a datagram comes")
    }

    /// Sends and expects one answer.
    fn ask(&mut self, peer: &Self::Peer, to: SocketAddr, bytes: &[u8]) -> Vec<u8> {
        self.send(peer, to, bytes);
        let (from, answer) = self.receive(peer);
        assert_eq!(from, to, "the answer comes from the address written to");
        answer
    }

    /// As [`Bed::try_tell`], for a mailbox that has room.
    fn tell<M: Send + 'static>(&mut self, server: &Self::Server<M>, shard: u16, message: M) {
        assert!(self.try_tell(server, shard, message).is_ok(), "the mailbox has room");
    }

    /// Lets time pass until the condition holds.
    fn until(&mut self, what: &str, mut holds: impl FnMut(&mut Self) -> bool) {
        let end = self.now() + PATIENCE;
        while !holds(self) {
            assert!(self.now() < end, "{what}: it did not come about");
            self.pass(Duration::from_millis(1));
        }
    }

    /// Lets time pass until a handler says something.
    fn hear<T: fmt::Debug>(&mut self, from: &Receiver<T>) -> T {
        let mut heard = None;
        self.until("something is heard", |_| {
            heard = from.try_recv().ok();
            heard.is_some()
        });
        heard.expect("until it is")
    }

    /// Drains the server and gives its counters, which add up.
    fn drain<M: Send + 'static>(&mut self, server: Self::Server<M>) -> Snapshot {
        self.start_drain(&server, PATIENCE);
        let Ended { total, shards } = self.wait(server);
        assert!(shards.iter().all(|end| *end == End::Drained), "{shards:?}");
        assert_eq!(total.unaccounted(), 0, "every datagram is accounted for: {total:?}");
        total
    }
}

fn loopback_of(like: SocketAddr) -> IpAddr {
    if like.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() }
}

/// A listener on a free port of 127.0.0.1.
///
/// ```
/// assert!(shardgram_conformance::loopback().settings().listen[0].ip().is_loopback());
/// ```
pub fn loopback() -> Config {
    Config::new().listen((Ipv4Addr::LOCALHOST, 0).into())
}

/// One on a free port of ::1 as well.
pub(super) fn both_families() -> Config {
    loopback().listen((Ipv6Addr::LOCALHOST, 0).into())
}

/// Where a server that listens there is reached over loopback.
pub(super) fn to_loopback(at: SocketAddr) -> SocketAddr {
    if at.ip().is_unspecified() { SocketAddr::new(loopback_of(at), at.port()) } else { at }
}

/// Bytes that differ from place to place.
pub(super) fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 + i / 251) as u8).collect()
}
