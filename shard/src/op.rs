//! The entries this driver submits, and the memory they point to.
//!
//! Two kinds of memory: what a send points to, which the kernel is done with when the submission returns
//! (sends are made with `MSG_DONTWAIT`, so none is ever left for later) or which is taken back if the kernel does not
//! take it, and what a receive points to, which lives as long as the ring.

use std::os::fd::RawFd;
use std::time::Duration;

use io_uring::opcode;
use io_uring::squeue::Flags;
use io_uring::types::{Fd, Fixed, Timespec};
use shardgram_core::datagram::Path;
use shardgram_sys::addr;
use shardgram_sys::cmsg::ControlSpace;
use shardgram_sys::{Heading, TRAIN_LIMITS};

use crate::buf_ring::GROUP;
use crate::faults;
use crate::recv::{Layout, Layouts, NAME_SPACE};
use crate::ring::{NoRoom, Ring};
use crate::user_data::{Kind, UserData};

/// Pieces of a send, at most: a train has no more datagrams.
const MAX_PIECES: usize = TRAIN_LIMITS.datagrams as usize;

/// `IORING_RECVSEND_POLL_FIRST` (5.19): wait for readiness before the first attempt.
const POLL_FIRST: u16 = 1;

/// What entries may point to. Declared after the ring wherever both are kept, so that it is dropped later.
pub(crate) struct Operands {
    /// Templates of receives, which differ in their control data: for specific addresses and for wildcards, where each
    /// says where it was sent to.
    specific: Box<libc::msghdr>,
    wildcard: Box<libc::msghdr>,
    layouts: Layouts,
    event_count: Box<u64>,
    timer: Box<Timespec>,
    sends: Box<[SendOperand]>,
    used: usize,
    /// Where the pieces of trains lie, those of one train side by side.
    vectors: Box<[libc::iovec]>,
    vectors_used: usize,
}

/// What a send carries.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load<I> {
    /// Its bytes, in pieces.
    pub(crate) pieces: I,
    /// Size of each datagram but the last, if it is several.
    pub(crate) segment: Option<u16>,
}

impl<'a> Load<std::iter::Once<&'a [u8]>> {
    /// One datagram.
    pub(crate) fn one(bytes: &'a [u8]) -> Self {
        Self { pieces: std::iter::once(bytes), segment: None }
    }
}

/// How an entry names a socket.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    /// By its place in the ring's table of fixed files.
    Fixed(u32),
    /// By its descriptor.
    Plain(RawFd),
}

/// The same entry for either way of naming a socket: the library has a type for each.
macro_rules! on {
    ($target:expr, $fd:ident => $entry:expr) => {
        match $target {
            Target::Fixed(slot) => {
                let $fd = Fixed(slot);
                $entry
            }
            Target::Plain(fd) => {
                let $fd = Fd(fd);
                $entry
            }
        }
    };
}

/// Where a send goes.
#[derive(Clone, Copy)]
pub(crate) struct Destination<'a> {
    /// The socket to send from.
    pub(crate) target: Target,
    pub(crate) path: &'a Path,
    pub(crate) kind: Sender,
    /// The byte of DSCP and congestion bits, if it is another than the socket's.
    pub(crate) class: Option<u8>,
}

impl Destination<'_> {
    /// Whether a send to it has nothing else to say.
    #[inline]
    pub(crate) fn is_all(&self) -> bool {
        self.kind != Sender::Wildcard && self.class.is_none()
    }

    /// Writes the address into `name`; gives where it is then and how long, or null for a socket that is connected
    /// to it.
    #[inline]
    pub(crate) fn write_name(
        &self,
        name: &mut libc::sockaddr_storage,
    ) -> (*const libc::sockaddr, libc::socklen_t) {
        match self.kind {
            Sender::Connected => (std::ptr::null(), 0),
            Sender::Unconnected | Sender::Wildcard => {
                let len = addr::write_to(&self.path.remote, name);
                ((&raw const *name).cast(), len)
            }
        }
    }
}

/// What a send has to say beside the payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sender {
    /// Where to.
    Unconnected,
    /// Where to, and where from: the socket is bound to a wildcard.
    Wildcard,
    /// Nothing.
    Connected,
}

struct SendOperand {
    name: libc::sockaddr_storage,
    header: libc::msghdr,
    control: ControlSpace,
}

impl std::fmt::Debug for Operands {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Operands").field("used", &self.used).finish_non_exhaustive()
    }
}

fn zeroed_header() -> libc::msghdr {
    // SAFETY: `msghdr` is made of integers and pointers, for which all-zero bytes are valid.
    unsafe { std::mem::zeroed() }
}

