//! Trains on their way out.
//!
//! One system call for a train on Linux, and for a datagram elsewhere. What becomes of one that is refused is decided by
//! [`after`]; what the system's errors mean stands in [`shardgram_sys::errors`].

use std::convert::Infallible;
use std::io::{self, ErrorKind};
use std::net::IpAddr;

use shardgram_core::backlog::{Backlog, Late, Waiting};
use shardgram_core::datagram::SocketId;
use shardgram_core::driver::{After, Order, Outcome, SendFailure, SendFault, after};
use shardgram_core::outbox::{Outbox, Source, Train};
use shardgram_core::{Ecn, Path, PeerError, PeerId};

use crate::buffers::Buffers;
use crate::sockets::{Socket, Sockets};
use shardgram_sys::{errno, errors};

/// An endpoint that was not opened: its peers were told, and may have queued something before.
const NOT_OPEN: SendFault = SendFault::Peer(PeerError::NotOpened { errno: errno::EBADF });

/// What became of sends that did not leave as they were to.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    /// What failed.
    pub(crate) failures: Vec<SendFailure>,
    /// Trains that were refused as such: whose, and how long their datagrams were.
    pub(crate) refusals: Vec<(Option<PeerId>, u32)>,
}

impl Reports {
    fn failed(&mut self, peer: Option<PeerId>, datagrams: u32, fault: SendFault) {
        self.failures.push(SendFailure { peer, datagrams, fault });
    }
}

/// Sends everything, in order, and notes what failed. What a full socket refuses goes into the backlog, and
/// so does what follows to a peer of whom something waits there.
pub(crate) fn carry_out(
    outbox: &Outbox,
    backlog: &mut Backlog,
    sockets: &mut Sockets,
    buffers: &Buffers,
    reports: &mut Reports,
) {
    for train in outbox.trains() {
        let Some(socket) = sockets.get(train.via) else {
            reports.failed(train.peer, train.datagrams, NOT_OPEN);
            continue;
        };
        let pieces = || outbox.sources(train).map(|source| bytes_of(source, outbox, buffers));
        let must_wait = socket.is_full() || train.peer.is_some_and(|peer| backlog.holds(peer));
        let way = Way { socket, path: &train.path, ecn: train.ecn };
        let tried = match must_wait {
            true => full(train.peer),
            false => try_to(train.peer, || send_train(way, train.segment, train.datagrams, pieces())),
        };
        see_to(train, pieces(), tried, backlog, sockets, reports);
        if tried.1 == After::Singles {
            reports.refusals.push((train.peer, train.segment));
            send_singly(train, &pieces().collect::<Vec<_>>().concat(), backlog, sockets, reports);
        }
    }
}

/// Sends the datagrams of a train that cannot leave as one.
fn send_singly(
    train: &Train,
    bytes: &[u8],
    backlog: &mut Backlog,
    sockets: &mut Sockets,
    reports: &mut Reports,
) {
    for datagram in bytes.chunks(train.segment.max(1) as usize) {
        let Some(socket) = sockets.get(train.via) else { return };
        let way = Way { socket, path: &train.path, ecn: train.ecn };
        let tried = match socket.is_full() {
            true => full(train.peer),
            false => try_to(train.peer, || send_one(way, datagram)),
        };
        let one = train.one(datagram.len());
        see_to(&one, std::iter::once(datagram), tried, backlog, sockets, reports);
    }
}

/// Sends, and once more where the first time told of something else: how that went, and what becomes of it.
fn try_to(peer: Option<PeerId>, send: impl Fn() -> Outcome) -> (Outcome, After) {
    // Each call says what becomes of it, so nothing that follows has overtaken it.
    let outcome = send();
    match after(peer, outcome, Order { may_retry: true, ..Order::default() }) {
        After::Again => {
            let outcome = send();
            (outcome, after(peer, outcome, Order::default()))
        }
        after => (outcome, after),
    }
}

/// The same where the socket is known to have no room.
fn full(peer: Option<PeerId>) -> (Outcome, After) {
    (Outcome::Full, after(peer, Outcome::Full, Order::default()))
}

