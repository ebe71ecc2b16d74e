//! How things leave: trains become submission entries, and what a full socket refuses waits.

use std::io;
use std::os::fd::AsRawFd;

use shardgram_core::backlog::Backlog;
use shardgram_core::datagram::{Path, SocketId};
use shardgram_core::driver::{SendFailure, SendFault};
use shardgram_core::outbox::{Outbox, Source, Train};
use shardgram_core::{Ecn, PeerError, PeerId};
use shardgram_sys::is_about_trains;

use crate::buf_ring::BufRing;
use crate::credit;
use crate::direct;
use crate::driver::UringDriver;
use crate::engine::Engine;
use crate::errno::{network_error, send_fault};
use crate::marking::By;
use crate::op::{Destination, Load, Sender};
use crate::ring::{Ring, SUBMIT_TRIES};
use crate::sockets::Socket;
use crate::user_data::{Kind, UserData};

/// What became of a train that had waited.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Late {
    /// It has left, or failed.
    Gone,
    /// There is no room yet, or there was none waiting.
    NoRoom,
    /// Its datagrams cannot leave as one.
    Refused,
}

/// Trains that had waited and are sent in one turn, at most: each is a kernel entry of its own.
const LATE_PER_TURN: usize = 256;
/// What a train for a socket that is not open comes to: its endpoint could not be opened, or is closed.
const NOT_OPEN: SendFault = SendFault::Peer(PeerError::NotOpened { errno: libc::EBADF });

impl Socket {
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
    fn destination<'a>(&mut self, path: &'a Path, ecn: Ecn, turn: u32) -> Destination<'a> {
        let by = By { ipv6: self.local.is_ipv6(), own_socket: self.own.is_some(), turn };
        let class = self.marking.of_send(&self.socket, by, ecn);
        Destination { target: self.target, path, kind: self.sender(), class }
    }
}

impl UringDriver {
    /// Queues every train of the outbox, submitting whenever the operands are used up.
    pub(crate) fn queue_sends(&mut self, outbox: &Outbox, backlog: &mut Backlog) -> io::Result<()> {
        for (index, train) in outbox.trains().iter().enumerate() {
            if !self.engine.operands.has_room() {
                self.submit_all(outbox)?;
                self.settle(outbox, backlog)?;
            }
            self.queue_send(outbox, backlog, train, index as u32)?;
            self.queued = index + 1;
        }
        Ok(())
    }

    #[inline]
    fn queue_send(
        &mut self,
        outbox: &Outbox,
        backlog: &mut Backlog,
        train: &Train,
        index: u32,
    ) -> io::Result<()> {
        if !train.is_long()
            && backlog.is_empty()
            && let Some(source) = outbox.single_source(train)
            && let Some(slot) = self.sockets.leaving(train.via, &train.path)
            && let Some(socket) = self.sockets.get_mut(slot)
            && socket.credit.take(credit::cost(train.bytes as usize, 1))
        {
            let fd = socket.socket.as_raw_fd();
            let to = socket.destination(&train.path, train.ecn, self.turn);
            let Engine { ring, buffers, operands } = &mut self.engine;
            let bytes = bytes_of(source, outbox, buffers);
            // Nothing may overtake what the ring is yet to send.
            let few = outbox.trains().len() <= direct::SENDS && !operands.any_used();
            if self.direct.is_some() && few && direct::send(fd, &to, bytes) {
                return Ok(());
            }
            // SAFETY: as in `push_train`.
            return unsafe { operands.push_datagram(ring, to, bytes, UserData::send(index, self.turn)) };
        }
        self.queue_with_care(outbox, backlog, train, index)
    }

    /// Queues the send of a train, or has it wait, or fail.
    fn queue_with_care(
        &mut self,
        outbox: &Outbox,
        backlog: &mut Backlog,
        train: &Train,
        index: u32,
    ) -> io::Result<()> {
        let slot =
            self.sockets.leaving(train.via, &train.path).filter(|slot| self.sockets.get(*slot).is_some());
        let Some(slot) = slot else {
            self.failed(train, NOT_OPEN);
            return Ok(());
        };
        let waits = |backlog: &Backlog| train.peer.is_some_and(|peer| backlog.holds(peer));
        let must_wait = waits(backlog) || !self.has_room(outbox, backlog, slot, train)? || waits(backlog);
        if must_wait {
            if !backlog.defer(train, pieces(train, outbox, &self.engine.buffers)) {
                self.failed(train, SendFault::SocketFull);
            }
            return Ok(());
        }
        self.push_train(outbox, slot, train, index)?;
        self.queued = index as usize + 1;
        if train.untried && train.is_long() {
            // If it is refused its datagrams leave one by one, before what follows to the same peer.
            self.submit_all(outbox)?;
            self.settle(outbox, backlog)?;
        }
        Ok(())
    }

