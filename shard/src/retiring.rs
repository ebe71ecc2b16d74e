//! How sockets go without losing anything: peers' own, and listeners of addresses that the host has lost.
//!
//! A peer's own one that goes is connected to its own address, so that nothing new reaches it, and drained; a datagram
//! that the kernel was just delivering may still come in, so a grace period passes ([`shardgram_sys::grace`]) before it
//! is closed when it is empty. A listener goes the same way, but not for ever: what it holds when its time is over is thrown
//! away and counted, for a new group is bound at its address only when it is closed. What is armed on it is cancelled by its name, and the place is free with the
//! last completion: closing alone would leave the receive in place, with the socket.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use shardgram_core::datagram::SocketId;
use shardgram_core::driver::Sink;
use shardgram_sys::accept;
use shardgram_sys::grace::Grace;

use crate::arrived::Arrived;
use crate::engine::Engine;
use crate::exchange::Exchange;
use crate::marker::Waiter;
use crate::socket::{Arm, Socket, Stage};
use crate::sockets::Sockets;
use crate::user_data::{Kind, UserData};
use crate::wake::Fleet;

/// How often it is looked whether a grace period is over: it takes the kernel some 8 to 25 ms.
const GRACE_LOOKS: Duration = Duration::from_millis(2);
/// How often a socket is looked at that still holds something when its grace period is over.
const EMPTIES: Duration = Duration::from_micros(500);
/// How long a socket that holds datagrams of its peer may stay in service after it was to go, and how often it
/// is looked at meanwhile.
const LEAVES: Duration = Duration::from_millis(250);
const LOOKS: Duration = Duration::from_micros(50);
/// Sockets that are turned away in one turn, and those that are closed, at most: as many as are made for peers. Each takes
/// some microseconds, in which the listeners fill, and a grace period is over for all that wait for it at once.
const PER_TURN: usize = 16;
/// How long a listener whose address the host has lost may hold datagrams, and how many of those that are left then are
/// thrown away at a time: each takes up to a microsecond.
const LISTENER_LEAVES: Duration = Duration::from_millis(500);
const DISCARDS: usize = 1_024;
/// How long a cancellation may take before it is made again: one that meets its target at work misses it.
const CANCELS: Duration = Duration::from_millis(10);

/// Sockets on their way out.
#[derive(Debug)]
pub(crate) struct Retiring {
    /// Who asks for grace periods.
    fleet: Arc<Fleet>,
    /// Places whose sockets go when they hold nothing: when to look, and at the latest when.
    leaving: VecDeque<(Instant, Waiter, Instant)>,
    /// Places whose sockets may still be given something, by when they were turned away.
    settling: VecDeque<(Option<Grace>, Waiter)>,
    /// When to look at the first of them.
    settling_look: Option<Instant>,
    /// Places whose sockets are given nothing any more: from when on to look whether they are empty.
    draining: VecDeque<(Instant, Waiter)>,
    cancelling: VecDeque<(Instant, Waiter)>,
    /// Peers' own that are closed, of which the shard loop was not told yet.
    closed: Vec<SocketId>,
    /// Datagrams that were thrown away, of which it was not told yet.
    discarded: u32,
}

impl Retiring {
    pub(crate) fn new(fleet: Arc<Fleet>) -> Self {
        Self {
            fleet,
            leaving: VecDeque::new(),
            settling: VecDeque::new(),
            settling_look: None,
            draining: VecDeque::new(),
            cancelling: VecDeque::new(),
            closed: Vec::new(),
            discarded: 0,
        }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.leaving.is_empty()
            && self.settling.is_empty()
            && self.draining.is_empty()
            && self.cancelling.is_empty()
    }

    pub(crate) fn has_reports(&self) -> bool {
        !self.closed.is_empty() || self.discarded > 0
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        let first = |queue: &VecDeque<(Instant, Waiter)>| queue.front().map(|(at, _)| *at);
        let leaving = self.leaving.front().map(|(at, ..)| *at);
        let settling = self.settling_look;
        [leaving, settling, first(&self.draining), first(&self.cancelling)].into_iter().flatten().min()
    }

    /// Tells which sockets are closed, and what was lost with them.
    #[inline]
    pub(crate) fn report(&mut self, sink: &mut impl Sink) {
        match std::mem::take(&mut self.discarded) {
            0 => {}
            datagrams => sink.too_late(datagrams),
        }
        for socket in self.closed.drain(..) {
            sink.retired(socket);
        }
    }

