//! Datagrams and trains on their way from a socket to the shard loop.
//!
//! A batch is received into buffers, becomes a queue of [`Filled`] ones, and is handed over from there
//! under the budget of the turn. A batch is never larger than the budget that is left, so what waits
//! here from one turn to the next is what a stop left behind.

use std::array;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSliceMut};
use std::net::IpAddr;

use quinn_udp::{BATCH_SIZE, RecvMeta};
use shardgram_core::Ecn;
use shardgram_core::datagram::{Meta, SocketId};
use shardgram_core::driver::{Arrival, Sink};
use shardgram_core::gathering::Gathering;
use shardgram_sys::errno;
use shardgram_sys::interfaces::{AddressLister, AnswerAddresses};

use crate::buffers::Buffers;
use crate::receiver::{Batch, Receiver};
use crate::sockets::{Socket, Sockets};

/// ICMP errors that may come in a row before a socket rests. Each stands for one datagram sent, so they
/// end by themselves; the bound is for a system that repeats one for ever.
const FAILURES_IN_A_ROW: u32 = 16;

/// Whether a batch that did not fill its room left the socket empty, so that no receive is needed to learn that.
/// It does with recvmmsg(2), which ends early when nothing is left, or for an error that the
/// kernel keeps and that came after the last wait: epoll tells of it, and of every later arrival, anew. Elsewhere, and
/// without quinn-udp, a batch may be one datagram, or mio has to see the receive that would block.
const SHORT_BATCH_IS_THE_LAST: bool = cfg!(target_os = "linux");

/// A buffer whose datagrams have not all been handed over.
#[derive(Debug)]
struct Filled {
    socket: SocketId,
    buffer: u32,
    from: RecvMeta,
    local: Option<IpAddr>,
    /// Where it was sent to, if that stands for many hosts.
    group: Option<IpAddr>,
}

/// How a visit to a socket ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Visit {
    Received,
    /// Something was received that made no sense.
    Malformed,
    Nothing,
}

/// What was received and not handed over yet, and what receiving needs.
#[derive(Debug)]
pub(crate) struct Inbox {
    filled: VecDeque<Filled>,
    /// Datagrams of sockets that were closed before these could be handed over.
    too_late: u32,
    /// Which addresses stand for many hosts, and from where what was sent to them is answered.
    answering: AnswerAddresses,
    metas: Box<[RecvMeta; BATCH_SIZE]>,
    receiver: Receiver,
    /// What was received and is of no use, until the sink is told: what lacked control data, and what had no source.
    cut: u32,
    malformed: u32,
}

impl Inbox {
    pub(crate) fn new(lister: &AddressLister) -> Self {
        Self {
            filled: VecDeque::with_capacity(BATCH_SIZE),
            too_late: 0,
            answering: AnswerAddresses::of(lister),
            metas: Box::new([RecvMeta::default(); BATCH_SIZE]),
            receiver: Receiver::default(),
            cut: 0,
            malformed: 0,
        }
    }
}

impl Inbox {
    /// Whether anything was received and not handed over.
    pub(crate) fn is_empty(&self) -> bool {
        self.filled.is_empty()
    }

    /// Hands over up to `budget` arrivals: what waits here, then what the ready sockets hold, a batch from
    /// each in turn. Says how many that were.
    pub(crate) fn receive(
        &mut self,
        sockets: &mut Sockets,
        buffers: &mut Buffers,
        gathering: &mut Gathering,
        budget: usize,
        sink: &mut impl Sink,
    ) -> usize {
        match std::mem::take(&mut self.too_late) {
            0 => {}
            count => sink.too_late(count),
        }
        let mut left = budget;
        while left > 0 {
            if !self.hand_over(buffers, gathering, &mut left, sink) || left == 0 {
                break;
            }
            let room = left.min(sockets.share()).min(buffers.available());
            if room == 0 {
                // Every buffer waits for its answer to leave, which the next turn sees to.
                sink.rearmed(true);
                break;
            }
            let Some(socket) = sockets.next_ready() else { break };
            let id = socket.id;
            let result = self.batch(socket, buffers, room);
            if self.cut + self.malformed > 0 {
                left = left.saturating_sub(self.tell_of_useless(sink));
            }
            if self.after(result, id, room, sockets) == Visit::Malformed {
                sink.malformed();
                left = left.saturating_sub(1);
            }
        }
        budget - left
    }