    /// Queues the send of a train of this turn by the socket in this place.
    fn push_train(&mut self, outbox: &Outbox, slot: u32, train: &Train, index: u32) -> io::Result<()> {
        let Some(socket) = self.sockets.get_mut(slot) else { return Ok(()) };
        let to = socket.destination(&train.path, train.ecn, self.turn);
        let Engine { ring, buffers, operands } = &mut self.engine;
        let segment = train.is_long().then_some(train.segment as u16);
        let load = Load { pieces: pieces(train, outbox, buffers), segment };
        // SAFETY: the outbox is borrowed, and a kept buffer stays ours and unchanged until `release`; both
        // last beyond the submission, which `turn` makes before it returns.
        unsafe { operands.push_send(ring, to, load, UserData::send(index, self.turn)) }
    }

    /// Whether a socket certainly takes a train. The kernel is asked when what is known is used up, and then is
    /// first given what is queued, of which something may come back into the backlog.
    fn has_room(
        &mut self,
        outbox: &Outbox,
        backlog: &mut Backlog,
        slot: u32,
        train: &Train,
    ) -> io::Result<bool> {
        let cost = credit::cost(train.bytes as usize, train.datagrams);
        let Some(socket) = self.sockets.get_mut(slot) else { return Ok(false) };
        if socket.credit.blocked || socket.credit.take(cost) {
            return Ok(!socket.credit.blocked);
        }
        if self.engine.operands.any_used() {
            self.submit_all(outbox)?;
            self.settle(outbox, backlog)?;
        }
        self.ask_for_room(slot, cost)
    }

    /// Asks the kernel whether a socket takes so much, and has the ring watch for room if not.
    fn ask_for_room(&mut self, slot: u32, cost: u64) -> io::Result<bool> {
        let Some(socket) = self.sockets.get_mut(slot) else { return Ok(false) };
        let room = socket.credit.ask(&socket.socket, cost);
        if !room {
            self.full(slot)?;
        }
        Ok(room)
    }

    /// A socket's send buffer is full: nothing is sent by it until the ring says that there is room.
    fn full(&mut self, slot: u32) -> io::Result<()> {
        let Some(socket) = self.sockets.get_mut(slot) else { return Ok(()) };
        if socket.credit.blocked {
            return Ok(());
        }
        socket.credit.block();
        self.watch_for_room(slot)
    }

    fn failed(&mut self, train: &Train, fault: SendFault) {
        self.failures.push(SendFailure { peer: train.peer, datagrams: train.datagrams, fault });
    }

    /// Submits until the kernel has taken every entry, so that every send is done, and has told of every one that
    /// failed.
    pub(crate) fn submit_all(&mut self, outbox: &Outbox) -> io::Result<()> {
        for _ in 0..SUBMIT_TRIES {
            self.engine.ring.submit()?;
            self.reap(outbox);
            if self.engine.ring.is_submitted() {
                self.engine.operands.submitted();
                return Ok(());
            }
        }
        Err(Ring::out_of_memory())
    }

    /// The kernel refused a send. What may be tried again is noted until the whole submission is known. A
    /// completion that the kernel kept back for want of room may come when its turn is over and nobody knows
    /// any more whose it was.
    pub(crate) fn send_refused(&mut self, outbox: &Outbox, name: UserData, errno: i32) {
        let index = name.index;
        let train = outbox.trains().get(index as usize);
        let Some(train) = train.filter(|_| name == UserData::send(index, self.turn)) else {
            self.failures.push(SendFailure { peer: None, datagrams: 1, fault: send_fault(errno, None) });
            return;
        };
        if errno == libc::EAGAIN {
            overrun(train.via, train.bytes as usize);
        }
        if errno == libc::EAGAIN || train.via.as_connected().is_some() || refuses_trains(train, errno) {
            self.refused.push((index, errno));
            return;
        }
        let slot = self.sockets.leaving(train.via, &train.path);
        let fault = send_fault(errno, slot.and_then(|slot| self.sockets.get(slot)));
        self.failed(train, fault);
    }

    /// Sees to the trains of the last submission that may be tried again: those that met a full socket, and,
    /// once, those that a peer's own socket refused.
    pub(crate) fn settle(&mut self, outbox: &Outbox, backlog: &mut Backlog) -> io::Result<()> {
        let mut again = true;
        while !self.refused.is_empty() {
            let to_try = self.sort_out(outbox, backlog, again)?;
            self.try_again(outbox, &to_try)?;
            again = false;
        }
        Ok(())
    }

