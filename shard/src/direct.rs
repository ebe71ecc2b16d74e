//! Receiving without the ring, and sending a little, for shards that never sleep.
//!
//! A shard that looks again and again needs nobody to tell it that something has come. Then the ring's way, by which
//! an arrival wakes a request that receives and posts a completion, costs more than to ask the socket: a round trip
//! of one datagram took 1.23 times as long. So the first few sockets of a shard that always spins are asked, and no
//! receive is armed on them. Further ones are the ring's, for asking each in every turn would cost the others time.
//! Those that are asked and those of the ring take turns ([`Rotation`]).
//!
//! In the same way a turn that has one or two datagrams to send sends them by a system call each.
//!
//! What recvmmsg(2) (Linux 2.6.33) fills is laid out as the ring lays it out, so it is read and handed over by the same
//! code.

use std::collections::VecDeque;
use std::os::fd::RawFd;

use crate::buf_ring::BufRing;
use crate::op::Destination;
use crate::recv::{HEADER, Layout, NAME_SPACE};

/// Sockets that are asked, at most.
pub(crate) const SOCKETS: usize = 4;
/// Messages received by one call, at most.
pub(crate) const BATCH: usize = 16;
/// Receive buffers: those of a call, and those that queued sends refer to.
pub(crate) const BUFFERS: u16 = 64;

/// Sends in a turn, at most, that are made one by one without the ring: more are cheaper by one entry for all.
pub(crate) const SENDS: usize = 2;

/// Sends a datagram that has nothing to say but where to; whether it has left. If not, the ring is to send it and to
/// say why it cannot.
pub(crate) fn send(fd: RawFd, to: &Destination<'_>, bytes: &[u8]) -> bool {
    if !to.is_all() {
        return false;
    }
    // SAFETY: integers, for which all-zero bytes are valid.
    let mut name: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
    let (address, len) = to.write_name(&mut name);
    // SAFETY: bytes and name are borrowed or owned here, of these lengths, and outlive the call, which reads them.
    let sent =
        unsafe { libc::sendto(fd, bytes.as_ptr().cast(), bytes.len(), libc::MSG_DONTWAIT, address, len) };
    sent >= 0
}

/// What was received into a buffer, and how far it is filled.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Filled {
    pub(crate) buffer: u16,
    pub(crate) len: usize,
}

/// How asking a socket went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Asked {
    /// So many messages came.
    Came(usize),
    /// It failed.
    Failed(i32),
}

/// A socket that is asked.
#[derive(Debug)]
pub(crate) struct Member {
    /// Its place.
    pub(crate) slot: u32,
    /// How many messages the last call brought: the next one has room for twice as many.
    came: usize,
}

impl Member {
    pub(crate) fn new(slot: u32) -> Self {
        Self { slot, came: 0 }
    }
}

/// Whose turn it is: of the sockets that are asked, each, and of the ring, which has as many turns as sockets wait there.
#[derive(Debug, Default)]
pub(crate) struct Rotation {
    /// The number of the socket, or, beyond them, the ring's.
    at: usize,
    /// How much of its turn is left; nought before it begins.
    left: usize,
}

/// What was received without the ring.
#[derive(Debug, Default)]
pub(crate) struct Direct {
    /// By the last call.
    pub(crate) filled: Vec<Filled>,
    /// What was received and not handed over, since the handler failed: by place and generation of the socket.
    pub(crate) left: VecDeque<(u32, u32, Filled)>,
    pub(crate) rotation: Rotation,
}

impl Direct {
    /// Receives what has come by a socket, as far as a batch, `most` and the spare buffers go. Does not wait.
    pub(crate) fn ask(
        &mut self,
        member: &mut Member,
        fd: RawFd,
        layout: Layout,
        most: usize,
        buffers: &mut BufRing,
    ) -> Asked {
        self.filled.clear();
        let last = member.came;
        let room = (2 * last).clamp(1, BATCH).min(most);
        self.filled
            .extend((0..room).map_while(|_| buffers.take_spare()).map(|buffer| Filled { buffer, len: 0 }));
        let result = receive(fd, layout, buffers, &mut self.filled);
        let came = if let Asked::Came(came) = result { came } else { 0 };
        // A call with room for little says little of how much there is.
        member.came = if came == room { last.max(came) } else { came };
        for unused in self.filled.drain(came..).rev() {
            buffers.keep(unused.buffer, 0);
        }
        result
    }
}

impl Rotation {
    /// Whose turn it is among so many sockets and the ring, of which `done` is a bit each that have nothing more, and for
    /// how much at most; `length` says how long a turn is.
    pub(crate) fn next(
        &mut self,
        members: usize,
        done: u32,
        length: impl Fn(usize) -> usize,
    ) -> Option<(usize, usize)> {
        for _ in 0..=members {
            if self.at > members {
                (self.at, self.left) = (0, 0);
            }
            if done & (1 << self.at) == 0 {
                let whole = length(self.at);
                if self.left == 0 || self.left > whole {
                    self.left = whole;
                }
                return Some((self.at, self.left));
            }
            self.pass_on();
        }
        None
    }

