//! How things arrive: what completions carry is handed over, and what the sockets hold that are asked.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::time::Duration;

use shardgram_core::Ecn;
use shardgram_core::datagram::{Meta, SocketId};
use shardgram_core::driver::{Arrival, Sink};
use shardgram_core::gathering::Gathering;
use shardgram_sys::Control;
use shardgram_sys::errors::told_by_network;

use crate::addresses::Addresses;
use crate::arrived::Completed;
use crate::completion::{self, Completion};
use crate::connected::Connected;
use crate::direct::{self, Asked, Direct, Filled};
use crate::engine::Engine;
use crate::errno::hear;
use crate::exchange::Exchange;
use crate::recv::{self, Received};
use crate::socket::Socket;
use crate::sockets::Sockets;
use crate::user_data::Kind;

/// Where it comes from what is handed over, and who is concerned by it.
#[derive(Debug)]
pub(crate) struct Means<'a> {
    pub(crate) exchange: &'a mut Exchange,
    pub(crate) sockets: &'a mut Sockets,
    pub(crate) connected: &'a mut Connected,
    pub(crate) addresses: &'a mut Addresses,
}

/// Hands over what arrives.
#[derive(Debug)]
pub(crate) struct Inbox {
    /// Receives armed again that the loop was not yet told of: whether buffers had run out.
    rearmed: Vec<bool>,
    /// Whether peers send more than one thing at a time.
    gathering: Gathering,
    /// What is received without the ring.
    direct: Direct,
}

/// Which socket an arrival came by, as far as handing it over goes.
#[derive(Debug)]
struct Whence {
    slot: u32,
    id: SocketId,
    wildcard: bool,
    /// What comes by it says where it was sent to.
    told: bool,
    /// The address it stands for under a wildcard.
    address: Option<IpAddr>,
}

impl Whence {
    #[inline]
    fn of(slot: u32, socket: &Socket) -> Self {
        let address = socket.under_wildcard.then(|| socket.local.ip());
        let Socket { id, wildcard, told, .. } = *socket;
        Self { slot, id, wildcard, told, address }
    }
}

impl Inbox {
    pub(crate) fn new(gathering: Gathering) -> Self {
        Self { rearmed: Vec::new(), gathering, direct: Direct::default() }
    }

    /// How long the coming wait may be for many things rather than one.
    pub(crate) fn patience(&mut self) -> Option<Duration> {
        self.gathering.wait()
    }

    /// Whether something was received without the ring and not handed over.
    pub(crate) fn any_left(&self) -> bool {
        !self.direct.left.is_empty()
    }

    /// Hands over up to `budget` arrivals, up to `each` of a socket before it is the next one's turn: how many that were.
    #[inline]
    pub(crate) fn receive(
        &mut self,
        means: &mut Means<'_>,
        budget: usize,
        each: usize,
        sink: &mut impl Sink,
    ) -> usize {
        means.exchange.arrived.set_turns(each);
        let handed_over = match means.sockets.asked() {
            Some(members) => self.receive_in_turn(means, members, budget, each, sink),
            None => self.hand_over_completed(means, budget, sink).0,
        };
        for exhausted in self.rearmed.drain(..) {
            sink.rearmed(exhausted);
        }
        handed_over
    }

    /// Hands over completions, up to `most`: how many, and whether nothing more is wanted in this turn.
    fn hand_over_completed(
        &mut self,
        means: &mut Means<'_>,
        most: usize,
        sink: &mut impl Sink,
    ) -> (usize, bool) {
        let mut left = most;
        while left > 0
            && let Some(done) = means.exchange.arrived.pop()
        {
            left -= 1;
            if self.hand_over(means, done, sink) {
                return (most - left, true);
            }
        }
        (most - left, false)
    }

