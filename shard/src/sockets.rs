//! A shard's sockets and their places: in the ring's table of fixed files, and in the tables here.
//!
//! A place serves one kind of socket: listeners first, then the listeners of single addresses under a
//! wildcard, then endpoints, then peers' own sockets.
//!
//! What a socket needs of the ring is queued here too: its receive, the watch for room in its send buffer, and its place in
//! the table. What finds no room or no memory is noted and tried again with the next turn.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use shardgram_core::datagram::{Path, SocketId};
use shardgram_core::seldom::Seldom;
use shardgram_core::{Endpoint, JoinError};
use shardgram_sys::socket::{self, SocketOptions};

use crate::arrived::Arrived;
use crate::closed::Closed;
use crate::direct::{self, Member};
use crate::engine::Engine;
use crate::op::Target;
use crate::places::Places;
use crate::ring::{NoRoom, Ring};
use crate::socket::{Arm, Socket, Stage};
use crate::to_arm::{IN_A_ROW, ToArm};
use crate::user_data::{Kind, UserData, next_generation};

/// Receives in a row that may fail without bringing anything before the socket rests, and how long.
const RECEIVE_FAILURES: u32 = 16;
const REST: Duration = Duration::from_millis(100);

/// Sockets by place.
#[derive(Debug)]
pub(crate) struct Sockets {
    slots: Vec<Option<Socket>>,
    generations: Vec<u32>,
    places: Places,
    /// Whether sockets stand in the ring's table, or are named by their descriptors.
    fixed: bool,
    /// Places of the listeners of single addresses, by listener and address.
    by_address: HashMap<(u16, IpAddr), u32>,
    /// What endpoints and peers' own sockets are opened with.
    options: SocketOptions,
    /// Places whose receive has to be armed.
    to_arm: ToArm,
    /// Places of sockets that rest, and until when; the first to wake up first.
    resting: VecDeque<(Instant, u32)>,
    /// Those that are received from without the ring, if the shard does that.
    asked: Option<Vec<Member>>,
    /// Full sockets whose watch for room could not be queued.
    to_watch: Vec<u32>,
    closed: Closed,
    /// What the kernel dropped at sockets that are closed.
    closed_drops: u64,
    warned: Seldom,
}

impl Sockets {
    /// Makes the ring's table and has a place for each socket. With `fixed` sockets that come and go stand in the table too;
    /// with `asks` the first ones are received from without the ring.
    pub(crate) fn new(
        ring: &Ring,
        places: Places,
        options: SocketOptions,
        fixed: bool,
        asks: bool,
    ) -> io::Result<Self> {
        let places = places.register(ring, fixed)?;
        let size = places.total() as usize;
        Ok(Self {
            slots: (0..size).map(|_| None).collect(),
            generations: vec![0; size],
            places,
            fixed,
            by_address: HashMap::new(),
            options,
            to_arm: ToArm::default(),
            resting: VecDeque::new(),
            asked: asks.then(Vec::new),
            to_watch: Vec::new(),
            closed: Closed::default(),
            closed_drops: 0,
            warned: Seldom::default(),
        })
    }

    pub(crate) fn places(&self) -> Places {
        self.places
    }

    pub(crate) fn options(&self) -> &SocketOptions {
        &self.options
    }

    /// The place of a socket, whether or not it is taken.
    #[inline]
    pub(crate) fn slot_of(&self, id: SocketId) -> Option<u32> {
        self.places.of(id)
    }

    /// The place of the socket by which a datagram leaves: under a wildcard that of its local address, if
    /// there is one.
    #[inline]
    pub(crate) fn leaving(&self, via: SocketId, path: &Path) -> Option<u32> {
        let slot = self.slot_of(via)?;
        if self.by_address.is_empty() {
            return Some(slot);
        }
        let Some(listen) = via.as_listener() else { return Some(slot) };
        Some(self.address(listen, path.local.ip()).unwrap_or(slot))
    }

    /// The place of the listener of one address under a wildcard.
    pub(crate) fn address(&self, listen: u16, ip: IpAddr) -> Option<u32> {
        self.by_address.get(&(listen, ip)).copied()
    }