    /// It had so much of its turn.
    pub(crate) fn had(&mut self, much: usize) {
        self.left = self.left.saturating_sub(much);
        if self.left == 0 {
            self.pass_on();
        }
    }

    /// Its turn is over.
    pub(crate) fn pass_on(&mut self) {
        (self.at, self.left) = (self.at + 1, 0);
    }
}

/// One call of recvmmsg(2), which says how far each buffer is filled.
fn receive(fd: RawFd, layout: Layout, buffers: &mut BufRing, filled: &mut [Filled]) -> Asked {
    // SAFETY: integers and pointers, for which all-zero bytes are valid.
    let mut headers: [libc::mmsghdr; BATCH] = unsafe { std::mem::zeroed() };
    let mut vectors = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; BATCH];
    let count = filled.len().min(BATCH);
    for ((header, vector), at) in headers.iter_mut().zip(&mut vectors).zip(&*filled) {
        let bytes = buffers.room(at.buffer, usize::MAX);
        let (front, payload) = bytes.split_at_mut(layout.payload());
        *vector = libc::iovec { iov_base: payload.as_mut_ptr().cast(), iov_len: payload.len() };
        let header = &mut header.msg_hdr;
        header.msg_name = front[HEADER..].as_mut_ptr().cast();
        header.msg_namelen = NAME_SPACE as libc::socklen_t;
        if layout.control > 0 {
            header.msg_control = front[HEADER + NAME_SPACE..].as_mut_ptr().cast();
            header.msg_controllen = layout.control as _;
        }
        header.msg_iov = vector;
        header.msg_iovlen = 1;
    }
    // MSG_TRUNC: the true length of a datagram that was cut is reported.
    let flags = libc::MSG_DONTWAIT | libc::MSG_TRUNC;
    // SAFETY: the headers point to vectors of this frame and to parts of buffers that are ours alone, of the
    // lengths that stand there; nothing else refers to those bytes before the call returns.
    let came =
        unsafe { libc::recvmmsg(fd, headers.as_mut_ptr(), count as u32, flags as _, std::ptr::null_mut()) };
    if came < 0 {
        return match std::io::Error::last_os_error().raw_os_error() {
            Some(libc::EAGAIN | libc::EINTR) | None => Asked::Came(0),
            Some(errno) => Asked::Failed(errno),
        };
    }
    for ((header, vector), at) in headers.iter().zip(&vectors).zip(&mut *filled).take(came as usize) {
        let (len, header) = (header.msg_len, &header.msg_hdr);
        at.len = layout.payload() + vector.iov_len.min(len as usize);
        // As `struct io_uring_recvmsg_out` has it.
        let words = [header.msg_namelen, header.msg_controllen as u32, len, header.msg_flags as u32];
        let front = buffers.bytes(at.buffer, HEADER);
        for (place, word) in front.chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_ne_bytes());
        }
    }
    Asked::Came(came as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How much each of four sockets and the ring gets, all of them flooded, with turns of `each` and budgets like these.
    fn shares(each: usize, in_ring: usize, budgets: &[usize]) -> Vec<usize> {
        let (mut rotation, mut had) = (Rotation::default(), vec![0; 5]);
        for budget in budgets.iter().cycle().take(10_000) {
            let mut left = *budget;
            while left > 0 {
                let length = |at| if at == 4 { each * in_ring } else { each };
                let (at, most) = rotation.next(4, 0, length).expect("all have more");
                let much = most.min(left);
                rotation.had(much);
                had[at] += much;
                left -= much;
            }
        }
        had
    }

    #[test]
    fn each_gets_the_same_whatever_the_budget() {
        for (each, budgets) in
            [(1, vec![1]), (8, vec![16, 32, 16]), (8, vec![20]), (8, vec![7, 3]), (3, vec![64])]
        {
            let had = shares(each, 2, &budgets);
            let least = had[..4].iter().copied().chain([had[4] / 2]).min().expect("some");
            let most = had[..4].iter().copied().chain([had[4].div_ceil(2)]).max().expect("some");
            assert!(most - least <= each, "turns of {each}, budgets {budgets:?}: {had:?}");
        }
    }

    #[test]
    fn who_has_nothing_is_passed_over() {
        let mut rotation = Rotation::default();
        assert_eq!(rotation.next(2, 0b011, |_| 8), Some((2, 8)));
        rotation.had(3);
        assert_eq!(rotation.next(2, 0b011, |_| 8), Some((2, 5)), "it goes on");
        assert_eq!(rotation.next(2, 0b011, |_| 2), Some((2, 2)), "for no longer than turns are");
        assert_eq!(rotation.next(2, 0b111, |_| 8), None);
        // One of them was closed.
        rotation.pass_on();
        assert_eq!(rotation.next(1, 0, |_| 8), Some((0, 8)));
    }
}
