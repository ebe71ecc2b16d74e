//! How things leave: trains become submission entries, and what a full socket refuses waits.

use std::io;
use std::os::fd::AsRawFd;

use shardgram_core::backlog::{Backlog, Late, Waiting};
use shardgram_core::datagram::{Path, SocketId};
use shardgram_core::driver::{After, Order, Outcome, SendFailure, SendFault, after};
use shardgram_core::outbox::{Outbox, Source, Train};
use shardgram_core::{Ecn, PeerError};

use crate::buf_ring::BufRing;
use crate::credit;
use crate::direct;
use crate::engine::Engine;
use crate::errno::{NOT_TAKEN, outcome};
use crate::exchange::Exchange;
use crate::op::Load;
use crate::reports::Reports;
use crate::ring::NoRoom;
use crate::sockets::Sockets;
use crate::user_data::{Kind, UserData};

mod refused;

/// What a train for a socket that is not open comes to: its endpoint could not be opened, or is closed.
const NOT_OPEN: SendFault = SendFault::Peer(PeerError::NotOpened { errno: libc::EBADF });

/// What is sent in a turn, and by what.
#[derive(Debug)]
pub(crate) struct Means<'a> {
    pub(crate) outbox: &'a Outbox,
    pub(crate) exchange: &'a mut Exchange,
    pub(crate) sockets: &'a mut Sockets,
}

/// The sends of a turn, and what became of those that did not leave.
#[derive(Debug)]
pub(crate) struct Sends {
    /// Whether one or two in a turn leave by system calls, without the ring.
    directly: bool,
    /// Names this turn's sends.
    turn: u32,
    /// How many of this turn's trains were queued.
    queued: usize,
    /// Trains of this submission that were refused and may be tried again, with the error.
    refused: Vec<(u32, i32)>,
    pub(crate) reports: Reports,
}

impl Sends {
    pub(crate) fn new(directly: bool) -> Self {
        Self { directly, turn: 0, queued: 0, refused: Vec::new(), reports: Reports::default() }
    }

    pub(crate) fn begin_turn(&mut self) {
        self.turn = self.turn.wrapping_add(1);
        self.queued = 0;
    }

    /// Whether trains were refused that are to be seen to.
    pub(crate) fn any_refused(&self) -> bool {
        !self.refused.is_empty()
    }

    /// Queues every train of the outbox, submitting whenever the operands are used up.
    pub(crate) fn queue(&mut self, means: &mut Means<'_>, backlog: &mut Backlog) -> io::Result<()> {
        let outbox = means.outbox;
        for (index, train) in outbox.trains().iter().enumerate() {
            if !means.exchange.engine.operands.has_room() {
                self.carry_out(means, backlog)?;
            }
            let engine = &mut means.exchange.engine;
            let queued = match !train.is_long() && backlog.is_empty() {
                true => self.queue_plain(outbox, engine, means.sockets, train, index as u32),
                false => None,
            };
            match queued {
                Some(Ok(())) => {}
                Some(Err(NoRoom)) => self.not_queued(means, backlog, index as u32)?,
                None => self.queue_with_care(means, backlog, train, index as u32)?,
            }
            self.queued = index + 1;
        }
        Ok(())
    }

    /// Queues the send of one datagram by a socket that is known to have room; `None` if that is not so.
    #[inline]
    fn queue_plain(
        &mut self,
        outbox: &Outbox,
        engine: &mut Engine,
        sockets: &mut Sockets,
        train: &Train,
        index: u32,
    ) -> Option<Result<(), NoRoom>> {
        let source = outbox.single_source(train)?;
        let slot = sockets.leaving(train.via, &train.path)?;
        let socket = sockets.get_mut(slot)?;
        if !socket.credit.take(credit::cost(train.bytes as usize, 1)) {
            return None;
        }
        let fd = socket.socket.as_raw_fd();
        let to = socket.destination(&train.path, train.ecn, self.turn);
        let Engine { ring, buffers, operands } = engine;
        let bytes = bytes_of(source, outbox, buffers);
        // Nothing may overtake what the ring is yet to send.
        let few = outbox.trains().len() <= direct::SENDS && !operands.any_used();
        if self.directly && few && direct::send(fd, &to, bytes) {
            return Some(Ok(()));
        }
        // SAFETY: as in `push_train`.
        Some(unsafe { operands.push_datagram(ring, to, bytes, UserData::send(index, self.turn)) })
    }

    /// Queues the send of a train, or has it wait, or fail.
    fn queue_with_care(
        &mut self,
        means: &mut Means<'_>,
        backlog: &mut Backlog,
        train: &Train,
        index: u32,
    ) -> io::Result<()> {
        let slot = means.sockets.leaving(train.via, &train.path);
        let Some(slot) = slot.filter(|slot| means.sockets.get(*slot).is_some()) else {
            self.reports.failed(train, NOT_OPEN);
            return Ok(());
        };
        let waits = |backlog: &Backlog| train.peer.is_some_and(|peer| backlog.holds(peer));
        let must_wait = waits(backlog) || !self.has_room(means, backlog, slot, train)? || waits(backlog);
        if must_wait {
            if !backlog.defer(train, pieces(train, means.outbox, &means.exchange.engine.buffers)) {
                self.reports.failed(train, SendFault::SocketFull);
            }
            return Ok(());
        }
        if let Err(NoRoom) = self.push_train(means, slot, train, index) {
            return self.not_queued(means, backlog, index);
        }
        self.queued = index as usize + 1;
        if train.untried && train.is_long() {
            // If it is refused its datagrams leave one by one, before what follows to the same peer.
            self.carry_out(means, backlog)?;
        }
        Ok(())
    }

