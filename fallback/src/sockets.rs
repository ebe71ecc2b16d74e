//! The sockets of a shard: which of them may hold something to receive, and what they dropped.
//!
//! Readiness is told once (mio is edge-triggered: epoll's EPOLLET, kqueue's EV_CLEAR, on Windows
//! imitated), so a socket stays on the ready list until a receive says that nothing is left.

use std::cell::OnceCell;
use std::collections::VecDeque;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use mio::{Interest, Registry, Token};
use quinn_udp::{BATCH_SIZE, RecvMeta, UdpSocketState};
use shardgram_core::Endpoint;
use shardgram_core::datagram::SocketId;
use shardgram_core::seldom::Seldom;
use shardgram_sys::plan::Os;
use shardgram_sys::socket::{drop_count, open_endpoint};
use shardgram_sys::{Drops, SocketOptions, errno};

use crate::listener::Listener;
use crate::receiver::{Batch, Receiver};

/// A socket with what quinn-udp knows of it.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) io: mio::net::UdpSocket,
    /// None where the system lacks something that quinn-udp cannot do without ([`crate::has_control`]).
    pub(crate) state: Option<Arc<UdpSocketState>>,
    pub(crate) id: SocketId,
    /// Not where another shard receives for this one: then it is watched for room only, and never looked into.
    receives: bool,
    /// It is a listener on every address of its family, so each datagram must say where it was sent to
    /// and each answer where it leaves from.
    ///
    /// On other sockets the destination that quinn-udp reports is ignored: the socket's own address says it all, and
    /// not every system tells it right ([`Os::specific_packet_info`]).
    pub(crate) wildcard: bool,
    /// What comes by it says whether it was sent to many hosts.
    pub(crate) told: bool,
    /// Whether handlers are told how what it receives is marked.
    pub(crate) tells_ecn: bool,
    /// Receives in a row that failed.
    pub(crate) failures: u32,
    /// Its send buffer is full: nothing is sent until the system says that there is room.
    full: Full,
    /// On the ready list or the resting list.
    listed: bool,
    drops: Drops,
    /// The byte of DSCP and congestion bits that its owner gave it, once that was asked for.
    #[cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "quinn-udp replaces it there"))]
    pub(crate) class: OnceCell<u8>,
}

/// Whether a socket's send buffer is full.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Full {
    No,
    /// It is, and the system is not asked yet to say when it is not.
    Noticed,
    Watched,
    /// It is, and the system could not be asked: it is tried again after a rest.
    Unwatched,
}

impl Socket {
    fn new(listener: Listener, id: SocketId) -> io::Result<Self> {
        let (bound_to, receives) = (listener.local_addr()?, listener.receives());
        let Listener { socket, state, tells_ecn, .. } = listener;
        let wildcard = id.as_listener().is_some() && Os::HERE.needs_packet_info(bound_to.ip());
        Ok(Self {
            io: mio::net::UdpSocket::from_std(socket),
            state,
            id,
            receives,
            wildcard,
            told: wildcard,
            tells_ecn,
            failures: 0,
            full: Full::No,
            listed: false,
            drops: Drops::default(),
            class: OnceCell::new(),
        })
    }

    /// Receives what there is, up to one datagram or train into each of `buffers`; says how many that were.
    pub(crate) fn receive(
        &self,
        receiver: &mut Receiver,
        buffers: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> io::Result<Batch> {
        // try_io and mio's own recv_from, because mio must see WouldBlock on Windows to watch the socket again.
        if let Some(state) = &self.state {
            return self.io.try_io(|| receiver.receive(state, &self.io, self.told, buffers, metas));
        }
        let (Some(buffer), Some(meta)) = (buffers.first_mut(), metas.first_mut()) else {
            return Ok(Batch::default());
        };
        let (len, addr) = self.io.recv_from(buffer)?;
        *meta = RecvMeta::default();
        (meta.len, meta.stride, meta.addr) = (len, len, addr);
        Ok(Batch { count: 1, ..Batch::default() })
    }

    /// Whether its send buffer is full.
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.full != Full::No
    }

    /// Datagrams the kernel dropped here so far; where the system does not count them, nought. Those of a socket with
    /// duplicates are counted by the shard that receives.
    fn dropped(&mut self) -> u64 {
        if self.receives
            && Os::HERE.drop_counter().is
            && let Ok(now) = drop_count(&self.io)
        {
            self.drops.advance(now);
        }
        self.drops.total()
    }
}

