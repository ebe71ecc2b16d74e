//! The entries this driver submits, and the memory they point to.
//!
//! Two kinds of memory: what a send points to, which the kernel is done with when the submission returns
//! (sends are made with `MSG_DONTWAIT`, so none is ever left for later), and what a receive points to,
//! which lives as long as the ring.

use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

use io_uring::opcode;
use io_uring::squeue::Flags;
use io_uring::types::{Fd, Fixed, Timespec};
use shardgram_core::datagram::Path;
use shardgram_sys::addr;
use shardgram_sys::cmsg::{ControlBuilder, ControlSpace, RECV_CONTROL_SPACE};

use crate::buf_ring::GROUP;
use crate::recv::{Layout, NAME_SPACE};
use crate::ring::Ring;
use crate::user_data::{Kind, UserData};

/// `IORING_RECVSEND_POLL_FIRST` (5.19): wait for readiness before the first attempt.
const POLL_FIRST: u16 = 1;

/// What entries may point to. Declared after the ring wherever both are kept, so that it is dropped later.
pub(crate) struct Operands {
    /// Templates of receives: without control data for specific addresses, with it for wildcards.
    plain: Box<libc::msghdr>,
    with_control: Box<libc::msghdr>,
    event_count: Box<u64>,
    timer: Box<Timespec>,
    sends: Box<[SendOperand]>,
    used: usize,
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
    vector: libc::iovec,
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
    /// Room for so many sends in one submission.
    pub(crate) fn new(sends: usize) -> Self {
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
            vector: libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 },
            control: ControlSpace::new(),
        };
        Self {
            plain: template(0),
            with_control: template(RECV_CONTROL_SPACE),
            event_count: Box::new(0),
            timer: Box::new(Timespec::new()),
            sends: (0..sends).map(send).collect(),
            used: 0,
        }
    }

    /// How a buffer is laid out that a receive with or without control data filled.
    pub(crate) fn layout(wildcard: bool) -> Layout {
        Layout { control: if wildcard { RECV_CONTROL_SPACE } else { 0 } }
    }

    /// Arms a multishot receive.
    pub(crate) fn push_receive(
        &self,
        ring: &mut Ring,
        target: Target,
        name: UserData,
        wildcard: bool,
        poll_first: bool,
    ) -> io::Result<()> {
        let header: *const libc::msghdr = if wildcard { &*self.with_control } else { &*self.plain };
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
    ) -> io::Result<()> {
        let entry = on!(target, fd => opcode::PollAdd::new(fd, events as u32).build()).user_data(name.bits());
        // SAFETY: the entry points to nothing.
        unsafe { ring.push(&entry) }
    }

    /// Cancels what has this name; its own completion tells. That nothing has it is as good.
    pub(crate) fn push_cancel(&self, ring: &mut Ring, name: UserData) -> io::Result<()> {
        let entry = opcode::AsyncCancel::new(name.bits())
            .build()
            .flags(Flags::SKIP_SUCCESS)
            .user_data(UserData::new(Kind::Cancel, 0).bits());
        // SAFETY: the entry points to nothing.
        unsafe { ring.push(&entry) }
    }

    /// Reads this shard's event descriptor, so that a wake-up completes.
    pub(crate) fn push_event_read(&mut self, ring: &mut Ring, event: RawFd) -> io::Result<()> {
        let into: *mut u64 = &mut *self.event_count;
        let entry = opcode::Read::new(Fd(event), into.cast(), size_of::<u64>() as u32)
            .build()
            .user_data(UserData::new(Kind::Event, 0).bits());
        // SAFETY: eight bytes that are boxed, used for nothing else, and dropped after the ring; one such
        // read is outstanding at most.
        unsafe { ring.push(&entry) }
    }

    /// Sets a timer that completes after so long, whatever else does.
    pub(crate) fn push_timer(&mut self, ring: &mut Ring, after: Duration) -> io::Result<()> {
        *self.timer = Timespec::from(after);
        let entry = opcode::Timeout::new(&raw const *self.timer)
            .build()
            .user_data(UserData::new(Kind::Timer, 0).bits());
        // SAFETY: the time is boxed and dropped after the ring; the kernel reads it at the submission, and
        // one such timer is outstanding at most.
        unsafe { ring.push(&entry) }
    }

    /// Wakes another shard by a message to its ring. A success posts nothing here.
    pub(crate) fn push_wake(&self, ring: &mut Ring, target: RawFd, shard: u16) -> io::Result<()> {
        let wake = UserData::new(Kind::Wake, 0).bits();
        let entry = opcode::MsgRingData::new(Fd(target), 0, wake, None)
            .build()
            .flags(Flags::SKIP_SUCCESS)
            .user_data(UserData::new(Kind::WakeFailed, u32::from(shard)).bits());
        // SAFETY: the entry points to nothing.
        unsafe { ring.push(&entry) }
    }

    /// Whether sends are queued that were not submitted.
    pub(crate) fn any_used(&self) -> bool {
        self.used > 0
    }

    /// Whether one more send fits into this submission.
    pub(crate) fn has_room(&self) -> bool {
        self.used < self.sends.len()
    }

    /// The submission returned: no send points here any more.
    pub(crate) fn submitted(&mut self) {
        self.used = 0;
    }

    /// Queues the send of one datagram; a completion, if it fails, has this name.
    ///
    /// # Safety
    /// `bytes` stays in place and unchanged until the submission returns, and
    /// [`Operands::submitted`] is called only then.
    pub(crate) unsafe fn push_send(
        &mut self,
        ring: &mut Ring,
        to: Destination<'_>,
        bytes: &[u8],
        name: UserData,
    ) -> io::Result<()> {
        let Some(operand) = self.sends.get_mut(self.used) else {
            return Err(io::Error::other("more sends than operands"));
        };
        self.used += 1;
        let Destination { target, path, kind } = to;
        let to_len = match kind {
            Sender::Connected => 0,
            Sender::Unconnected | Sender::Wildcard => addr::write_to(&path.remote, &mut operand.name),
        };
        let to: *const libc::sockaddr = (&raw const operand.name).cast();
        let (start, len) = (bytes.as_ptr(), bytes.len() as u32);
        let entry = match kind {
            Sender::Connected => {
                on!(target, fd => opcode::Send::new(fd, start, len).flags(libc::MSG_DONTWAIT).build())
            }
            Sender::Unconnected => on!(target, fd => opcode::Send::new(fd, start, len)
                .flags(libc::MSG_DONTWAIT)
                .dest_addr(to)
                .dest_addr_len(to_len)
                .build()),
            Sender::Wildcard => {
                let control_len =
                    ControlBuilder::new(&mut operand.control).packet_info(path.local.ip(), 0).finish();
                operand.vector.iov_base = start.cast_mut().cast();
                operand.vector.iov_len = bytes.len();
                operand.header.msg_name = to.cast_mut().cast();
                operand.header.msg_namelen = to_len;
                operand.header.msg_iov = &raw mut operand.vector;
                operand.header.msg_iovlen = 1;
                operand.header.msg_control = operand.control.as_mut_ptr();
                operand.header.msg_controllen = control_len as _;
                let header = &raw const operand.header;
                on!(target, fd => opcode::SendMsg::new(fd, header).flags(libc::MSG_DONTWAIT as u32).build())
            }
        };
        let entry = entry.flags(Flags::SKIP_SUCCESS).user_data(name.bits());
        // SAFETY: name, header, vector and control lie in this submission's own operand, which is not used
        // again before `submitted`; the bytes are the caller's promise.
        unsafe { ring.push(&entry) }
    }
}