    /// Peers' own sockets in the port group of the listener of one address, which share its lease. No other group is bound
    /// there meanwhile, so the address says which they are.
    pub(crate) fn in_group_of(&self, slot: u32) -> Vec<SocketId> {
        let Some(listener) = self.get(slot) else { return Vec::new() };
        let own = self.places.own();
        let all = self.slots[own.start as usize..own.end as usize].iter().flatten();
        all.filter(|own| own.lease.is_some() && own.local == listener.local).map(|own| own.id).collect()
    }

    /// A free place for the listener of one more address.
    pub(crate) fn free_address(&self) -> Option<u32> {
        let first = self.places.listeners;
        (first..first + self.places.addresses).find(|slot| self.slots[*slot as usize].is_none())
    }

    pub(crate) fn name_address(&mut self, listen: u16, ip: IpAddr, slot: u32) {
        self.by_address.insert((listen, ip), slot);
    }

    /// Nothing leaves by that place any more.
    pub(crate) fn forget_address(&mut self, listen: u16, ip: IpAddr) -> Option<u32> {
        self.by_address.remove(&(listen, ip))
    }

    pub(crate) fn generation(&self, slot: u32) -> u32 {
        self.generations.get(slot as usize).copied().unwrap_or(0)
    }

    #[inline]
    pub(crate) fn get(&self, slot: u32) -> Option<&Socket> {
        self.slots.get(slot as usize)?.as_ref()
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, slot: u32) -> Option<&mut Socket> {
        self.slots.get_mut(slot as usize)?.as_mut()
    }

    /// The socket a completion belongs to, unless it was closed since.
    #[inline]
    pub(crate) fn current(&mut self, slot: u32, generation: u32) -> Option<&mut Socket> {
        if self.generation(slot) != generation {
            return None;
        }
        self.slots.get_mut(slot as usize)?.as_mut()
    }

    /// The system's socket of this number.
    pub(crate) fn system(&self, id: SocketId) -> Result<&UdpSocket, JoinError> {
        let socket = self.slot_of(id).and_then(|slot| self.get(slot));
        socket.map(|socket| &socket.socket).ok_or(JoinError::NoSuchSocket)
    }

    /// Datagrams that the kernel dropped at all sockets there ever were.
    pub(crate) fn dropped(&mut self) -> u64 {
        self.slots.iter_mut().flatten().map(Socket::dropped).sum::<u64>() + self.closed_drops
    }
}

/// How sockets come and go.
impl Sockets {
    /// Opens the socket of an endpoint; says which address it got.
    pub(crate) fn open(&mut self, ring: &Ring, id: SocketId, endpoint: &Endpoint) -> Result<SocketAddr, i32> {
        let errno = |e: io::Error| e.raw_os_error().unwrap_or(libc::EIO);
        let slot = self.slot_of(id).ok_or(libc::EMFILE)?;
        let told = endpoint.takes_any_source() && endpoint.bind_address().ip().is_unspecified();
        let options = SocketOptions { packet_info: told, ..self.options.clone() };
        let socket = socket::open_endpoint(endpoint, &options).map_err(|error| {
            tracing::debug!(%error, "an endpoint was not opened");
            error.errno()
        })?;
        let local = socket.local_addr().map_err(errno)?;
        let socket = Socket { told, ..Socket::new(socket, id, local) };
        self.install(ring, slot, socket).map_err(errno)?;
        Ok(local)
    }

    /// Puts a socket into its place and has it armed with the next turn, unless it is to wait.
    pub(crate) fn install(&mut self, ring: &Ring, slot: u32, mut socket: Socket) -> io::Result<()> {
        if self.closed.len() >= self.slots.len() {
            // However often sockets come and go while the kernel refuses to let go of them.
            return Err(io::Error::from_raw_os_error(libc::EAGAIN));
        }
        if self.is_fixed(slot) {
            ring.set_file(slot, socket.socket.as_raw_fd())?;
            socket.target = Target::Fixed(slot);
        }
        if let (Some(asked), Arm::Needed) = (&mut self.asked, socket.arm)
            && asked.len() < direct::SOCKETS
            && socket.own.is_none()
        {
            asked.push(Member::new(slot));
            socket.arm = Arm::Direct;
        }
        if socket.arm == Arm::Needed {
            self.to_arm.add_new(slot);
        }
        self.slots[slot as usize] = Some(socket);
        Ok(())
    }