    /// Hands over what a completion carries; whether nothing more is wanted in this turn.
    fn hand_over(&mut self, means: &mut Means<'_>, done: Completed, sink: &mut impl Sink) -> bool {
        let Completed { data, result, flags } = done;
        let Means { exchange, sockets, connected, .. } = means;
        if data.kind == Kind::Watch {
            connected.watch_ended(sockets, exchange, data, result);
            return false;
        }
        let completion = completion::decode(result, flags);
        let buffers = &mut exchange.engine.buffers;
        // One that the kernel did not have is not to be believed.
        let buffer = completion.buffer().filter(|id| buffers.take(*id));
        let Some(socket) = sockets.current(data.index, data.generation) else {
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
                socket.had += 1;
                socket.brought_one();
                stop = self.hand_over_buffer(means, &whence, Filled { buffer, len: len as usize }, sink);
            }
            (Completion::Failed { .. }, Some(buffer)) => buffers.keep(buffer, 0),
            (Completion::Failed { .. }, None) => {}
            (Completion::Data { .. } | Completion::Nowhere { .. }, _) => sink.malformed(),
        }
        if !completion.more() {
            self.receive_ended(means, &whence, result, sink);
        }
        stop
    }

    /// A receive ended, for whatever reason: it is armed again, unless its socket is being closed.
    fn receive_ended(&mut self, means: &mut Means<'_>, whence: &Whence, result: i32, sink: &mut impl Sink) {
        let Whence { slot, id, .. } = *whence;
        let Some(socket) = means.sockets.get_mut(slot) else { return };
        if socket.cancelling {
            return means.connected.close(means.sockets, means.exchange, slot);
        }
        let exhausted = result == -libc::ENOBUFS;
        let failed = result < 0 && !exhausted && result != -libc::ECANCELED;
        let about_peer = failed && socket.own.is_some();
        let heard = if about_peer { hear(&socket.socket) } else { Vec::new() };
        if failed && !(about_peer && told_by_network(-result).is_some()) {
            socket.failures += 1;
            tracing::debug!(errno = -result, ?id, "a receive ended and is armed again");
        }
        means.sockets.receive_ended(slot, exhausted);
        self.rearmed.push(exhausted);
        for error in heard {
            sink.peer_error(id, error);
        }
    }

    /// Hands over what a buffer was filled with; whether nothing more is wanted in this turn.
    fn hand_over_buffer(
        &mut self,
        means: &mut Means<'_>,
        whence: &Whence,
        filled: Filled,
        sink: &mut impl Sink,
    ) -> bool {
        let Filled { buffer, len } = filled;
        let Means { exchange, sockets, connected, addresses } = means;
        let Engine { buffers, operands, .. } = &mut exchange.engine;
        let bytes = buffers.bytes(buffer, len);
        let Some(received) = recv::parse(bytes, operands.layout(whence.told)) else {
            buffers.keep(buffer, 0);
            sink.malformed();
            return false;
        };
        let Received { remote, control, control_cut, payload, truncated_from } = received;
        let start = payload.start as u32;
        let payload = &mut bytes[payload];
        if connected.is_marker(sockets, whence.slot, remote, payload) {
            buffers.keep(buffer, 0);
            return false;
        }
        if control_cut && control.may_lack(whence.told) {
            buffers.keep(buffer, 0);
            sink.control_cut();
            return false;
        }
        if control.segment_size.is_none() {
            self.gathering.came(remote);
        }
        let to_many = whence.told && control.destination != control.local;
        if let Some(group) = control.destination.filter(|_| to_many) {
            sink.sent_to(group);
        }
        let fate = sink.datagram(Arrival {
            socket: whence.id,
            remote,
            local: local(addresses, whence, &control, remote, to_many),
            meta: meta(&control, truncated_from, to_many),
            segment: control.segment_size.map_or(0, usize::from),
            bytes: payload,
            buffer: u32::from(buffer),
            start,
        });
        buffers.keep(buffer, fate.kept);
        fate.stop
    }
}

/// The address of this host that a datagram was sent to, or that answers it.
#[inline]
fn local(
    addresses: &mut Addresses,
    whence: &Whence,
    control: &Control,
    remote: SocketAddr,
    to_many: bool,
) -> Option<IpAddr> {
    if !whence.wildcard {
        return whence.address;
    }
    if to_many {
        // With IPv4 the kernel says from where to answer, and with IPv6 nothing if it was sent to a group.
        return control.local.or_else(|| addresses.answering(control.interface, remote.ip()));
    }
    if let (Some(listen), Some(ip)) = (whence.id.as_listener(), control.local) {
        addresses.seen(listen, ip);
    }
    control.local
}

/// What control data says of a datagram beside its addresses.
#[inline]
fn meta(control: &Control, truncated_from: Option<usize>, to_many: bool) -> Meta {
    let mut meta = Meta::default();
    meta.truncated_from = truncated_from;
    meta.interface = control.interface;
    meta.ecn = control.ecn.map_or(Ecn::NotEct, Ecn::from_bits);
    meta.kernel_time = control.time;
    meta.to_many = to_many;
    meta
}