    /// There is no room for a send, since the kernel takes nothing: it waits, or has failed, with those that are queued.
    #[cold]
    fn not_queued(&mut self, means: &mut Means<'_>, backlog: &mut Backlog, index: u32) -> io::Result<()> {
        self.submit(means)?;
        self.refused.push((index, NOT_TAKEN));
        self.queued = index as usize + 1;
        self.settle(means, backlog)
    }

    /// Queues the send of a train of this turn by the socket in this place.
    fn push_train(
        &mut self,
        means: &mut Means<'_>,
        slot: u32,
        train: &Train,
        index: u32,
    ) -> Result<(), NoRoom> {
        let Some(socket) = means.sockets.get_mut(slot) else { return Ok(()) };
        let to = socket.destination(&train.path, train.ecn, self.turn);
        let Engine { ring, buffers, operands } = &mut means.exchange.engine;
        let segment = train.is_long().then_some(train.segment as u16);
        let load = Load { pieces: pieces(train, means.outbox, buffers), segment };
        // SAFETY: the outbox is borrowed, and a kept buffer stays ours and unchanged until `release`; both
        // last beyond `Exchange::submit_all`, which `UringDriver::turn` calls before it returns, and after which no send is
        // queued.
        unsafe { operands.push_send(ring, to, load, UserData::send(index, self.turn)) }
    }

    /// Whether a socket certainly takes a train. The kernel is asked when what is known is used up, and then is
    /// first given what is queued, of which something may come back into the backlog.
    fn has_room(
        &mut self,
        means: &mut Means<'_>,
        backlog: &mut Backlog,
        slot: u32,
        train: &Train,
    ) -> io::Result<bool> {
        let cost = credit::cost(train.bytes as usize, train.datagrams);
        let Some(socket) = means.sockets.get_mut(slot) else { return Ok(false) };
        if socket.credit.blocked || socket.credit.take(cost) {
            return Ok(!socket.credit.blocked);
        }
        if means.exchange.engine.operands.any_used() {
            self.carry_out(means, backlog)?;
        }
        Ok(means.sockets.ask_for_room(&mut means.exchange.engine, slot, cost))
    }

    /// Submits what is queued, until no send is left, and sees to those that were refused.
    pub(crate) fn carry_out(&mut self, means: &mut Means<'_>, backlog: &mut Backlog) -> io::Result<()> {
        self.submit(means)?;
        self.settle(means, backlog)
    }

    /// Submits what is queued, until no send is left, and notes which ones failed.
    fn submit(&mut self, means: &mut Means<'_>) -> io::Result<()> {
        let submitted = means.exchange.submit_all(means.sockets);
        self.note_failed(means);
        submitted
    }

    /// Notes what the kernel said of sends when it was entered.
    #[inline]
    pub(crate) fn note_failed(&mut self, means: &mut Means<'_>) {
        let outcomes = &means.exchange.outcomes;
        if !outcomes.failed.is_empty() || !outcomes.erring.is_empty() {
            self.note_each(means);
        }
    }

    #[cold]
    fn note_each(&mut self, means: &mut Means<'_>) {
        let Means { outbox, exchange, sockets } = means;
        for (name, errno) in exchange.outcomes.failed.drain(..) {
            self.note(outbox, sockets, name, errno);
        }
        for slot in exchange.outcomes.erring.drain(..) {
            self.reports.hear(sockets, slot);
        }
    }

    /// The kernel refused a send, or did not take it. What may be tried again is noted until the whole submission is known. A
    /// completion that the kernel kept back for want of room may come when its turn is over and nobody knows
    /// any more whose it was.
    fn note(&mut self, outbox: &Outbox, sockets: &Sockets, name: UserData, errno: i32) {
        let index = name.index;
        let train = outbox.trains().get(index as usize);
        let Some(train) = train.filter(|_| name == UserData::send(index, self.turn)) else {
            if let Some(fault) = outcome(errno, None, false).fault() {
                self.reports.add(SendFailure { peer: None, datagrams: 1, fault });
            }
            return;
        };
        if errno == libc::EAGAIN {
            overrun(train.via, train.bytes as usize);
        }
        let slot = sockets.leaving(train.via, &train.path);
        let outcome = outcome(errno, slot.and_then(|slot| sockets.get(slot)), train.is_long());
        let depends_on_others = match outcome {
            Outcome::Refused(refusal) => train.via.as_connected().is_some() || refusal.as_train,
            _ => true,
        };
        if depends_on_others {
            self.refused.push((index, errno));
        } else if let After::Fail(fault) = after(train.peer, outcome, Order::default()) {
            self.reports.failed(train, fault);
        }
    }