    /// Closes the socket of an endpoint. What has `arrived` may be its last completion.
    pub(crate) fn close(&mut self, engine: &mut Engine, arrived: &Arrived, id: SocketId) {
        let Some(slot) = self.slot_of(id) else { return };
        let Some(open) = self.get(slot) else { return };
        // Closing the socket ends neither its receive nor the watch for room, which would keep it and its port.
        if open.arm == Arm::Armed {
            self.end_at_once(engine, slot, Kind::Receive);
            if self.closed.len() > 0 {
                arrived.iter().filter(|done| done.is_last()).for_each(|done| self.closed.ended(done.data));
            }
        }
        self.end_watch(engine, slot);
        self.take_out(engine, slot);
    }

    /// Takes a socket whose receive has ended out of its place. Completions of its generation are strangers from now on.
    pub(crate) fn take_out(&mut self, engine: &mut Engine, slot: u32) -> Option<Socket> {
        let watched = UserData::on_slot(Kind::Writable, slot, self.generation(slot));
        let mut socket = self.slots.get_mut(slot as usize)?.take()?;
        self.generations[slot as usize] = next_generation(self.generations[slot as usize]);
        if let Some(asked) = &mut self.asked {
            asked.retain(|member| member.slot != slot);
        }
        if socket.credit.blocked && engine.operands.push_cancel(&mut engine.ring, watched) == Err(NoRoom) {
            self.closed.still_armed(watched, socket.lease.clone());
        }
        // What names this socket and is still queued would be about whoever comes into its place.
        let names = [Kind::Receive, Kind::Watch, Kind::Writable].map(|kind| UserData { kind, ..watched });
        if engine.ring.queued() > 0 {
            let Self { closed, .. } = self;
            engine.ring.take_back(|bits| {
                let name = names.into_iter().find(|name| name.bits() == bits);
                name.inspect(|name| closed.ended(*name)).is_some()
            });
        }
        self.to_watch.retain(|unwatched| *unwatched != slot);
        self.closed_drops += socket.dropped();
        if self.is_fixed(slot) {
            self.clear_file(&engine.ring, slot, &socket);
        }
        Some(socket)
    }

    /// Has a socket that is to be taken out watched for room no longer, at once: the watch would keep it open.
    pub(crate) fn end_watch(&mut self, engine: &mut Engine, slot: u32) {
        let Some(open) = self.get_mut(slot) else { return };
        if std::mem::take(&mut open.credit.blocked) && !self.to_watch.contains(&slot) {
            self.end_at_once(engine, slot, Kind::Writable);
        }
    }

    /// Cancels what is armed on a socket that is being closed and waits for its end; where that cannot be, it ends a little
    /// later, and the port is taken until then. What the kernel has not taken by now is taken back with the socket; an error
    /// is the next turn's.
    fn end_at_once(&mut self, engine: &mut Engine, slot: u32, kind: Kind) {
        let name = UserData::on_slot(kind, slot, self.generation(slot));
        let _ = engine.ring.submit();
        let Err(error) = engine.ring.cancel(name.bits()) else { return };
        if let Some(held_back) = self.warned.due(Instant::now()) {
            tracing::warn!(%error, held_back, "the port of a closed socket stays taken for a moment");
        }
        self.closed.still_armed(name, self.get(slot).and_then(|open| open.lease.clone()));
    }

    /// Whether sockets of this place stand in the ring's table. Those of the addresses listened on always do: they stay.
    fn is_fixed(&self, slot: u32) -> bool {
        self.fixed || slot < self.places.listeners
    }