/// Receiving without the ring ([`crate::direct`]).
impl Inbox {
    /// Hands over what has come by the ring and by the sockets that are received from without it, in turn: how many that
    /// were.
    fn receive_in_turn(
        &mut self,
        means: &mut Means<'_>,
        members: usize,
        budget: usize,
        each: usize,
        sink: &mut impl Sink,
    ) -> usize {
        let mut left = budget;
        if !self.hand_over_first(means, &mut left, sink) {
            if means.exchange.engine.buffers.are_scarce_beside(means.exchange.arrived.len()) {
                // So that it is known of how many sockets the completions are that hold the buffers.
                means.exchange.arrived.sort_mixed();
            }
            self.take_turns(means, members, each, &mut left, sink);
        }
        means.sockets.ask_no_others();
        budget - left
    }

    /// Hands over what comes before anything else; whether nothing more is wanted in this turn.
    fn hand_over_first(&mut self, means: &mut Means<'_>, left: &mut usize, sink: &mut impl Sink) -> bool {
        while *left > 0
            && let Some((slot, generation, filled)) = self.direct.left.pop_front()
        {
            *left -= 1;
            if self.hand_over_filled(means, (slot, generation), filled, sink) {
                return true;
            }
        }
        while *left > 0 && means.exchange.arrived.any_in_a_hurry() {
            *left -= 1;
            if self.hand_over_completed(means, 1, sink).1 {
                return true;
            }
        }
        false
    }

    /// Has the sockets that are asked and those of the ring take turns.
    fn take_turns(
        &mut self,
        means: &mut Means<'_>,
        members: usize,
        each: usize,
        left: &mut usize,
        sink: &mut impl Sink,
    ) {
        let mut done = 0;
        while *left > 0 {
            let (asked, in_ring) = lengths(means, members, each);
            let length = |at| if at == members { in_ring } else { asked };
            let Some((at, most)) = self.direct.rotation.next(members, done, length) else { break };
            let most = most.min(*left);
            let (handed_over, stop) = match at == members {
                true => self.hand_over_completed(means, most, sink),
                false => self.ask(means, at, most, sink),
            };
            *left -= handed_over;
            if stop {
                self.direct.rotation.had(handed_over);
                break;
            }
            if handed_over < most {
                done |= 1 << at;
                self.direct.rotation.pass_on();
                // The ring's sockets bring no more before they are armed again, which the next turn does, and those that are
                // asked have no second turn before them.
                if at == members && means.sockets.to_arm() > 0 {
                    break;
                }
            } else {
                self.direct.rotation.had(handed_over);
            }
        }
    }

    /// Hands over up to `most` of what has come by one of the sockets that are asked.
    fn ask(&mut self, means: &mut Means<'_>, at: usize, most: usize, sink: &mut impl Sink) -> (usize, bool) {
        let Some((member, socket)) = means.sockets.asked_at(at) else { return (0, false) };
        let (slot, whence) = (member.slot, Whence::of(member.slot, socket));
        let Engine { buffers, operands, .. } = &mut means.exchange.engine;
        let layout = operands.layout(whence.told);
        let asked = self.direct.ask(member, socket.socket.as_raw_fd(), layout, most, buffers);
        if let Asked::Failed(errno) = asked {
            tracing::debug!(errno, id = ?whence.id, "a receive failed; it is the ring's from now on");
            means.sockets.have_armed(slot);
        }
        let came = self.direct.filled.len();
        for number in 0..came {
            let filled = self.direct.filled[number];
            if self.hand_over_buffer(means, &whence, filled, sink) {
                let generation = means.sockets.generation(slot);
                let rest = self.direct.filled[number + 1..].iter();
                self.direct.left.extend(rest.map(|filled| (slot, generation, *filled)));
                return (number + 1, true);
            }
        }
        (came, false)
    }

    /// Hands over what was received without the ring in an earlier turn.
    #[cold]
    fn hand_over_filled(
        &mut self,
        means: &mut Means<'_>,
        (slot, generation): (u32, u32),
        filled: Filled,
        sink: &mut impl Sink,
    ) -> bool {
        let Some(socket) = means.sockets.current(slot, generation) else {
            means.exchange.engine.buffers.keep(filled.buffer, 0);
            sink.too_late(1);
            return false;
        };
        socket.brought_one();
        let whence = Whence::of(slot, socket);
        self.hand_over_buffer(means, &whence, filled, sink)
    }
}

/// How long turns are of a socket that is asked, and of the ring with all its sockets. Where those wait for each other's
/// buffers, few of them can bring something at a time, and still all of them have their shares.
fn lengths(means: &Means<'_>, members: usize, each: usize) -> (usize, usize) {
    let Means { exchange, sockets, .. } = means;
    let waiting = exchange.arrived.sockets() + sockets.to_arm();
    let each = each.min(exchange.engine.buffers.shared_by(waiting));
    let alone = members + usize::from(!exchange.arrived.is_empty()) == 1;
    (if alone { direct::BATCH } else { each }, each * waiting)
}