    /// Begins to take a peer's own socket out of service.
    pub(crate) fn add(&mut self, waiter: Waiter) {
        let now = Instant::now();
        self.leaving.push_back((now, waiter, now + LEAVES));
    }

    /// Turns those sockets away that hold nothing now. Just after the kernel was entered: the ring has received
    /// what listeners held, so what still slips into such a socket comes out of it before what comes by them.
    #[inline]
    pub(crate) fn turn_away(&mut self, sockets: &mut Sockets, arrived: &mut Arrived) {
        if !self.leaving.is_empty() {
            self.turn_some_away(sockets, arrived);
        }
    }

    fn turn_some_away(&mut self, sockets: &mut Sockets, arrived: &mut Arrived) {
        let now = Instant::now();
        for _ in 0..PER_TURN {
            if self.leaving.front().is_none_or(|(at, ..)| *at > now) {
                break;
            }
            let Some((_, waiter, latest)) = self.leaving.pop_front() else { break };
            self.leave(sockets, arrived, waiter, (now, latest));
        }
    }

    /// Turns a socket away from its peer. What comes next comes by the listener, so what the socket holds is
    /// awaited first: else it would come out later, if there is more of it than the ring receives in a row.
    fn leave(
        &mut self,
        sockets: &mut Sockets,
        arrived: &mut Arrived,
        waiter: Waiter,
        (now, latest): (Instant, Instant),
    ) {
        let Some(socket) = sockets.current(waiter.0, waiter.1) else { return };
        let drained = accept::is_drained(&socket.socket).unwrap_or(true);
        if now < latest && !drained {
            self.leaving.push_back((now + LOOKS, waiter, latest));
            return;
        }
        if drained {
            // What it brought is to be handed over before what comes by the listener, whose turn is as good as its own. That is
            // no more than there are receive buffers. One that never empties holds much more, and others do not wait for it.
            arrived.hurry(waiter.0);
        }
        if !turn_away(socket) {
            refuse(socket);
        }
        self.drain(sockets, waiter.0);
    }

    /// Begins to take the listener of an address out of service that the host has lost, or had lost a moment ago: if it has
    /// it again, what comes next is the wildcard's.
    pub(crate) fn listener_gone(&mut self, sockets: &mut Sockets, slot: u32) {
        let Some(socket) = sockets.get_mut(slot) else { return };
        socket.close_by = Some(Instant::now() + LISTENER_LEAVES);
        turn_away(socket);
        self.drain(sockets, slot);
    }

    /// Closes the socket in a place once it is given nothing any more and is empty.
    fn drain(&mut self, sockets: &Sockets, slot: u32) {
        if sockets.get(slot).is_none() {
            return;
        }
        let now = Instant::now();
        let grace = self.fleet.grace_periods().map(|periods| periods.ask(now));
        self.settling.push_back((grace, (slot, sockets.generation(slot))));
        self.settling_look.get_or_insert(now + GRACE_LOOKS);
    }

    /// Closes a socket that is given nothing any more once it is empty.
    pub(crate) fn close_when_empty(&mut self, waiter: Waiter) {
        self.draining.push_back((Instant::now(), waiter));
    }

    /// Looks at the sockets that are on their way out.
    pub(crate) fn tend(&mut self, sockets: &mut Sockets, exchange: &mut Exchange, now: Instant) {
        self.settle(now);
        for _ in 0..PER_TURN {
            let Some(waiter) = due(&mut self.draining, now) else { break };
            self.close_if_empty(sockets, exchange, waiter, now);
        }
        while let Some(waiter) = due(&mut self.cancelling, now) {
            self.cancel(sockets, &mut exchange.engine, waiter, now);
        }
    }

    /// Has those sockets looked at that were turned away and whose grace period is over.
    fn settle(&mut self, now: Instant) {
        if self.settling_look.is_none_or(|at| at > now) {
            return;
        }
        for _ in 0..PER_TURN {
            let Some(&(grace, waiter)) = self.settling.front() else { break };
            // Where no peer can have a socket of its own, it is the listener of an address that the host has lost.
            let asked = grace.zip(self.fleet.grace_periods());
            if asked.is_some_and(|(grace, periods)| !periods.is_over(grace, now)) {
                self.settling_look = Some(now + GRACE_LOOKS);
                return;
            }
            self.settling.pop_front();
            self.draining.push_back((now, waiter));
        }
        self.settling_look = self.settling.front().map(|_| now);
    }