/// Has a train wait, or reports that it failed.
fn see_to<'a>(
    train: &Train,
    pieces: impl Iterator<Item = &'a [u8]>,
    (outcome, after): (Outcome, After),
    backlog: &mut Backlog,
    sockets: &mut Sockets,
    reports: &mut Reports,
) {
    if outcome == Outcome::Full {
        sockets.is_now_full(train.via);
    }
    match after {
        After::Wait(lost) if !backlog.defer(train, pieces) => {
            reports.failed(train.peer, train.datagrams, lost);
        }
        After::Fail(fault) => reports.failed(train.peer, train.datagrams, fault),
        After::Done | After::Again | After::Singles | After::Wait(_) => {}
    }
}

/// Sends what waits at sockets that have room again.
pub(crate) fn flush(backlog: &mut Backlog, sockets: &mut Sockets, reports: &mut Reports) {
    let Ok(_) = backlog.flush(|backlog, id| Ok::<_, Infallible>(flush_one(backlog, id, sockets, reports)));
}

/// Sends the train whose turn it is at a socket.
fn flush_one(backlog: &Backlog, id: SocketId, sockets: &mut Sockets, reports: &mut Reports) -> Late {
    let Some(waiting) = backlog.front(id) else { return Late::NoRoom };
    let peer = Some(waiting.peer);
    let (_, after) = match sockets.get(id) {
        Some(socket) if socket.is_full() => full(peer),
        Some(socket) => try_to(peer, || send_waiting(socket, waiting)),
        None => {
            reports.failed(Some(waiting.peer), waiting.datagrams, NOT_OPEN);
            return Late::Gone;
        }
    };
    match after {
        After::Done => Late::Gone,
        After::Singles => {
            reports.refusals.push((Some(waiting.peer), waiting.segment));
            Late::Refused
        }
        After::Wait(_) | After::Again => {
            sockets.is_now_full(id);
            Late::NoRoom
        }
        After::Fail(fault) => {
            reports.failed(Some(waiting.peer), waiting.datagrams, fault);
            Late::Gone
        }
    }
}

fn send_waiting(socket: &Socket, waiting: &Waiting) -> Outcome {
    let pieces = std::iter::once(&waiting.bytes[..]);
    let way = Way { socket, path: &waiting.path, ecn: waiting.ecn };
    send_train(way, waiting.segment, waiting.datagrams, pieces)
}

/// By what something leaves, whence and whither, and how it is marked.
#[derive(Clone, Copy)]
struct Way<'a> {
    socket: &'a Socket,
    path: &'a Path,
    ecn: Ecn,
}

impl Way<'_> {
    /// The address a datagram has to name as its source: that of a path at a listener for every address.
    fn source(&self) -> Option<IpAddr> {
        let ip = self.path.local.ip();
        (self.socket.wildcard && !ip.is_unspecified()).then_some(ip)
    }
}

/// Sends a train, all of it or nothing.
fn send_train<'a>(
    way: Way<'_>,
    segment: u32,
    datagrams: u32,
    mut pieces: impl Iterator<Item = &'a [u8]>,
) -> Outcome {
    if datagrams > 1 {
        return system::send_train(way, segment as u16, pieces);
    }
    send_one(way, pieces.next().unwrap_or_default())
}

fn send_one(way: Way<'_>, bytes: &[u8]) -> Outcome {
    let send = || match (way.source(), way.ecn) {
        (None, Ecn::NotEct) => way.socket.io.send_to(bytes, way.path.remote).map(drop),
        _ => system::send_with_control(way, bytes),
    };
    outcome(uninterrupted(send), way, false)
}

fn outcome(sent: io::Result<()>, way: Way<'_>, as_train: bool) -> Outcome {
    match sent {
        Ok(()) => Outcome::Taken,
        Err(error) => errors::outcome(&error, way.source().is_some(), as_train),
    }
}