    /// Has what was received and is of no use counted. Says how many receives those were.
    #[cold]
    fn tell_of_useless(&mut self, sink: &mut impl Sink) -> usize {
        let (cut, malformed) = (std::mem::take(&mut self.cut), std::mem::take(&mut self.malformed));
        (0..cut).for_each(|_| sink.control_cut());
        (0..malformed).for_each(|_| sink.malformed());
        (cut + malformed) as usize
    }

    /// Forgets what came by a socket that is closed, and has it counted with the next receive.
    pub(crate) fn forget(&mut self, socket: SocketId, buffers: &mut Buffers) {
        let too_late = &mut self.too_late;
        self.filled.retain(|filled| {
            let other = filled.socket != socket;
            if !other {
                *too_late += filled.datagrams();
                buffers.release(filled.buffer);
            }
            other
        });
    }

    /// Hands over what waits. `false` if the sink has had enough.
    fn hand_over(
        &mut self,
        buffers: &mut Buffers,
        gathering: &mut Gathering,
        budget: &mut usize,
        sink: &mut impl Sink,
    ) -> bool {
        while *budget > 0 {
            let Some(filled) = self.filled.pop_front() else { break };
            *budget -= 1;
            if let Some(group) = filled.group {
                sink.sent_to(group);
            }
            let arrival = filled.arrival(buffers.bytes_mut(filled.buffer));
            if arrival.segment == 0 {
                gathering.came(arrival.remote);
            }
            let fate = sink.datagram(arrival);
            if fate.kept > 0 {
                buffers.keep(filled.buffer);
            } else {
                buffers.release(filled.buffer);
            }
            if fate.stop {
                return false;
            }
        }
        true
    }

    /// Receives up to `room` datagrams or trains from one socket, and says whether it may hold more.
    fn batch(&mut self, socket: &Socket, buffers: &mut Buffers, room: usize) -> io::Result<bool> {
        // Buffers are moved out of the pool while the kernel writes to them, which costs a few words each
        // and spares a split borrow of unknown length.
        let mut numbers = [0; BATCH_SIZE];
        let mut owned: [Vec<u8>; BATCH_SIZE] = array::from_fn(|i| {
            let taken = if i < room { buffers.take() } else { None };
            taken.map_or_else(Vec::new, |(number, bytes)| {
                numbers[i] = number;
                bytes
            })
        });
        let mut slices = owned.each_mut().map(|bytes| IoSliceMut::new(bytes));
        let metas = &mut self.metas[..];
        let result = socket.receive(&mut self.receiver, &mut slices[..room], metas);
        let batch = *result.as_ref().unwrap_or(&Batch::default());
        let received = batch.count.min(room);
        let useless = batch.cut | batch.malformed;

        // Backwards, so that the hottest of the unused ones is on top of the pool again.
        for (i, bytes) in owned.into_iter().enumerate().take(room).rev() {
            buffers.fill(numbers[i], bytes);
            if i >= received || useless >> i & 1 != 0 {
                buffers.release(numbers[i]);
            }
        }
        if useless != 0 {
            // What has no source may lack control data as well, and counts once.
            self.malformed += batch.malformed.count_ones();
            self.cut += (batch.cut & !batch.malformed).count_ones();
        }
        for (i, (&buffer, from)) in numbers.iter().zip(&self.metas[..received]).enumerate() {
            if useless >> i & 1 != 0 {
                continue;
            }
            let (local, group) = match from.dst_ip.filter(|_| socket.told) {
                Some(ip) => whence_and_whither(ip, from, socket, &mut self.answering),
                None => (None, None),
            };
            // Where no option says otherwise quinn-udp tells of marks, asked for or not.
            let mut from = *from;
            from.ecn = from.ecn.filter(|_| socket.tells_ecn);
            self.filled.push_back(Filled { socket: socket.id, buffer, from, local, group });
        }
        match result {
            Ok(Batch { count: 0, .. }) => Err(ErrorKind::WouldBlock.into()),
            Ok(Batch { count, .. }) => {
                Ok(count == room || socket.state.is_none() || !SHORT_BATCH_IS_THE_LAST)
            }
            Err(error) => Err(error),
        }
    }