    fn close_if_empty(
        &mut self,
        sockets: &mut Sockets,
        exchange: &mut Exchange,
        waiter: Waiter,
        now: Instant,
    ) {
        let Some(socket) = sockets.current(waiter.0, waiter.1) else { return };
        let abandoned = socket.own.is_some_and(|own| own.abandoned)
            || socket.close_by.is_some_and(|latest| latest <= now);
        if !abandoned && !accept::is_drained(&socket.socket).unwrap_or(true) {
            if socket.close_by.is_some() {
                // It could not be turned away if the host had lost its address then, and has it again.
                turn_away(socket);
            }
            self.draining.push_back((now + EMPTIES, waiter));
            return;
        }
        let stage = socket.own.map_or(Stage::Open, |own| own.stage);
        match (stage, socket.arm) {
            (Stage::Watched, _) | (Stage::Open, Arm::Armed) => {
                socket.cancelling = true;
                self.cancel(sockets, &mut exchange.engine, waiter, now);
            }
            // Its marker is on its way.
            (Stage::Waiting, _) => self.draining.push_back((now + EMPTIES, waiter)),
            // Nothing is armed on it.
            (Stage::Open, _) => self.close(sockets, exchange, waiter.0),
        }
    }

    /// Cancels what is armed on a socket that is to be closed.
    fn cancel(&mut self, sockets: &mut Sockets, engine: &mut Engine, waiter: Waiter, now: Instant) {
        let (slot, generation) = waiter;
        let Some(socket) = sockets.current(slot, generation).filter(|socket| socket.cancelling) else {
            return;
        };
        let watched = socket.own.is_some_and(|own| own.stage == Stage::Watched);
        let kind = if watched { Kind::Watch } else { Kind::Receive };
        let name = UserData::on_slot(kind, slot, generation);
        self.cancelling.push_back((now + CANCELS, waiter));
        // One for which there is no room is made again, as one that misses.
        let _ = engine.operands.push_cancel(&mut engine.ring, name);
    }

    /// Closes a socket on which nothing is armed any more.
    pub(crate) fn close(&mut self, sockets: &mut Sockets, exchange: &mut Exchange, slot: u32) {
        if !self.discard(sockets, slot) {
            return;
        }
        // Whoever holds a lease keeps others waiting until it is closed.
        if sockets.get(slot).is_some_and(|socket| socket.lease.is_some()) {
            sockets.end_watch(&mut exchange.engine, slot);
        }
        let Some(socket) = sockets.take_out(&mut exchange.engine, slot) else { return };
        exchange.arrived.hurry_no_more(slot);
        if socket.id.as_connected().is_some() {
            self.closed.push(socket.id);
        }
    }

    /// Throws away what the socket in this place still holds, on which nothing is armed any more; whether that is all. Who was
    /// not turned away may keep it full, and is not waited for.
    fn discard(&mut self, sockets: &mut Sockets, slot: u32) -> bool {
        let waiter = (slot, sockets.generation(slot));
        let Some(socket) = sockets.get_mut(slot) else { return true };
        let abandoned = socket.own.is_some_and(|own| own.abandoned);
        if !abandoned && socket.close_by.is_none() {
            return true;
        }
        let discarded = shardgram_sys::discard(&socket.socket, DISCARDS);
        self.discarded += discarded.datagrams;
        if abandoned || discarded.all {
            return true;
        }
        (socket.arm, socket.cancelling) = (Arm::Held, false);
        self.close_when_empty(waiter);
        false
    }
}

/// Turns a socket away from whoever sends to it. Where that fails the host has most often lost its address, and nothing
/// reaches it as long as that does not come back.
fn turn_away(socket: &Socket) -> bool {
    let turned_away = accept::retire(&socket.socket);
    if let Err(error) = &turned_away {
        tracing::debug!(%error, id = ?socket.id, "a socket that is to be closed could not be turned away");
    }
    turned_away.is_ok()
}

/// Nothing new is to come by a socket that could not be turned away. Most often the host has lost its address, and nothing
/// comes anyway. Else its peer could keep it from ever being empty: what comes from now on is dropped, and counted as
/// dropped by the kernel. Where not even that can be had it is closed with what it holds, which is counted.
#[cold]
fn refuse(socket: &mut Socket) {
    let Err(error) = accept::refuse_all(&socket.socket) else { return };
    tracing::warn!(%error, id = ?socket.id, "datagrams of a peer are lost while its socket is closed");
    if let Some(own) = &mut socket.own {
        own.abandoned = true;
    }
}

/// The first of a queue, if it is to be looked at.
fn due(queue: &mut VecDeque<(Instant, Waiter)>, now: Instant) -> Option<Waiter> {
    queue.front().filter(|(at, _)| *at <= now)?;
    queue.pop_front().map(|(_, waiter)| waiter)
}