    /// Says which of the refused trains are to be sent anew; the others wait, or have failed.
    ///
    /// A peer's own socket tells with a send what the network said of an earlier one, and then this one did not
    /// leave (udp(7)). Order within a peer is kept: a train of which a later one has left is lost, and counted. It
    /// takes a socket that is fuller than [`crate::credit`] reckons, or several datagrams in a turn to a peer of
    /// which the network just said something.
    fn sort_out(&mut self, outbox: &Outbox, backlog: &mut Backlog, again: bool) -> io::Result<Vec<u32>> {
        let mut refused = std::mem::take(&mut self.refused);
        refused.sort_unstable();
        let queued = &outbox.trains()[..self.queued.min(outbox.trains().len())];
        let has_left = |later: usize| refused.binary_search_by_key(&later, |(at, _)| *at as usize).is_err();
        let (mut to_try, mut waits_here) = (Vec::new(), Vec::<PeerId>::new());
        for &(index, errno) in &refused {
            let train = &queued[index as usize];
            let slot = self.sockets.leaving(train.via, &train.path);
            let socket = slot.and_then(|slot| self.sockets.get(slot));
            let told = socket.is_some_and(|socket| network_error(errno, &socket.socket).is_some());
            let fault = send_fault(errno, socket);
            let heard = errno != libc::EAGAIN && slot.is_some_and(|slot| self.hear(slot));
            if errno == libc::EAGAIN
                && let Some(slot) = slot
            {
                self.full(slot)?;
            }
            let waits = |peers: &[PeerId]| train.peer.is_some_and(|peer| peers.contains(&peer));
            let behind = train.peer.is_some_and(|peer| backlog.holds(peer)) && !waits(&waits_here);
            let mut later = (index as usize + 1)..queued.len();
            let overtaken = later.any(|at| queued[at].peer == train.peer && has_left(at));
            if told && again && !overtaken && !waits(&waits_here) {
                to_try.push(index);
            } else if refuses_trains(train, errno) && !behind && !waits(&waits_here) {
                self.train_refusals.push((train.peer, train.segment));
                waits_here.extend(self.send_singly(outbox, backlog, train)?.then_some(train.peer).flatten());
            } else if train.peer.is_none()
                || behind
                || overtaken
                || (errno != libc::EAGAIN && !waits(&waits_here))
            {
                // What the network said of the peer was told by itself.
                let peer = train.peer.filter(|_| !heard);
                self.failures.push(SendFailure { peer, datagrams: train.datagrams, fault });
            } else if backlog.defer(train, pieces(train, outbox, &self.engine.buffers)) {
                waits_here.extend(train.peer);
            } else {
                self.failed(train, SendFault::SocketFull);
            }
        }
        Ok(to_try)
    }

    /// Sends the datagrams of a train that was refused as such one by one; whether some of them have to wait. Trains
    /// that follow to the same peer may have left, so these may come late, once on a path that carries less than it
    /// did.
    fn send_singly(&mut self, outbox: &Outbox, backlog: &mut Backlog, train: &Train) -> io::Result<bool> {
        let bytes: Vec<u8> = pieces(train, outbox, &self.engine.buffers).flatten().copied().collect();
        let Some(slot) = self.sockets.leaving(train.via, &train.path) else {
            self.failed(train, NOT_OPEN);
            return Ok(false);
        };
        let mut full = false;
        for datagram in bytes.chunks(train.segment.max(1) as usize) {
            let one = train.one(datagram.len());
            let errno = if full {
                Some(libc::EAGAIN)
            } else {
                self.send_now(outbox, slot, (&train.path, train.ecn), Load::one(datagram))?
            };
            let Some(errno) = errno else { continue };
            if errno != libc::EAGAIN {
                let fault = send_fault(errno, self.sockets.get(slot));
                self.failed(&one, fault);
                continue;
            }
            self.full(slot)?;
            full = backlog.defer(&one, std::iter::once(datagram));
            if !full {
                self.failed(&one, SendFault::SocketFull);
            }
        }
        Ok(full)
    }

    /// Sends trains anew, in their order.
    fn try_again(&mut self, outbox: &Outbox, trains: &[u32]) -> io::Result<()> {
        for &index in trains {
            let Some(train) = outbox.trains().get(index as usize) else { continue };
            let Some(slot) = self.sockets.leaving(train.via, &train.path) else { continue };
            // As many operands are free as there were sends in the last submission.
            self.push_train(outbox, slot, train, index)?;
        }
        if trains.is_empty() { Ok(()) } else { self.submit_all(outbox) }
    }