    /// Sends what waits at sockets that have room; whether any left.
    pub(crate) fn flush(&mut self, means: &mut Means<'_>, backlog: &mut Backlog) -> io::Result<bool> {
        backlog.flush(|backlog, id| self.send_waiting(means, backlog, id))
    }

    /// Sends the train whose turn it is at a socket.
    fn send_waiting(&mut self, means: &mut Means<'_>, backlog: &Backlog, id: SocketId) -> io::Result<Late> {
        let Some(waiting) = backlog.front(id) else { return Ok(Late::NoRoom) };
        let slot = means.sockets.leaving(id, &waiting.path);
        let socket = slot.and_then(|slot| Some((slot, means.sockets.get_mut(slot)?)));
        let Some((slot, socket)) = socket else {
            let (peer, datagrams) = (Some(waiting.peer), waiting.datagrams);
            self.reports.add(SendFailure { peer, datagrams, fault: NOT_OPEN });
            return Ok(Late::Gone);
        };
        if socket.credit.blocked {
            return Ok(Late::NoRoom);
        }
        let cost = credit::cost(waiting.bytes.len(), waiting.datagrams);
        if !socket.credit.take(cost) && !means.sockets.ask_for_room(&mut means.exchange.engine, slot, cost) {
            return Ok(Late::NoRoom);
        }
        for again in [true, false] {
            let segment = (waiting.datagrams > 1).then_some(waiting.segment as u16);
            let load = Load { pieces: std::iter::once(&waiting.bytes[..]), segment };
            let to = (&waiting.path, waiting.ecn);
            let Some(errno) = self.send_now(means, slot, to, load)? else { break };
            let again = again && id.as_connected().is_some();
            if let Some(late) = self.late_failed(means, waiting, (id, slot), errno, again) {
                return Ok(late);
            }
        }
        Ok(Late::Gone)
    }

    /// Says what becomes of something that had waited and was refused; `None` for that it is to be tried `again`.
    fn late_failed(
        &mut self,
        means: &mut Means<'_>,
        waiting: &Waiting,
        (id, slot): (SocketId, u32),
        errno: i32,
        again: bool,
    ) -> Option<Late> {
        let outcome = outcome(errno, means.sockets.get(slot), waiting.datagrams > 1);
        let heard = matches!(outcome, Outcome::Refused(_)) && self.reports.hear(means.sockets, slot);
        let (peer, datagrams) = (Some(waiting.peer), waiting.datagrams);
        match after(peer, outcome, Order { may_retry: again, ..Order::default() }) {
            After::Again => return None,
            After::Wait(_) if outcome == Outcome::NotNow => {
                // Nothing tells when it does again.
                means.exchange.wakeups.skip_wait();
                return Some(Late::NotNow);
            }
            After::Wait(_) => {
                overrun(id, waiting.bytes.len());
                means.sockets.is_now_full(&mut means.exchange.engine, slot);
                return Some(Late::NoRoom);
            }
            After::Singles => {
                self.reports.refused(peer, waiting.segment);
                return Some(Late::Refused);
            }
            After::Fail(fault) => {
                self.reports.add(SendFailure { peer: peer.filter(|_| !heard), datagrams, fault });
            }
            After::Done => {}
        }
        Some(Late::Gone)
    }

    /// Sends something by itself and waits for what becomes of it; how that failed, [`NOT_TAKEN`] being one way.
    fn send_now<'a>(
        &mut self,
        means: &mut Means<'_>,
        slot: u32,
        (path, ecn): (&Path, Ecn),
        load: Load<impl Iterator<Item = &'a [u8]>>,
    ) -> io::Result<Option<i32>> {
        if !means.exchange.engine.operands.has_room() {
            self.submit(means)?;
        }
        let Some(socket) = means.sockets.get_mut(slot) else { return Ok(Some(libc::EBADF)) };
        let to = socket.destination(path, ecn, self.turn);
        means.exchange.outcomes.late = None;
        let Engine { ring, operands, .. } = &mut means.exchange.engine;
        let name = UserData::on_slot(Kind::Late, slot, self.turn);
        // SAFETY: the caller borrows the bytes beyond `Exchange::submit_all`, which follows at once.
        let queued = unsafe { operands.push_send(ring, to, load, name) };
        self.submit(means)?;
        Ok(means.exchange.outcomes.late.take().or(queued.is_err().then_some(NOT_TAKEN)))
    }
}

/// Takes back the receive buffers that a turn's sends referred to, when none is queued any more.
pub(crate) fn release(outbox: &Outbox, buffers: &mut BufRing) {
    for train in outbox.trains() {
        for source in outbox.sources(train) {
            if let Source::Buffer(slice) = source {
                buffers.release(slice.buffer as u16);
            }
        }
    }
}

/// Notes that [`crate::credit`] reckoned wrong.
#[cold]
fn overrun(via: SocketId, bytes: usize) {
    tracing::debug!(target: "shardgram::overrun", ?via, bytes, "a socket was full that was to have room");
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