impl Operands {
    /// Room for so many sends in one submission, and receives into buffers of these layouts.
    pub(crate) fn new(sends: usize, layouts: Layouts) -> Self {
        let template = |control: usize| {
            let mut header = zeroed_header();
            header.msg_namelen = NAME_SPACE as libc::socklen_t;
            header.msg_controllen = control as _;
            Box::new(header)
        };
        let send = |_| SendOperand {
            // SAFETY: `sockaddr_storage` is made of integers, for which all-zero bytes are valid.
            name: unsafe { std::mem::zeroed() },
            header: zeroed_header(),
            control: ControlSpace::new(),
        };
        let nothing = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        Self {
            specific: template(layouts.specific.control),
            wildcard: template(layouts.wildcard.control),
            layouts,
            event_count: Box::new(0),
            timer: Box::new(Timespec::new()),
            sends: (0..sends).map(send).collect(),
            used: 0,
            vectors: vec![nothing; sends + MAX_PIECES].into(),
            vectors_used: 0,
        }
    }

    /// How a buffer is laid out that a receive of a socket filled which says where things were sent to, or does not.
    #[inline]
    pub(crate) fn layout(&self, told: bool) -> Layout {
        if told { self.layouts.wildcard } else { self.layouts.specific }
    }

    /// Arms a multishot receive.
    pub(crate) fn push_receive(
        &self,
        ring: &mut Ring,
        target: Target,
        name: UserData,
        told: bool,
        poll_first: bool,
    ) -> Result<(), NoRoom> {
        let header: *const libc::msghdr = if told { &*self.wildcard } else { &*self.specific };
        // MSG_TRUNC: the true length of a datagram that was cut is reported.
        let entry = on!(target, fd => opcode::RecvMsgMulti::new(fd, header, GROUP)
            .flags(libc::MSG_TRUNC as u32)
            .ioprio(if poll_first { POLL_FIRST } else { 0 })
            .build())
        .user_data(name.bits());
        // SAFETY: the header is boxed, never changed, and dropped after the ring.
        unsafe { ring.push(&entry) }
    }

    /// Watches a socket once: until something can be received (POLLIN), or until there is room to send
    /// (POLLOUT). An error of the socket ends it too.
    pub(crate) fn push_poll(
        &self,
        ring: &mut Ring,
        target: Target,
        events: libc::c_short,
        name: UserData,
    ) -> Result<(), NoRoom> {
        let entry = on!(target, fd => opcode::PollAdd::new(fd, events as u32).build()).user_data(name.bits());
        // SAFETY: the entry points to nothing.
        unsafe { ring.push(&entry) }
    }

    /// Cancels what has this name; its own completion tells. That nothing has it is as good.
    pub(crate) fn push_cancel(&self, ring: &mut Ring, name: UserData) -> Result<(), NoRoom> {
        if faults::misses() {
            return Ok(());
        }
        let entry = opcode::AsyncCancel::new(name.bits())
            .build()
            .flags(Flags::SKIP_SUCCESS)
            .user_data(UserData::new(Kind::Cancel, 0).bits());
        // SAFETY: the entry points to nothing.
        unsafe { ring.push(&entry) }
    }

    /// Reads this shard's event descriptor, so that a wake-up completes.
    pub(crate) fn push_event_read(&mut self, ring: &mut Ring, event: RawFd) -> Result<(), NoRoom> {
        let into: *mut u64 = &mut *self.event_count;
        let entry = opcode::Read::new(Fd(event), into.cast(), size_of::<u64>() as u32)
            .build()
            .user_data(UserData::new(Kind::Event, 0).bits());
        // SAFETY: eight bytes that are boxed, used for nothing else, and dropped after the ring; one such
        // read is outstanding at most.
        unsafe { ring.push(&entry) }
    }

    /// Sets a timer that completes after so long, whatever else does.
    pub(crate) fn push_timer(&mut self, ring: &mut Ring, after: Duration) -> Result<(), NoRoom> {
        *self.timer = Timespec::from(after);
        let entry = opcode::Timeout::new(&raw const *self.timer)
            .build()
            .user_data(UserData::new(Kind::Timer, 0).bits());
        // SAFETY: the time is boxed and dropped after the ring; the kernel reads it at the submission, and
        // one such timer is outstanding at most.
        unsafe { ring.push(&entry) }
    }

    /// Wakes another shard by a message to its ring. A success posts nothing here. The message is never refused, not even
    /// by a full ring, so it carries no data: a ring that stalls would take any number of them.
    pub(crate) fn push_wake(&self, ring: &mut Ring, target: RawFd, shard: u16) -> Result<(), NoRoom> {
        let wake = UserData::new(Kind::Wake, 0).bits();
        let entry = opcode::MsgRingData::new(Fd(target), 0, wake, None)
            .build()
            .flags(Flags::SKIP_SUCCESS)
            .user_data(UserData::new(Kind::WakeFailed, u32::from(shard)).bits());
        // SAFETY: the entry points to nothing.
        unsafe { ring.push(&entry) }
    }