    /// Sends what waits at sockets that have room; whether any left.
    pub(crate) fn flush(&mut self, outbox: &Outbox, backlog: &mut Backlog) -> io::Result<bool> {
        let mut left = 0;
        for id in backlog.sockets() {
            while left < LATE_PER_TURN {
                match self.send_waiting(outbox, backlog, id)? {
                    Late::Gone => backlog.advance(id),
                    Late::Refused => backlog.split(id),
                    Late::NoRoom => break,
                }
                left += 1;
            }
        }
        Ok(left > 0)
    }

    /// Sends the train whose turn it is at a socket.
    fn send_waiting(&mut self, outbox: &Outbox, backlog: &Backlog, id: SocketId) -> io::Result<Late> {
        let Some(waiting) = backlog.front(id) else { return Ok(Late::NoRoom) };
        let (peer, datagrams) = (Some(waiting.peer), waiting.datagrams);
        let slot = self.sockets.leaving(id, &waiting.path);
        let socket = slot.and_then(|slot| Some((slot, self.sockets.get_mut(slot)?)));
        let Some((slot, socket)) = socket else {
            self.failures.push(SendFailure { peer, datagrams, fault: NOT_OPEN });
            return Ok(Late::Gone);
        };
        if socket.credit.blocked {
            return Ok(Late::NoRoom);
        }
        let cost = credit::cost(waiting.bytes.len(), waiting.datagrams);
        if !socket.credit.take(cost) && !self.ask_for_room(slot, cost)? {
            return Ok(Late::NoRoom);
        }
        for again in [true, false] {
            let segment = (waiting.datagrams > 1).then_some(waiting.segment as u16);
            let load = Load { pieces: std::iter::once(&waiting.bytes[..]), segment };
            let to = (&waiting.path, waiting.ecn);
            let Some(errno) = self.send_now(outbox, slot, to, load)? else { break };
            if errno == libc::EAGAIN {
                overrun(id, waiting.bytes.len());
                self.full(slot)?;
                return Ok(Late::NoRoom);
            }
            let socket = self.sockets.get(slot);
            let told = socket.is_some_and(|socket| network_error(errno, &socket.socket).is_some());
            let fault = send_fault(errno, socket);
            let heard = self.hear(slot);
            if !(again && told && id.as_connected().is_some()) {
                if segment.is_some() && is_about_trains(errno) {
                    self.train_refusals.push((peer, waiting.segment));
                    return Ok(Late::Refused);
                }
                let peer = peer.filter(|_| !heard);
                self.failures.push(SendFailure { peer, datagrams, fault });
                break;
            }
        }
        Ok(Late::Gone)
    }

    /// Sends something by itself and waits for what becomes of it; how that failed.
    fn send_now<'a>(
        &mut self,
        outbox: &Outbox,
        slot: u32,
        (path, ecn): (&Path, Ecn),
        load: Load<impl Iterator<Item = &'a [u8]>>,
    ) -> io::Result<Option<i32>> {
        if !self.engine.operands.has_room() {
            self.submit_all(outbox)?;
        }
        let Some(socket) = self.sockets.get_mut(slot) else { return Ok(Some(libc::EBADF)) };
        let to = socket.destination(path, ecn, self.turn);
        let Engine { ring, operands, .. } = &mut self.engine;
        self.late = None;
        let name = UserData::on_slot(Kind::Late, slot, self.turn);
        // SAFETY: the caller borrows the bytes beyond the submission, which follows at once.
        unsafe { operands.push_send(ring, to, load, name) }?;
        self.submit_all(outbox)?;
        Ok(self.late.take())
    }

    /// Takes back the receive buffers that this turn's sends referred to.
    pub(crate) fn release(&mut self, outbox: &Outbox) {
        for train in outbox.trains() {
            for source in outbox.sources(train) {
                if let Source::Buffer(slice) = source {
                    self.engine.buffers.release(slice.buffer as u16);
                }
            }
        }
    }
}

/// Notes that [`crate::credit`] reckoned wrong.
#[cold]
fn overrun(via: SocketId, bytes: usize) {
    tracing::debug!(target: "shardgram::overrun", ?via, bytes, "a socket was full that was to have room");
}

/// Whether a send of several datagrams failed by this error because they were to leave as one.
fn refuses_trains(train: &Train, errno: i32) -> bool {
    train.is_long() && is_about_trains(errno)
}

/// Where the bytes of a train lie.
fn pieces<'a>(
    train: &'a Train,
    outbox: &'a Outbox,
    buffers: &'a BufRing,
) -> impl Iterator<Item = &'a [u8]> + use<'a> {
    outbox.sources(train).map(|source| bytes_of(source, outbox, buffers))
}

#[inline]
fn bytes_of<'a>(source: Source, outbox: &'a Outbox, buffers: &'a BufRing) -> &'a [u8] {
    match source {
        Source::Outbox { start, len } => outbox.bytes(start, len),
        Source::Buffer(slice) => buffers.kept(slice),
    }
}