    /// Decides when a socket is tried again. No error of a receive ends the shard, and none makes it spin.
    fn after(&self, result: io::Result<bool>, id: SocketId, room: usize, sockets: &mut Sockets) -> Visit {
        let error = match result {
            Ok(more) => {
                sockets.succeeded(id);
                if more {
                    sockets.had(id, room);
                }
                return Visit::Received;
            }
            Err(error) => error,
        };
        if error.kind() == ErrorKind::WouldBlock {
            // Drained: the next arrival is a new readiness.
            sockets.succeeded(id);
            return Visit::Nothing;
        }
        let failures = sockets.failed(id);
        if failures <= FAILURES_IN_A_ROW && is_about_a_peer(&error) {
            sockets.put_back(id);
            return Visit::Nothing;
        }
        // ENOMEM, ENETDOWN, EIO and the like. No readiness may follow while datagrams wait (and on Windows
        // none does without WouldBlock), so it is not left to that: the socket is tried again later.
        tracing::debug!(%error, socket = ?id, failures, "a receive failed");
        sockets.rest(id);
        // quinn-udp's own error, without a number: the source address was of no known family.
        if error.raw_os_error().is_none() { Visit::Malformed } else { Visit::Nothing }
    }
}

/// Whether a receive failed because of an earlier send: an ICMP error came back for it, the kernel told
/// it once, and nothing was taken from the socket's queue. Windows does so on every socket
/// (WSAECONNRESET, WSAENETRESET), others on connected ones and with IP_RECVERR set.
fn is_about_a_peer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionRefused
            | ErrorKind::ConnectionReset
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable
    ) || error.raw_os_error() == Some(errno::ENETRESET)
}

/// From where a datagram is answered, and to which group or broadcast address it was sent, if it was. RFC 1122 section
/// 3.2.1.3 on broadcast addresses: "It MUST NOT be used as a source address." RFC 1112 section 4: "A host group address
/// must never be placed in the source address field". The kernel's word on the source (`ipi_spec_dst`, ip(7)) is not
/// passed on by quinn-udp.
#[inline]
fn whence_and_whither(
    ip: IpAddr,
    from: &RecvMeta,
    socket: &Socket,
    answering: &mut AnswerAddresses,
) -> (Option<IpAddr>, Option<IpAddr>) {
    if !answering.is_for_many(ip) {
        return (socket.wildcard.then_some(ip), None);
    }
    let interface = from.interface_index.unwrap_or(0);
    let local = if socket.wildcard { answering.answering(interface, from.addr.ip()) } else { None };
    (local, Some(ip).filter(|ip| !ip.is_unspecified()))
}

impl Filled {
    /// How many datagrams it is.
    fn datagrams(&self) -> u32 {
        if self.from.stride == 0 { 1 } else { self.from.len.div_ceil(self.from.stride).max(1) as u32 }
    }

