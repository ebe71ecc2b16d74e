//! Sockets of peers' own: how they come, and how they go without losing anything.
//!
//! A new one is watched. When something comes by it, a marker is sent to the peer's listener, and once that
//! has come out, nothing older of the peer is left there: the socket is armed. What comes meanwhile waits in
//! the socket's own queue, in the kernel.
//!
//! One that goes is connected to its own address, so that nothing new reaches it, and drained; a datagram
//! that the kernel was just delivering may still come in, so a grace period passes ([`shardgram_sys::grace`]) before it
//! is closed when it is empty. What is armed on it is cancelled by its name, and the place is free with the
//! last completion: closing alone would leave the receive in place, with the socket.

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

use shardgram_core::PeerError;
use shardgram_core::datagram::{Path, SocketId};
use shardgram_core::driver::{ConnectFault, Sink};
use shardgram_sys::accept;
use shardgram_sys::grace::Grace;

use crate::driver::UringDriver;
use crate::errno::hear;
use crate::marker::Waiter;
use crate::sockets::{Arm, Own, Socket, Stage};
use crate::user_data::{Kind, UserData};

/// How often it is looked whether a grace period is over: it takes the kernel some 8 to 25 ms.
const GRACE_LOOKS: Duration = Duration::from_millis(2);
/// How often a socket is looked at that still holds something when its grace period is over.
const EMPTIES: Duration = Duration::from_micros(500);
/// How long a socket that holds datagrams of its peer may stay in service after it was to go, and how often it
/// is looked at meanwhile.
const LEAVES: Duration = Duration::from_millis(250);
const LOOKS: Duration = Duration::from_micros(50);
/// Sockets that are turned away in one turn, and those that are closed, at most: each takes some microseconds.
const PER_TURN: usize = 64;
/// How long a cancellation may take before it is made again: one that meets its target at work misses it.
const CANCELS: Duration = Duration::from_millis(10);

/// Sockets on their way out, and what the shard loop is to be told.
#[derive(Debug, Default)]
pub(crate) struct Retiring {
    /// Places whose sockets go when they hold nothing: when to look, and at the latest when.
    leaving: VecDeque<(Instant, Waiter, Instant)>,
    /// Places whose sockets may still be given something, by when they were turned away.
    settling: VecDeque<(Option<Grace>, Waiter)>,
    /// When to look at the first of them.
    settling_look: Option<Instant>,
    /// Places whose sockets are given nothing any more: from when on to look whether they are empty.
    draining: VecDeque<(Instant, Waiter)>,
    cancelling: VecDeque<(Instant, Waiter)>,
    closed: Vec<SocketId>,
    told: Vec<(SocketId, PeerError)>,
    timed_out: usize,
}

impl Retiring {
    pub(crate) fn is_empty(&self) -> bool {
        self.leaving.is_empty()
            && self.settling.is_empty()
            && self.draining.is_empty()
            && self.cancelling.is_empty()
    }

    pub(crate) fn has_closed(&self) -> bool {
        !self.closed.is_empty() || !self.told.is_empty() || self.timed_out > 0
    }

    pub(crate) fn any_leaving(&self) -> bool {
        !self.leaving.is_empty()
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        let first = |queue: &VecDeque<(Instant, Waiter)>| queue.front().map(|(at, _)| *at);
        let leaving = self.leaving.front().map(|(at, ..)| *at);
        let settling = self.settling_look;
        [leaving, settling, first(&self.draining), first(&self.cancelling)].into_iter().flatten().min()
    }

    /// Tells the shard loop what it has to know.
    pub(crate) fn report(&mut self, sink: &mut impl Sink) {
        for (socket, error) in self.told.drain(..) {
            sink.peer_error(socket, error);
        }
        for _ in 0..std::mem::take(&mut self.timed_out) {
            sink.handover_timed_out();
        }
        for socket in self.closed.drain(..) {
            sink.retired(socket);
        }
    }

    fn due(queue: &mut VecDeque<(Instant, Waiter)>, now: Instant) -> Option<Waiter> {
        queue.front().filter(|(at, _)| *at <= now)?;
        queue.pop_front().map(|(_, waiter)| waiter)
    }
}