    /// Takes the file of a closed socket out of the table of fixed files, or has that tried again.
    fn clear_file(&mut self, ring: &Ring, slot: u32, closed: &Socket) {
        let Err(error) = ring.set_file(slot, -1) else { return };
        if let Some(held_back) = self.warned.due(Instant::now()) {
            tracing::warn!(%error, slot, held_back, "a fixed file could not be taken out: it is tried again");
        }
        self.closed.still_in_table(slot, closed.lease.clone());
    }
}

/// What is armed on them.
impl Sockets {
    /// Queues the receives that have to be armed, of starved sockets as many as there are buffers for that no other was
    /// armed for: further ones would end at once, and those that are armed then would be served before others that had
    /// less. What finds no room in the queue is tried again in the next turn. So many of the kernel's buffers are in
    /// completions already: `unread`.
    pub(crate) fn arm(&mut self, engine: &mut Engine, unread: usize) {
        if self.to_arm.len() == 0 && self.resting.is_empty() {
            return;
        }
        let Engine { ring, buffers, operands } = engine;
        let free = buffers.in_kernel().saturating_sub(unread);
        if free == 0 {
            return;
        }
        let Self { to_arm, slots, .. } = self;
        let waits = |slot: u32, had| {
            let socket = slots.get(slot as usize).and_then(Option::as_ref);
            socket.is_some_and(|socket| socket.arm == Arm::Armed && socket.had == had)
        };
        let mut fed = free.div_ceil(IN_A_ROW).saturating_sub(to_arm.still_fed(waits));
        self.end_rests();
        self.to_arm.begin();
        while let Some(turn) = self.to_arm.next() {
            let slot = turn.slot();
            let name = UserData::receive(slot, self.generation(slot));
            let Some(socket) = self.get_mut(slot) else { continue };
            if matches!(socket.arm, Arm::Armed | Arm::Held | Arm::Direct) {
                continue;
            }
            let (starved, told) = (socket.arm == Arm::Starved, socket.told);
            if (starved && fed == 0)
                || operands.push_receive(ring, socket.target, name, told, starved) == Err(NoRoom)
            {
                return self.to_arm.put_back(turn);
            }
            (socket.arm, socket.had) = (Arm::Armed, turn.had());
            if starved {
                fed -= 1;
                self.to_arm.feed(slot, turn.had());
            }
        }
    }

    fn end_rests(&mut self) {
        while self.resting.front().is_some_and(|(until, _)| *until <= Instant::now()) {
            if let Some((_, slot)) = self.resting.pop_front() {
                let had = self.get(slot).map_or(0, |socket| socket.had);
                self.to_arm.add(slot, had);
            }
        }
    }

    /// Has the ring receive by a socket.
    pub(crate) fn have_armed(&mut self, slot: u32) {
        if let Some(socket) = self.get_mut(slot) {
            socket.arm = Arm::Needed;
            self.to_arm.add_new(slot);
        }
    }

    /// The receive of a socket has ended, for want of buffers or not: it is armed again, now or after a rest.
    pub(crate) fn receive_ended(&mut self, slot: u32, exhausted: bool) {
        let Some(socket) = self.get_mut(slot) else { return };
        if socket.failures > RECEIVE_FAILURES {
            socket.arm = Arm::Resting;
            self.resting.push_back((Instant::now() + REST, slot));
        } else {
            socket.arm = if exhausted { Arm::Starved } else { Arm::Needed };
            let had = socket.had;
            self.to_arm.add(slot, had);
        }
    }

    /// How many receives have to be armed.
    pub(crate) fn to_arm(&self) -> usize {
        self.to_arm.len()
    }

