//! Sockets of peers' own, and how they come without losing anything. How they go is in [`crate::retiring`].
//!
//! A new one is watched. When something comes by it, a marker is sent to the peer's listener, and once that
//! has come out, nothing older of the peer is left there: the socket is armed. What comes meanwhile waits in
//! the socket's own queue, in the kernel.
//!
//! ```text
//! connect:  bind and connect outside the listeners' port group  -->  watched (one-shot poll, nothing armed)
//!                                                                   |  something has come; it stays in the kernel
//! marker to the peer's listener, one for all that wait  <-----------+
//!           |  it comes out of the listener: nothing older of these peers is left there
//!           +-->  open (multishot receive)
//! retire:   when it holds nothing, or after 250 ms: connect to its own address, so nothing new reaches it; where that is
//!           refused, have the kernel drop and count what is new
//!           -->  a grace period later, when it is empty: cancel by user data
//!           -->  last completion: close, `Sink::retired`
//! ```

use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use shardgram_core::datagram::{Path, SocketId};
use shardgram_core::driver::{ConnectFault, ConnectedLimits, Sink};
use shardgram_core::seldom::Seldom;
use shardgram_sys::accept::{self, AcceptMode};

use crate::arrived::Arrived;
use crate::engine::Engine;
use crate::exchange::Exchange;
use crate::marker::{self, Markers, Waiter};
use crate::retiring::Retiring;
use crate::ring::NoRoom;
use crate::socket::{Arm, Own, Socket, Stage};
use crate::sockets::Sockets;
use crate::user_data::{Kind, UserData};

/// Peers' own sockets.
#[derive(Debug)]
pub(crate) struct Connected {
    /// How peers get them, and how many; `None` where they get none.
    accept: Option<(AcceptMode, ConnectedLimits)>,
    markers: Markers,
    retiring: Retiring,
    /// Sockets that were armed without certainty, of which the shard loop was not told yet.
    timed_out: usize,
    /// Sockets in the port group of a listener that goes, of which it was not told either.
    in_the_way: Vec<SocketId>,
    warned: Seldom,
}

impl Connected {
    pub(crate) fn new(
        accept: Option<(AcceptMode, ConnectedLimits)>,
        markers: Markers,
        retiring: Retiring,
    ) -> Self {
        Self { accept, markers, retiring, timed_out: 0, in_the_way: Vec::new(), warned: Seldom::default() }
    }

    pub(crate) fn limits(&self) -> ConnectedLimits {
        self.accept.map_or(ConnectedLimits::NONE, |(_, limits)| limits)
    }

    /// Makes a peer's own socket and watches it.
    pub(crate) fn connect(
        &mut self,
        sockets: &mut Sockets,
        engine: &mut Engine,
        id: SocketId,
        path: &Path,
    ) -> Result<(), ConnectFault> {
        let (mode, _) = self.accept.ok_or(ConnectFault::Unsupported)?;
        let slot = sockets.slot_of(id).ok_or(ConnectFault::Unsupported)?;
        let listener = sockets.leaving(path.socket, path).ok_or(ConnectFault::Unsupported)?;
        let local = match sockets.get(listener) {
            // Peers' sockets beside it would be found before it.
            Some(socket) if socket.was_let_go() => return Err(ConnectFault::Unsupported),
            Some(socket) if !socket.wildcard => socket.local,
            _ => return Err(ConnectFault::Unsupported),
        };
        let made = accept::connected(mode, local, path.remote, sockets.options()).map_err(|error| {
            let fault = fault(error.errno());
            if let ConnectFault::Exhausted { .. } = fault {
                tracing::warn!(%error, "peers stay with the listener for now; or lower max_connected");
            }
            fault
        })?;
        let mut socket = Socket::new(made, id, local);
        socket.arm = Arm::Held;
        socket.own = Some(Own { stage: Stage::Watched, listener, abandoned: false });
        if let Some(listener) = sockets.get(listener) {
            socket.usage = listener.usage.clone();
            socket.lease = listener.lease.clone().filter(|_| mode == AcceptMode::SameGroup);
        }
        let system = |error: io::Error| fault(error.raw_os_error().unwrap_or(libc::EIO));
        sockets.install(&engine.ring, slot, socket).map_err(system)?;
        watch(sockets, engine, slot).map_err(|NoRoom| {
            sockets.take_out(engine, slot);
            ConnectFault::Exhausted { errno: libc::EAGAIN }
        })
    }

    /// Begins to take a peer's own socket out of service.
    pub(crate) fn retire(&mut self, sockets: &Sockets, id: SocketId) {
        let Some(slot) = sockets.slot_of(id) else { return };
        self.retiring.add((slot, sockets.generation(slot)));
    }

