//! How things arrive: completions are taken out of the ring, and what they carry is handed over.

use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use shardgram_core::Ecn;
use shardgram_core::datagram::{Meta, SocketId};
use shardgram_core::driver::{Arrival, Sink};
use shardgram_core::outbox::Outbox;

use crate::completion::{self, Completion};
use crate::direct::Asked;
use crate::driver::UringDriver;
use crate::errno::{hear, network_error};
use crate::marker;
use crate::recv::Received;
use crate::sockets::{Arm, Socket};
use crate::user_data::{Kind, UserData};

/// Receives in a row that may fail without bringing anything before the socket rests, and how long.
const RECEIVE_FAILURES: u32 = 16;
const REST: Duration = Duration::from_millis(100);

/// A completion of a receive or a watch that was not yet handed over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Completed {
    data: UserData,
    result: i32,
    flags: u32,
}

/// Which socket an arrival came by, as far as handing it over goes.
#[derive(Clone, Copy, Debug)]
struct Whence {
    slot: u32,
    id: SocketId,
    wildcard: bool,
    /// What comes by it says where it was sent to.
    told: bool,
    /// The address it stands for under a wildcard.
    address: Option<std::net::IpAddr>,
}

impl Whence {
    fn of(slot: u32, socket: &Socket) -> Self {
        let address = socket.under_wildcard.then(|| socket.local.ip());
        let Socket { id, wildcard, told, .. } = *socket;
        Self { slot, id, wildcard, told, address }
    }
}

impl UringDriver {
    /// Takes completions out of the queue: failures of sends are noted with their trains, receives wait
    /// to be handed over.
    pub(crate) fn reap(&mut self, outbox: &Outbox) {
        let (mut failed, mut erring) = (Vec::new(), Vec::new());
        for entry in self.engine.ring.completions() {
            let Some(data) = UserData::from_bits(entry.user_data()) else { continue };
            match data.kind {
                Kind::Receive | Kind::Watch => {
                    let (result, flags) = (entry.result(), entry.flags());
                    self.completed.push_back(Completed { data, result, flags });
                }
                Kind::Send if entry.result() < 0 => failed.push((data, -entry.result())),
                Kind::Late => self.late = Some(-entry.result()),
                Kind::Writable => {
                    if let Some(socket) = self.sockets.current(data.index, data.generation) {
                        socket.credit.blocked = false;
                        self.woken = true;
                        if entry.result() & i32::from(libc::POLLERR) != 0 {
                            erring.push(data.index);
                        }
                    }
                }
                Kind::Event => {
                    self.event_armed = false;
                    self.woken = true;
                }
                Kind::Wake => self.woken = true,
                Kind::Timer => self.coarse_timer = None,
                Kind::WakeFailed if entry.result() < 0 => {
                    if let Some(event) = self.fleet.event(data.index as u16) {
                        event.ring();
                    }
                }
                Kind::Send | Kind::WakeFailed | Kind::Cancel => {}
            }
        }
        for (data, errno) in failed {
            self.send_refused(outbox, data, errno);
        }
        for slot in erring {
            self.hear(slot);
        }
    }

    /// Hands over what a completion carries; whether nothing more is wanted in this turn.
    pub(crate) fn hand_over(&mut self, done: Completed, sink: &mut impl Sink) -> bool {
        let Completed { data, result, flags } = done;
        if data.kind == Kind::Watch {
            self.watch_ended(data, result);
            return false;
        }
        let completion = completion::decode(result, flags);
        let buffers = &mut self.engine.buffers;
        // One that the kernel did not have is not to be believed.
        let buffer = completion.buffer().filter(|id| buffers.take(*id));
        let Some(socket) = self.sockets.current(data.index, data.generation) else {
            if let Some(id) = buffer {
                buffers.keep(id, 0);
                sink.too_late(1);
            }
            return false;
        };
        let whence = Whence::of(data.index, socket);
        let mut stop = false;
        match (completion, buffer) {
            (Completion::Data { len, .. }, Some(buffer)) => {
                socket.failures = 0;
                stop = self.hand_over_buffer(whence, buffer, len as usize, sink);
            }
            (Completion::Failed { .. }, Some(buffer)) => buffers.keep(buffer, 0),
            (Completion::Failed { .. }, None) => {}
            (Completion::Data { .. } | Completion::Nowhere { .. }, _) => sink.malformed(),
        }
        if !completion.more() {
            self.receive_ended(whence, result, sink);
        }
        stop
    }