    /// When the first of those that rest is tried again, or what is left of closed ones.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let rests = self.resting.front().map(|(until, _)| *until);
        [rests, self.closed.deadline()].into_iter().flatten().min()
    }

    /// How many are received from without the ring; `None` where that is not done.
    pub(crate) fn asked(&self) -> Option<usize> {
        self.asked.as_ref().map(Vec::len)
    }

    /// One of those that are received from without the ring, by its number among them.
    pub(crate) fn asked_at(&mut self, at: usize) -> Option<(&mut Member, &Socket)> {
        let member = self.asked.as_mut()?.get_mut(at)?;
        let socket = self.slots.get(member.slot as usize)?.as_ref()?;
        (socket.arm == Arm::Direct).then_some((member, socket))
    }

    /// Those that have become the ring's are not asked any more.
    pub(crate) fn ask_no_others(&mut self) {
        let Self { asked, slots, .. } = self;
        let is_asked = |slot: u32| matches!(slots.get(slot as usize), Some(Some(s)) if s.arm == Arm::Direct);
        if let Some(asked) = asked {
            asked.retain(|member| is_asked(member.slot));
        }
    }

    /// Asks the kernel whether a socket takes so much, and has the ring watch for room if not.
    pub(crate) fn ask_for_room(&mut self, engine: &mut Engine, slot: u32, cost: u64) -> bool {
        let Some(socket) = self.get_mut(slot) else { return false };
        let room = socket.credit.ask(&socket.socket, cost);
        if !room {
            self.is_now_full(engine, slot);
        }
        room
    }

    /// A socket's send buffer is full: nothing is sent by it until the ring says that there is room.
    pub(crate) fn is_now_full(&mut self, engine: &mut Engine, slot: u32) {
        let Some(socket) = self.get_mut(slot) else { return };
        if !socket.credit.blocked {
            socket.credit.block();
            self.watch_for_room(engine, slot);
        }
    }

    /// Watches a full socket for room.
    fn watch_for_room(&mut self, engine: &mut Engine, slot: u32) {
        let name = UserData::on_slot(Kind::Writable, slot, self.generation(slot));
        let Some(socket) = self.get(slot) else { return };
        let Engine { ring, operands, .. } = engine;
        if let Err(NoRoom) = operands.push_poll(ring, socket.target, libc::POLLOUT, name) {
            self.to_watch.push(slot);
        }
    }

    /// Whether a full socket is not watched, as that found no room: the turn is not to wait.
    pub(crate) fn any_unwatched(&self) -> bool {
        !self.to_watch.is_empty()
    }

    /// The last completion has come of what was armed under this name.
    #[inline]
    pub(crate) fn ended(&mut self, name: UserData) {
        self.closed.ended(name);
    }

    /// The watch for room ended that has this name; whether it was of a socket that is open.
    pub(crate) fn watch_ended(&mut self, name: UserData) -> bool {
        self.ended(name);
        let Some(socket) = self.current(name.index, name.generation) else { return false };
        socket.credit.blocked = false;
        true
    }

    /// Everything was cancelled: all watches for room are over, and what was armed on closed sockets.
    #[cold]
    pub(crate) fn forget_watches(&mut self) {
        self.closed.all_ended();
        self.slots.iter_mut().flatten().for_each(|socket| socket.credit.blocked = false);
    }

    /// Does again what there was no room or no memory for.
    #[inline]
    pub(crate) fn catch_up(&mut self, engine: &mut Engine) {
        self.to_arm.turn_begins();
        if !self.to_watch.is_empty() {
            self.watch_again(engine);
        }
        let Self { closed, slots, .. } = self;
        closed.tend(engine, |slot| slots[slot as usize].is_some());
    }

    #[cold]
    fn watch_again(&mut self, engine: &mut Engine) {
        for slot in std::mem::take(&mut self.to_watch) {
            if self.get(slot).is_some_and(|socket| socket.credit.blocked) {
                self.watch_for_room(engine, slot);
            }
        }
    }

    /// The names of all receives and watches for arrivals that are armed.
    pub(crate) fn armed(&self) -> impl Iterator<Item = UserData> {
        let named = |(slot, socket): (usize, &Option<Socket>)| {
            let (slot, socket) = (slot as u32, socket.as_ref()?);
            let generation = self.generation(slot);
            let watched = socket.own.is_some_and(|own| own.stage == Stage::Watched);
            let receive = (socket.arm == Arm::Armed).then(|| UserData::receive(slot, generation));
            let watch = watched.then(|| UserData::on_slot(Kind::Watch, slot, generation));
            Some(receive.into_iter().chain(watch))
        };
        self.slots.iter().enumerate().filter_map(named).flatten()
    }
}