    /// Something came by a socket that was watched, or the watch was cancelled.
    pub(crate) fn watch_ended(
        &mut self,
        sockets: &mut Sockets,
        exchange: &mut Exchange,
        name: UserData,
        result: i32,
    ) {
        let (slot, generation) = (name.index, name.generation);
        let Some(socket) = sockets.current(slot, generation) else { return };
        let Some(own) = socket.own.as_mut().filter(|own| own.stage == Stage::Watched) else { return };
        if socket.cancelling && result < 0 {
            return self.close(sockets, exchange, slot);
        }
        own.stage = Stage::Waiting;
        let (listener, address) = (own.listener, socket.local);
        if std::mem::take(&mut socket.cancelling) {
            self.retiring.close_when_empty((slot, generation));
        }
        // One that goes holds what nobody needs to wait for.
        let there = sockets
            .get(listener)
            .is_some_and(|listener| listener.local == address && listener.close_by.is_none());
        if !there {
            return let_in(sockets, &[(slot, generation)]);
        }
        if let Err(error) = self.markers.wait((slot, generation), listener, address) {
            if let Some(held_back) = self.warned.due(Instant::now()) {
                tracing::warn!(
                    %error,
                    %address,
                    held_back,
                    "no socket for markers: peers may be handed over out of order (raise RLIMIT_NOFILE)"
                );
            }
            self.timed_out += 1;
            let_in(sockets, &[(slot, generation)]);
        }
    }

    /// Whether what came by the socket in this place is a marker. Then those who waited for it are let in.
    #[inline]
    pub(crate) fn is_marker(
        &mut self,
        sockets: &mut Sockets,
        slot: u32,
        from: SocketAddr,
        payload: &[u8],
    ) -> bool {
        payload.len() == marker::LENGTH
            && self.accept.is_some()
            && self.marker_came(sockets, slot, from, payload)
    }

    #[cold]
    fn marker_came(&mut self, sockets: &mut Sockets, slot: u32, from: SocketAddr, payload: &[u8]) -> bool {
        let Some(waiters) = self.markers.came(slot, from, payload) else { return false };
        let_in(sockets, &waiters);
        true
    }

    /// The host has lost the address of the listener in this place, or it gave way: nobody needs to wait for what it holds, and
    /// it is closed when that is handed over, or a while later. Its port group has come to an end only when peers' own
    /// sockets are out of it, too, and peers stay that are served by the wildcard from now on.
    pub(crate) fn listener_gone(&mut self, sockets: &mut Sockets, slot: u32) {
        if self.accept.as_ref().is_some_and(|(mode, _)| *mode == AcceptMode::SameGroup) {
            self.in_the_way.extend(sockets.in_group_of(slot));
        }
        let waiters = self.markers.forget(slot);
        let_in(sockets, &waiters);
        self.retiring.listener_gone(sockets, slot);
    }

    /// Sends the markers that are due, and looks at the sockets that are on their way out.
    #[inline]
    pub(crate) fn tend(&mut self, sockets: &mut Sockets, exchange: &mut Exchange) {
        if !self.is_settled() {
            self.tend_each(sockets, exchange);
        }
    }

    fn tend_each(&mut self, sockets: &mut Sockets, exchange: &mut Exchange) {
        let now = Instant::now();
        let outcome = self.markers.send(now);
        if outcome.timed_out {
            self.timed_out += outcome.let_in.len();
        }
        let_in(sockets, &outcome.let_in);
        self.retiring.tend(sockets, exchange, now);
    }

    /// Turns those sockets away that are to go and hold nothing now.
    #[inline]
    pub(crate) fn turn_away(&mut self, sockets: &mut Sockets, arrived: &mut Arrived) {
        self.retiring.turn_away(sockets, arrived);
    }

    /// Closes a socket on which nothing is armed any more.
    pub(crate) fn close(&mut self, sockets: &mut Sockets, exchange: &mut Exchange, slot: u32) {
        self.retiring.close(sockets, exchange, slot);
    }

    /// When there is something to do next.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        [self.markers.deadline(), self.retiring.deadline()].into_iter().flatten().min()
    }

    /// Whether nobody is on the way in or out.
    #[inline]
    pub(crate) fn is_settled(&self) -> bool {
        !self.markers.any() && self.retiring.is_empty()
    }

    /// Whether what came by some peer's own socket waits for what the listener holds.
    pub(crate) fn holds_back(&self) -> bool {
        self.markers.any()
    }

    /// Datagrams of this shard's own that the kernel counts among those that it dropped.
    pub(crate) fn lost_markers(&self) -> i64 {
        self.markers.lost()
    }

    pub(crate) fn has_reports(&self) -> bool {
        self.timed_out > 0 || !self.in_the_way.is_empty() || self.retiring.has_reports()
    }

    /// Tells the shard loop what it has to know.
    #[inline]
    pub(crate) fn report(&mut self, sink: &mut impl Sink) {
        for _ in 0..std::mem::take(&mut self.timed_out) {
            sink.handover_timed_out();
        }
        // Before it hears of those that are closed, whose numbers may be another's then.
        for socket in self.in_the_way.drain(..) {
            sink.demote(socket);
        }
        self.retiring.report(sink);
    }
}

/// Has the ring say when something comes by a socket.
fn watch(sockets: &Sockets, engine: &mut Engine, slot: u32) -> Result<(), NoRoom> {
    let name = UserData::on_slot(Kind::Watch, slot, sockets.generation(slot));
    let Some(socket) = sockets.get(slot) else { return Ok(()) };
    engine.operands.push_poll(&mut engine.ring, socket.target, libc::POLLIN, name)
}

/// Nothing older of these peers is left elsewhere: their sockets are armed.
fn let_in(sockets: &mut Sockets, waiters: &[Waiter]) {
    for &(slot, generation) in waiters {
        let Some(socket) = sockets.current(slot, generation) else { continue };
        if let Some(own) = &mut socket.own {
            own.stage = Stage::Open;
        }
        sockets.have_armed(slot);
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