    /// Hands over what has come by the sockets that are received from without the ring: a batch of each at most.
    pub(crate) fn receive_directly(&mut self, budget: usize, sink: &mut impl Sink) {
        let Some(mut direct) = self.direct.take() else { return };
        let mut left = budget;
        for at in 0..direct.slots.len() {
            let slot = direct.slots[at];
            let Some(socket) = self.sockets.get(slot).filter(|_| left > 0) else { continue };
            let whence = Whence::of(slot, socket);
            let layout = self.engine.operands.layout(whence.told);
            let asked = direct.ask(socket.socket.as_raw_fd(), layout, &mut self.engine.buffers);
            for filled in &direct.filled {
                // What was taken from the socket is handed over, even if the handler fails meanwhile.
                let stop = self.hand_over_buffer(whence, filled.buffer, filled.len, sink);
                left = if stop { 0 } else { left.saturating_sub(1) };
            }
            if let Asked::Failed(errno) = asked {
                tracing::debug!(errno, id = ?whence.id, "a receive failed; it is the ring's from now on");
                self.arm_in_ring(slot);
            }
        }
        let direct_still =
            |slot: &u32| self.sockets.get(*slot).is_some_and(|socket| socket.arm == Arm::Direct);
        direct.slots.retain(direct_still);
        self.direct = Some(direct);
    }

    /// Has a socket that was received from directly armed.
    fn arm_in_ring(&mut self, slot: u32) {
        if let Some(socket) = self.sockets.get_mut(slot) {
            socket.arm = Arm::Needed;
            self.to_arm.push_back(slot);
        }
    }

    /// A receive ended, for whatever reason: it is armed again, unless its socket is being closed.
    fn receive_ended(&mut self, whence: Whence, result: i32, sink: &mut impl Sink) {
        let Whence { slot, id, .. } = whence;
        let Some(socket) = self.sockets.get_mut(slot) else { return };
        if socket.cancelling {
            return self.close_retired(slot);
        }
        let exhausted = result == -libc::ENOBUFS;
        let failed = result < 0 && !exhausted && result != -libc::ECANCELED;
        let about_peer = failed && socket.own.is_some();
        let heard = if about_peer { hear(&socket.socket) } else { Vec::new() };
        if failed && !(about_peer && network_error(-result, &socket.socket).is_some()) {
            socket.failures += 1;
            tracing::debug!(errno = -result, ?id, "a receive ended and is armed again");
        }
        if socket.failures > RECEIVE_FAILURES {
            socket.arm = Arm::Resting;
            self.resting.push_back((Instant::now() + REST, slot));
        } else {
            socket.arm = if exhausted { Arm::Starved } else { Arm::Needed };
            self.to_arm.push_back(slot);
        }
        self.rearmed.push(exhausted);
        for error in heard {
            sink.peer_error(id, error);
        }
    }

    fn hand_over_buffer(&mut self, whence: Whence, buffer: u16, filled: usize, sink: &mut impl Sink) -> bool {
        let bytes = self.engine.buffers.bytes(buffer, filled);
        let Some(received) = crate::recv::parse(bytes, self.engine.operands.layout(whence.told)) else {
            self.engine.buffers.keep(buffer, 0);
            sink.malformed();
            return false;
        };
        let Received { remote, control, payload, truncated_from } = received;
        let start = payload.start as u32;
        let payload = &mut bytes[payload];
        if payload.len() == marker::LENGTH
            && self.accept.is_some()
            && let Some(let_in) = self.markers.came(whence.slot, remote, payload)
        {
            self.engine.buffers.keep(buffer, 0);
            self.let_in(&let_in);
            return false;
        }
        let mut local = if whence.wildcard { control.local } else { whence.address };
        // With IPv4 the kernel says from where to answer, and with IPv6 nothing if it was sent to a group.
        let to_many = whence.told && control.destination != control.local;
        let group = control.destination.filter(|_| to_many);
        if to_many && whence.wildcard && local.is_none() {
            local = self.answering.answering(control.interface, remote.ip());
        }
        if whence.wildcard
            && !to_many
            && let (Some(listen), Some(ip)) = (whence.id.as_listener(), local)
        {
            self.addresses.seen(listen, ip);
        }
        if control.segment_size.is_none() {
            self.gathering.came(remote);
        }
        let mut meta = Meta::default();
        meta.truncated_from = truncated_from;
        meta.interface = control.interface;
        meta.ecn = control.ecn.map_or(Ecn::NotEct, Ecn::from_bits);
        meta.kernel_time = control.time;
        meta.to_many = to_many;
        if let Some(group) = group {
            sink.sent_to(group);
        }
        let fate = sink.datagram(Arrival {
            socket: whence.id,
            remote,
            local,
            meta,
            segment: control.segment_size.map_or(0, usize::from),
            bytes: payload,
            buffer: u32::from(buffer),
            start,
        });
        self.engine.buffers.keep(buffer, fate.kept);
        fate.stop
    }
}