    /// What an operation points to that may still be outstanding outlives this. Sends are none: they are done when
    /// their submission returns.
    #[cold]
    pub(crate) fn leak(&mut self) {
        fn leak<T: Clone>(of: &mut Box<T>) {
            std::mem::forget(std::mem::replace(of, of.clone()));
        }
        leak(&mut self.specific);
        leak(&mut self.wildcard);
        leak(&mut self.event_count);
        leak(&mut self.timer);
    }

    /// Whether sends are queued that were not submitted.
    pub(crate) fn any_used(&self) -> bool {
        self.used > 0
    }

    /// Whether one more send fits into this submission.
    pub(crate) fn has_room(&self) -> bool {
        self.used < self.sends.len() && self.vectors_used + MAX_PIECES <= self.vectors.len()
    }

    /// The kernel has taken every send, or those that it did not take were taken back: none points here any more.
    pub(crate) fn submitted(&mut self) {
        (self.used, self.vectors_used) = (0, 0);
    }

    /// Queues the send of a datagram. Most have nothing to say but where to, and need no message header.
    ///
    /// # Safety
    /// As for [`Operands::push_send`].
    #[inline]
    pub(crate) unsafe fn push_datagram(
        &mut self,
        ring: &mut Ring,
        to: Destination<'_>,
        bytes: &[u8],
        name: UserData,
    ) -> Result<(), NoRoom> {
        let Some(operand) = self.sends.get_mut(self.used).filter(|_| to.is_all()) else {
            // SAFETY: passed on to the caller.
            return unsafe { self.push_send(ring, to, Load::one(bytes), name) };
        };
        self.used += 1;
        let (name_at, name_len) = to.write_name(&mut operand.name);
        let (start, len) = (bytes.as_ptr(), bytes.len() as u32);
        let entry = on!(to.target, fd => opcode::Send::new(fd, start, len)
            .flags(libc::MSG_DONTWAIT)
            .dest_addr(name_at)
            .dest_addr_len(name_len)
            .build())
        .flags(Flags::SKIP_SUCCESS)
        .user_data(name.bits());
        // SAFETY: the name lies in this submission's own operand, which is not used again before `submitted`; the
        // bytes are the caller's promise.
        unsafe { ring.push(&entry) }
    }

    /// Queues the send of a datagram or a train; a completion, if it fails, has this name.
    ///
    /// # Safety
    /// The bytes stay in place and unchanged until the kernel has taken the entry in a submission that returned, or it
    /// was taken back ([`Ring::take_back`]), and [`Operands::submitted`] is called only then.
    pub(crate) unsafe fn push_send<'a>(
        &mut self,
        ring: &mut Ring,
        to: Destination<'_>,
        load: Load<impl Iterator<Item = &'a [u8]>>,
        name: UserData,
    ) -> Result<(), NoRoom> {
        if !self.has_room() {
            // Whoever did not ask first has that send tried again.
            return Err(NoRoom);
        }
        let first = self.vectors_used;
        for (vector, piece) in self.vectors[first..].iter_mut().zip(load.pieces) {
            *vector = libc::iovec { iov_base: piece.as_ptr().cast_mut().cast(), iov_len: piece.len() };
            self.vectors_used += 1;
        }
        let vectors = &mut self.vectors[first..self.vectors_used];
        let operand = &mut self.sends[self.used];
        self.used += 1;
        let (name_at, name_len) = to.write_name(&mut operand.name);
        let from = (to.kind == Sender::Wildcard).then(|| to.path.local.ip());
        let heading = Heading { to: to.path.remote, from, segment: load.segment, traffic_class: to.class };
        let control_len = heading.write_control(&mut operand.control);
        operand.header.msg_name = name_at.cast_mut().cast();
        operand.header.msg_namelen = name_len;
        operand.header.msg_iov = vectors.as_mut_ptr();
        operand.header.msg_iovlen = vectors.len() as _;
        operand.header.msg_control = operand.control.as_mut_ptr();
        operand.header.msg_controllen = control_len as _;
        let header = &raw const operand.header;
        let entry =
            on!(to.target, fd => opcode::SendMsg::new(fd, header).flags(libc::MSG_DONTWAIT as u32).build())
                .flags(Flags::SKIP_SUCCESS)
                .user_data(name.bits());
        // SAFETY: name, header, vectors and control lie in what this submission has of the operands, which is not
        // used again before `submitted`; the bytes are the caller's promise.
        unsafe { ring.push(&entry) }
    }
}