impl UringDriver {
    /// Makes a peer's own socket and watches it.
    pub(crate) fn connect_peer(&mut self, id: SocketId, path: &Path) -> Result<(), ConnectFault> {
        let (mode, _) = self.accept.ok_or(ConnectFault::Unsupported)?;
        let slot = self.sockets.slot_of(id).ok_or(ConnectFault::Unsupported)?;
        let listener = self.sockets.leaving(path.socket, path).ok_or(ConnectFault::Unsupported)?;
        let local = match self.sockets.get(listener) {
            Some(socket) if !socket.wildcard => socket.local,
            _ => return Err(ConnectFault::Unsupported),
        };
        let made = accept::connected(mode, local, path.remote, &self.options).map_err(|error| {
            let fault = fault(error.errno());
            if let ConnectFault::Exhausted { .. } = fault {
                tracing::warn!(%error, "peers stay with the listener for now; or lower max_connected");
            }
            fault
        })?;
        let mut socket = Socket::new(made, id, local);
        socket.arm = Arm::Held;
        socket.own = Some(Own { stage: Stage::Watched, listener });
        let system = |error: io::Error| fault(error.raw_os_error().unwrap_or(libc::EIO));
        self.install(slot, socket).map_err(system)?;
        self.watch(slot).map_err(|error| {
            self.take_out(slot);
            system(error)
        })
    }

    /// Has the ring say when something comes by a socket.
    fn watch(&mut self, slot: u32) -> io::Result<()> {
        let name = UserData::on_slot(Kind::Watch, slot, self.sockets.generation(slot));
        let Some(socket) = self.sockets.get(slot) else { return Ok(()) };
        self.engine.operands.push_poll(&mut self.engine.ring, socket.target, libc::POLLIN, name)
    }

    /// Something came by a socket that was watched, or the watch was cancelled.
    pub(crate) fn watch_ended(&mut self, name: UserData, result: i32) {
        let (slot, generation) = (name.index, name.generation);
        let Some(socket) = self.sockets.current(slot, generation) else { return };
        let Some(own) = socket.own.as_mut().filter(|own| own.stage == Stage::Watched) else { return };
        if socket.cancelling && result < 0 {
            return self.close_retired(slot);
        }
        own.stage = Stage::Waiting;
        let (listener, address) = (own.listener, socket.local);
        if std::mem::take(&mut socket.cancelling) {
            self.retiring.draining.push_back((Instant::now(), (slot, generation)));
        }
        let there = self.sockets.get(listener).is_some_and(|listener| listener.local == address);
        if !there {
            return self.let_in(&[(slot, generation)]);
        }
        if let Err(error) = self.markers.wait((slot, generation), listener, address) {
            tracing::warn!(%error, %address, "no socket for markers: a peer may be handed over out of order");
            self.retiring.timed_out += 1;
            self.let_in(&[(slot, generation)]);
        }
    }

    /// Has the shard loop told what the network said of the peer of a socket; whether it said anything.
    pub(crate) fn hear(&mut self, slot: u32) -> bool {
        let Some(socket) = self.sockets.get(slot).filter(|socket| socket.own.is_some()) else { return false };
        let heard = hear(&socket.socket);
        let any = !heard.is_empty();
        self.retiring.told.extend(heard.into_iter().map(|error| (socket.id, error)));
        any
    }

    /// Nothing older of these peers is left elsewhere: their sockets are armed.
    pub(crate) fn let_in(&mut self, waiters: &[Waiter]) {
        for &(slot, generation) in waiters {
            let Some(socket) = self.sockets.current(slot, generation) else { continue };
            if let Some(own) = &mut socket.own {
                own.stage = Stage::Open;
            }
            socket.arm = Arm::Needed;
            self.to_arm.push_back(slot);
        }
    }

    /// Begins to take a peer's own socket out of service.
    pub(crate) fn retire_peer(&mut self, id: SocketId) {
        let Some(slot) = self.sockets.slot_of(id) else { return };
        let now = Instant::now();
        self.retiring.leaving.push_back((now, (slot, self.sockets.generation(slot)), now + LEAVES));
    }

    /// Turns those sockets away that hold nothing now. Just after the kernel was entered: the ring has received
    /// what listeners held, so what still slips into such a socket comes out of it before what comes by them.
    pub(crate) fn turn_away(&mut self) {
        let now = Instant::now();
        for _ in 0..PER_TURN {
            if self.retiring.leaving.front().is_none_or(|(at, ..)| *at > now) {
                break;
            }
            let Some((_, waiter, latest)) = self.retiring.leaving.pop_front() else { break };
            self.leave(waiter, now, latest);
        }
    }

    /// Turns a socket away from its peer. What comes next comes by the listener, so what the socket holds is
    /// awaited first: else it would come out later, if there is more of it than the ring receives in a row.
    fn leave(&mut self, waiter: Waiter, now: Instant, latest: Instant) {
        let Some(socket) = self.sockets.current(waiter.0, waiter.1) else { return };
        if now < latest && !accept::is_drained(&socket.socket).unwrap_or(true) {
            self.retiring.leaving.push_back((now + LOOKS, waiter, latest));
            return;
        }
        if let Err(error) = accept::retire(&socket.socket) {
            // The host has lost the address, so nothing reaches it anyway.
            tracing::debug!(%error, id = ?socket.id, "a socket could not be turned away from its peer");
        }
        self.drain(waiter.0);
    }