    /// All of it, to be handed over.
    fn arrival<'a>(&self, buffer: &'a mut [u8]) -> Arrival<'a> {
        let Self { socket, buffer: number, from, local, group } = *self;
        let mut meta = Meta::default();
        meta.ecn = from.ecn.map_or(Ecn::NotEct, |codepoint| Ecn::from_bits(codepoint as u8));
        meta.kernel_time = from.timestamp;
        meta.interface = from.interface_index.unwrap_or(0);
        meta.to_many = group.is_some();
        let segment = if from.len > from.stride { from.stride } else { 0 };
        let bytes = &mut buffer[..from.len];
        Arrival { socket, remote: from.addr, local, meta, segment, bytes, buffer: number, start: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inbox() -> Inbox {
        Inbox::new(&AddressLister::start().expect("a thread"))
    }

    #[test]
    fn trains_say_how_long_their_datagrams_are() {
        let segment = |len, stride| {
            let mut from = RecvMeta::default();
            (from.len, from.stride) = (len, stride);
            let filled = Filled { socket: SocketId::listener(0), buffer: 7, from, local: None, group: None };
            let mut buffer = vec![0; 1 << 16];
            let arrival = filled.arrival(&mut buffer);
            assert_eq!((arrival.bytes.len(), arrival.buffer, arrival.start), (len, 7, 0));
            (arrival.segment, filled.datagrams())
        };
        assert_eq!(segment(0, 0), (0, 1));
        assert_eq!(segment(100, 100), (0, 1));
        assert_eq!(segment(250, 100), (100, 3));
    }

    fn one_listener(poll: &mio::Poll) -> (Sockets, std::net::SocketAddr) {
        let listener = std::net::UdpSocket::bind("127.0.0.1:0").expect("bind");
        let at = listener.local_addr().expect("its address");
        let listener =
            crate::Listener::new(listener, &shardgram_sys::SocketOptions::default()).expect("taken over");
        (Sockets::new(poll.registry(), vec![listener]).expect("sockets"), at)
    }

    #[test]
    fn without_quinn_udp_a_single_datagram_is_not_taken_for_the_last() {
        let poll = mio::Poll::new().expect("poll");
        let (mut sockets, at) = one_listener(&poll);
        let peer = std::net::UdpSocket::bind("127.0.0.1:0").expect("bind");
        (0..2).for_each(|_| assert_eq!(peer.send_to(b"x", at).expect("sent"), 1));
        sockets.put_back(SocketId::listener(0));
        let socket = sockets.next_ready().expect("ready");
        socket.state = None;
        let (mut inbox, mut buffers, room) = (inbox(), Buffers::default(), BATCH_SIZE.min(3));
        for _ in 0..2 {
            assert!(inbox.batch(socket, &mut buffers, room).expect("one of two"), "there may be more");
        }
        assert_eq!(
            inbox.batch(socket, &mut buffers, room).expect_err("drained").kind(),
            ErrorKind::WouldBlock
        );
    }

    #[test]
    fn a_failed_receive_is_tried_again_but_not_for_ever() {
        let poll = mio::Poll::new().expect("poll");
        let (mut sockets, _) = one_listener(&poll);
        let (inbox, id) = (inbox(), SocketId::listener(0));
        sockets.put_back(id);
        let mut fail = |error: io::Error| {
            sockets.end_rest();
            assert_eq!(sockets.next_ready().map(|socket| socket.id), Some(id));
            let visit = inbox.after(Err(error), id, 1, &mut sockets);
            (visit, sockets.any_ready(), sockets.any_resting())
        };
        for _ in 0..FAILURES_IN_A_ROW {
            assert_eq!(fail(ErrorKind::ConnectionReset.into()), (Visit::Nothing, true, false));
        }
        let number = io::Error::from_raw_os_error(errno::EADDRNOTAVAIL);
        assert_eq!(fail(number), (Visit::Nothing, false, true), "an error of the system");
        let (_, ready, resting) = fail(ErrorKind::ConnectionReset.into());
        assert_eq!((ready, resting), (false, true), "too many in a row");
        assert_eq!(fail(io::Error::other("no family")), (Visit::Malformed, false, true));
        assert_eq!(fail(ErrorKind::WouldBlock.into()), (Visit::Nothing, false, false), "drained");
        sockets.put_back(id);
        assert_eq!(sockets.failed(id), 1, "counted anew");
    }
}