/// All sockets of a shard. A socket's place is its token: listeners first, then endpoints by slot.
#[derive(Debug)]
pub(crate) struct Sockets {
    places: Vec<Option<Socket>>,
    listeners: usize,
    /// Sockets that may hold something, in the order in which they take turns.
    ready: VecDeque<usize>,
    /// The socket whose turn it is, and how much of its turn is left: turns of sockets are of one length, whatever is left
    /// of the loop's budget when they begin.
    turn: (usize, usize),
    /// How long turns of sockets are.
    each: usize,
    /// Sockets whose receive failed for a reason of the system; tried again after the next wait.
    resting: Vec<usize>,
    /// Sockets that were found full in this turn.
    found_full: Vec<usize>,
    /// Full sockets that the system does not watch.
    unwatched: Vec<usize>,
    warned: Seldom,
    /// What closed sockets had dropped.
    dropped_before: u64,
}

impl Sockets {
    /// Takes a shard's listeners, in the order of [`shardgram_core::Config::listen`].
    pub(crate) fn new(registry: &Registry, listeners: Vec<Listener>) -> io::Result<Self> {
        let mut sockets = Self {
            listeners: listeners.len(),
            places: Vec::with_capacity(listeners.len()),
            ready: VecDeque::new(),
            turn: (0, 0),
            each: 1,
            resting: Vec::new(),
            found_full: Vec::new(),
            unwatched: Vec::new(),
            warned: Seldom::default(),
            dropped_before: 0,
        };
        for (index, listener) in listeners.into_iter().enumerate() {
            let index = u16::try_from(index).map_err(|_| io::ErrorKind::InvalidInput)?;
            sockets.add(registry, Socket::new(listener, SocketId::listener(index))?)?;
        }
        Ok(sockets)
    }

    fn place(&self, id: SocketId) -> usize {
        match (id.as_listener(), id.as_endpoint()) {
            (Some(index), _) => usize::from(index),
            (None, slot) => self.listeners + slot.unwrap_or(0) as usize,
        }
    }

    fn add(&mut self, registry: &Registry, mut socket: Socket) -> io::Result<()> {
        let place = self.place(socket.id);
        if socket.receives {
            registry.register(&mut socket.io, Token(place), Interest::READABLE)?;
        }
        if self.places.len() <= place {
            self.places.resize_with(place + 1, || None);
        }
        self.places[place] = Some(socket);
        Ok(())
    }

    /// Opens the socket of an endpoint; says which address it got.
    pub(crate) fn open(
        &mut self,
        registry: &Registry,
        id: SocketId,
        endpoint: &Endpoint,
        options: &SocketOptions,
    ) -> Result<SocketAddr, i32> {
        let address = endpoint.bind_address();
        let socket = open_endpoint(endpoint, options).map_err(|error| {
            tracing::debug!(%address, %error, "an endpoint was not opened");
            error.errno()
        })?;
        let add = || {
            let mut socket = Socket::new(Listener::new(socket, options)?, id)?;
            socket.told = endpoint.takes_any_source() && address.ip().is_unspecified();
            let bound = socket.io.local_addr()?;
            self.add(registry, socket)?;
            Ok(bound)
        };
        add().map_err(|error: io::Error| {
            tracing::debug!(%address, %error, "an endpoint was not opened");
            error.raw_os_error().unwrap_or(errno::EIO)
        })
    }

    /// Closes the socket of an endpoint and keeps what it dropped.
    pub(crate) fn close(&mut self, registry: &Registry, id: SocketId) {
        let place = self.place(id);
        let Some(mut socket) = self.places.get_mut(place).and_then(Option::take) else { return };
        self.dropped_before += socket.dropped();
        if socket.listed {
            self.ready.retain(|&p| p != place);
            self.resting.retain(|&p| p != place);
        }
        if let Err(error) = registry.deregister(&mut socket.io) {
            // Closing the descriptor, which comes next, takes it out as well.
            tracing::debug!(%error, "an endpoint was not deregistered");
        }
    }

    /// The socket of this id, if it is open.
    #[inline]
    pub(crate) fn get(&self, id: SocketId) -> Option<&Socket> {
        self.places.get(self.place(id))?.as_ref()
    }

    /// A socket's send buffer was found full.
    pub(crate) fn is_now_full(&mut self, id: SocketId) {
        let place = self.place(id);
        if let Some(Some(socket)) = self.places.get_mut(place)
            && socket.full == Full::No
        {
            socket.full = Full::Noticed;
            self.found_full.push(place);
        }
    }

    /// Has the system say when the sockets that were found full have room. Watching for that tells of room
    /// there is already, so none that comes in between is missed. Where the system has no room for the watch (ENOMEM,
    /// ENOSPC in epoll_ctl(2)), the socket is tried again after a rest.
    pub(crate) fn watch_full(&mut self, registry: &Registry) {
        for place in self.found_full.drain(..) {
            let Some(Some(socket)) = self.places.get_mut(place) else { continue };
            if socket.full != Full::Noticed {
                continue;
            }
            let watched = if socket.receives {
                let both = Interest::READABLE | Interest::WRITABLE;
                registry.reregister(&mut socket.io, Token(place), both)
            } else {
                registry.register(&mut socket.io, Token(place), Interest::WRITABLE)
            };
            socket.full = if watched.is_ok() { Full::Watched } else { Full::Unwatched };
            let Err(error) = watched else { continue };
            self.unwatched.push(place);
            if let Some(held_back) = self.warned.due(Instant::now()) {
                tracing::warn!(%error, held_back, "a full socket is not watched for room: it is tried now and then");
            }
        }
    }