    /// Closes the socket in a place once it is given nothing any more and is empty.
    pub(crate) fn drain(&mut self, slot: u32) {
        if self.sockets.get(slot).is_none() {
            return;
        }
        let now = Instant::now();
        let grace = self.fleet.grace_periods().map(|periods| periods.ask(now));
        self.retiring.settling.push_back((grace, (slot, self.sockets.generation(slot))));
        self.retiring.settling_look.get_or_insert(now + GRACE_LOOKS);
    }

    /// Looks at the sockets that were turned away and whose grace period is over.
    fn settle_turned_away(&mut self, now: Instant) -> io::Result<()> {
        if self.retiring.settling_look.is_none_or(|at| at > now) {
            return Ok(());
        }
        for _ in 0..PER_TURN {
            let Some(&(grace, waiter)) = self.retiring.settling.front() else { break };
            // Where no peer can have a socket of its own, it is the listener of an address that the host has lost.
            let asked = grace.zip(self.fleet.grace_periods());
            if asked.is_some_and(|(grace, periods)| !periods.is_over(grace, now)) {
                self.retiring.settling_look = Some(now + GRACE_LOOKS);
                return Ok(());
            }
            self.retiring.settling.pop_front();
            self.close_if_empty(waiter, now)?;
        }
        self.retiring.settling_look = self.retiring.settling.front().map(|_| now);
        Ok(())
    }

    /// Sends the markers that are due, and looks at the sockets that are on their way out.
    pub(crate) fn tend_own_sockets(&mut self) -> io::Result<()> {
        if !self.markers.any() && self.retiring.is_empty() {
            return Ok(());
        }
        let now = Instant::now();
        let outcome = self.markers.send(now);
        if outcome.timed_out {
            self.retiring.timed_out += outcome.let_in.len();
        }
        self.let_in(&outcome.let_in);
        self.settle_turned_away(now)?;
        for _ in 0..PER_TURN {
            let Some(waiter) = Retiring::due(&mut self.retiring.draining, now) else { break };
            self.close_if_empty(waiter, now)?;
        }
        while let Some(waiter) = Retiring::due(&mut self.retiring.cancelling, now) {
            self.cancel(waiter, now)?;
        }
        Ok(())
    }

    fn close_if_empty(&mut self, waiter: Waiter, now: Instant) -> io::Result<()> {
        let Some(socket) = self.sockets.current(waiter.0, waiter.1) else { return Ok(()) };
        if !accept::is_drained(&socket.socket).unwrap_or(true) {
            self.retiring.draining.push_back((now + EMPTIES, waiter));
            return Ok(());
        }
        let stage = socket.own.map_or(Stage::Open, |own| own.stage);
        match (stage, socket.arm) {
            (Stage::Watched, _) | (Stage::Open, Arm::Armed) => {
                socket.cancelling = true;
                self.cancel(waiter, now)
            }
            // Its marker is on its way.
            (Stage::Waiting, _) => {
                self.retiring.draining.push_back((now + EMPTIES, waiter));
                Ok(())
            }
            // Nothing is armed on it.
            (Stage::Open, _) => {
                self.close_retired(waiter.0);
                Ok(())
            }
        }
    }

    /// Cancels what is armed on a socket that is to be closed.
    fn cancel(&mut self, waiter: Waiter, now: Instant) -> io::Result<()> {
        let (slot, generation) = waiter;
        let Some(socket) = self.sockets.current(slot, generation).filter(|socket| socket.cancelling) else {
            return Ok(());
        };
        let watched = socket.own.is_some_and(|own| own.stage == Stage::Watched);
        let kind = if watched { Kind::Watch } else { Kind::Receive };
        let name = UserData::on_slot(kind, slot, generation);
        self.retiring.cancelling.push_back((now + CANCELS, waiter));
        self.engine.operands.push_cancel(&mut self.engine.ring, name)
    }

    /// Closes a socket on which nothing is armed any more.
    pub(crate) fn close_retired(&mut self, slot: u32) {
        let Some(socket) = self.take_out(slot) else { return };
        if socket.id.as_connected().is_some() {
            self.retiring.closed.push(socket.id);
        }
    }
}

/// Why a peer got no socket of its own.
fn fault(errno: i32) -> ConnectFault {
    match errno {
        // No descriptor (RLIMIT_NOFILE, fs.file-max), no memory: the next one would meet the same.
        libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM => ConnectFault::Exhausted { errno },
        errno => ConnectFault::Failed { errno },
    }
}