/// Sends with control data, and trains by one system call. Without quinn-udp, which wants trains in one piece, gives
/// them up for all peers of a socket when one path refuses them, and adds a control message with the congestion bits
/// to every datagram: that overrides the DSCP the owner of the socket may have set (IP_TOS in ip(7)).
#[cfg(target_os = "linux")]
mod system {
    use std::io::IoSlice;

    pub(crate) use shardgram_sys::TRAIN_LIMITS as LIMITS;
    use shardgram_sys::{Heading, send_message, socket::traffic_class};

    use super::*;

    impl Way<'_> {
        fn heading(&self, segment: Option<u16>) -> Heading {
            let to = self.path.remote;
            // The whole byte is replaced, and the DSCP is to stay.
            let own = || *self.socket.class.get_or_init(|| self.own_class(to.is_ipv6()));
            let traffic_class = (self.ecn != Ecn::NotEct).then(|| self.ecn.on(own()));
            Heading { to, from: self.source(), segment, traffic_class }
        }

        #[cold]
        fn own_class(&self, ipv6: bool) -> u8 {
            traffic_class(&self.socket.io, ipv6).unwrap_or(0)
        }
    }

    pub(super) fn send_with_control(way: Way<'_>, bytes: &[u8]) -> io::Result<()> {
        send_message(&way.socket.io, &way.heading(None), &[IoSlice::new(bytes)])
    }

    pub(super) fn send_train<'a>(
        way: Way<'_>,
        segment: u16,
        pieces: impl Iterator<Item = &'a [u8]>,
    ) -> Outcome {
        let heading = way.heading(Some(segment));
        let mut slices = [IoSlice::new(&[]); LIMITS.datagrams as usize];
        let mut used = 0;
        for (slice, piece) in slices.iter_mut().zip(pieces) {
            *slice = IoSlice::new(piece);
            used += 1;
        }
        let send = || send_message(&way.socket.io, &heading, &slices[..used]);
        outcome(uninterrupted(send), way, true)
    }
}

/// As quinn-udp does it, with the congestion bits in every message that it writes.
#[cfg(not(target_os = "linux"))]
mod system {
    use quinn_udp::{EcnCodepoint, Transmit};
    use shardgram_core::driver::Refusal;
    use shardgram_core::outbox::TrainLimits;

    use super::*;

    pub(crate) const LIMITS: TrainLimits = TrainLimits::SINGLE;

    pub(super) fn send_with_control(way: Way<'_>, bytes: &[u8]) -> io::Result<()> {
        let Some(state) = &way.socket.state else {
            // Nothing can be said beside the payload; a source would be named for a wildcard's path alone, and
            // without control messages those have none.
            return way.socket.io.send_to(bytes, way.path.remote).map(drop);
        };
        let transmit = Transmit {
            destination: way.path.remote,
            ecn: EcnCodepoint::from_bits(way.ecn.bits()),
            contents: bytes,
            segment_size: None,
            src_ip: way.source(),
        };
        // try_io, because mio must see WouldBlock on Windows to watch the socket again.
        way.socket.io.try_io(|| state.try_send((&way.socket.io).into(), &transmit))
    }

    pub(super) fn send_train<'a>(_: Way<'_>, _: u16, _: impl Iterator<Item = &'a [u8]>) -> Outcome {
        // No driver that says it sends datagrams one by one is given a train.
        Outcome::Refused(Refusal { as_train: true, ..Refusal::of(PeerError::TooLong { mtu: None }) })
    }
}

pub(crate) use system::LIMITS;

fn bytes_of<'a>(source: Source, outbox: &'a Outbox, buffers: &'a Buffers) -> &'a [u8] {
    match source {
        Source::Outbox { start, len } => outbox.bytes(start, len),
        Source::Buffer(at) => &buffers.bytes(at.buffer)[at.start as usize..][..at.len as usize],
    }
}

/// Sends, and again where a signal came in between. EINTR, sendto(2): "A signal occurred before any data was transmitted".
/// Bounded by the signals there are.
fn uninterrupted(send: impl Fn() -> io::Result<()>) -> io::Result<()> {
    loop {
        match send() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}