    /// The system says that a socket has room.
    pub(crate) fn writable(&mut self, registry: &Registry, token: Token) {
        if let Some(Some(socket)) = self.places.get_mut(token.0)
            && socket.full == Full::Watched
        {
            socket.full = Full::No;
            let unwatched = if socket.receives {
                registry.reregister(&mut socket.io, token, Interest::READABLE)
            } else {
                registry.deregister(&mut socket.io)
            };
            if let Err(error) = unwatched {
                // It is told of room once more, at most. A duplicate cannot be registered again and is tried after rests.
                tracing::debug!(%error, id = ?socket.id, "a socket is still watched for room");
            }
        }
    }

    /// Puts the socket with this token on the ready list.
    pub(crate) fn readable(&mut self, token: Token) {
        if let Some(Some(socket)) = self.places.get_mut(token.0)
            && socket.receives
            && !std::mem::replace(&mut socket.listed, true)
        {
            self.ready.push_back(token.0);
        }
    }

    /// After so many datagrams or trains of one socket it is the turn of the next one that is ready.
    pub(crate) fn begin(&mut self, each: usize) {
        self.each = each;
        self.turn.1 = self.turn.1.min(each);
    }

    /// How much the next ready socket may receive before it is another's turn.
    pub(crate) fn share(&self) -> usize {
        let (place, left) = self.turn;
        match self.ready.front() {
            // It keeps nobody waiting.
            Some(_) if self.ready.len() == 1 => BATCH_SIZE,
            Some(front) if *front == place && left > 0 => left,
            _ => self.each.min(BATCH_SIZE),
        }
    }

    /// The socket whose turn it is. It is off the list, unless [`Sockets::had`], [`Sockets::put_back`] or
    /// [`Sockets::rest`] follows.
    pub(crate) fn next_ready(&mut self) -> Option<&mut Socket> {
        let share = self.share();
        let place = self.ready.pop_front()?;
        self.turn = (place, share);
        let socket = self.places[place].as_mut()?;
        socket.listed = false;
        Some(socket)
    }

    /// The socket that was the next one had so much of its share and may hold more: it goes on with the rest, or, when
    /// nothing is left of it, after all others.
    pub(crate) fn had(&mut self, id: SocketId, datagrams: usize) {
        self.turn.1 = self.turn.1.saturating_sub(datagrams);
        self.put_back(id);
        if self.turn.1 > 0
            && let Some(place) = self.ready.pop_back()
        {
            self.ready.push_front(place);
        }
    }

    /// A receive did what it should.
    pub(crate) fn succeeded(&mut self, id: SocketId) {
        let place = self.place(id);
        if let Some(Some(socket)) = self.places.get_mut(place) {
            socket.failures = 0;
        }
    }

    /// A receive failed; says how many did so in a row.
    pub(crate) fn failed(&mut self, id: SocketId) -> u32 {
        let place = self.place(id);
        let Some(Some(socket)) = self.places.get_mut(place) else { return 0 };
        socket.failures = socket.failures.saturating_add(1);
        socket.failures
    }

    /// It may hold more: its turn comes again after all others'.
    pub(crate) fn put_back(&mut self, id: SocketId) {
        self.readable(Token(self.place(id)));
    }

    /// It failed: it is let alone until the next wait is over.
    pub(crate) fn rest(&mut self, id: SocketId) {
        let place = self.place(id);
        if let Some(Some(socket)) = self.places.get_mut(place)
            && !std::mem::replace(&mut socket.listed, true)
        {
            self.resting.push(place);
        }
    }

    /// Those that rested are ready again, and full ones that nobody watches are tried again.
    pub(crate) fn end_rest(&mut self) {
        self.ready.extend(self.resting.drain(..));
        for place in self.unwatched.drain(..) {
            if let Some(Some(socket)) = self.places.get_mut(place)
                && socket.full == Full::Unwatched
            {
                socket.full = Full::No;
            }
        }
    }

    /// Whether any socket may hold something.
    pub(crate) fn any_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Whether any socket rests.
    pub(crate) fn any_resting(&self) -> bool {
        !self.resting.is_empty() || !self.unwatched.is_empty()
    }

    /// What the kernel dropped at all sockets there ever were.
    pub(crate) fn dropped(&mut self) -> u64 {
        self.dropped_before + self.places.iter_mut().flatten().map(Socket::dropped).sum::<u64>()
    }
}

#[cfg(test)]
mod tests;
