//! Receiving without the ring, and sending a little, for shards that never sleep.
//!
//! A shard that looks again and again needs nobody to tell it that something has come. Then the ring's way, by which
//! an arrival wakes a request that receives and posts a completion, costs more than to ask the socket: a round trip
//! of one datagram took 1.23 times as long. So the first few sockets of a shard that always spins are asked, and no
//! receive is armed on them. Further ones are the ring's, for asking each in every turn would cost the others time.
//!
//! In the same way a turn that has one or two datagrams to send sends them by a system call each.
//!
//! What recvmmsg(2) (Linux 2.6.33) fills is laid out as the ring lays it out, so it is read and handed over by the same
//! code.

use std::os::fd::RawFd;

use crate::buf_ring::BufRing;
use crate::op::Destination;
use crate::recv::{HEADER, Layout, NAME_SPACE};

/// Sockets that are asked, at most.
pub(crate) const SOCKETS: usize = 4;
/// Messages received by one call, at most.
const BATCH: usize = 16;
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

/// The sockets that are asked.
#[derive(Debug, Default)]
pub(crate) struct Direct {
    /// Their places.
    pub(crate) slots: Vec<u32>,
    pub(crate) filled: Vec<Filled>,
    /// How many messages the last call brought: the next one has room for twice as many.
    came: usize,
}

impl Direct {
    /// Receives what has come by a socket, as far as a batch and the spare buffers go. Does not wait.
    pub(crate) fn ask(&mut self, fd: RawFd, layout: Layout, buffers: &mut BufRing) -> Asked {
        self.filled.clear();
        let most = (2 * self.came).clamp(1, BATCH);
        self.filled
            .extend((0..most).map_while(|_| buffers.take_spare()).map(|buffer| Filled { buffer, len: 0 }));
        let result = receive(fd, layout, buffers, &mut self.filled);
        let came = if let Asked::Came(came) = result { came } else { 0 };
        self.came = came;
        for unused in self.filled.drain(came..).rev() {
            buffers.keep(unused.buffer, 0);
        }
        result
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
