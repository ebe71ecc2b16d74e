//! The least an io_uring server can be: the loop shardgram is measured against.
//!
//! One multishot `recvmsg` with provided buffers on a fixed file; each datagram's bytes are visited once and sent
//! back from the buffer they came in, with `MSG_DONTWAIT` and no completion for success. What came in a row from one
//! peer leaves as one train, and trains that came (UDP_GRO) stay whole. No peer table, no accounts, no timers, no
//! second socket. It is written as well as we can, for a weak rival would make a weak claim.
//!
//! The **patient** one gives a peer who sends several datagrams a little time to send more before it looks: handed
//! them by ones and twos, a server spends most of its time on turns. It does so only after a turn in which datagrams
//! that came one by one left as a train, so neither where peers wait for answers nor where trains come as such.

use std::error::Error;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};

use io_uring::squeue::Flags;
use io_uring::types::{BufRingEntry, Fixed};
use io_uring::{IoUring, cqueue, opcode, squeue};

use super::{Mode, Task, Wait, announce};
use crate::pps::mmsg::{SEGMENT_CONTROL, TRAIN_BYTES, TRAIN_DATAGRAMS, TRAIN_STRIDE, segment_control};
use crate::pps::system;
use crate::pps::tally::Tally;
use crate::pps::wire::Kind;

/// The name of the contender that is patient.
pub const PATIENT: &str = "bare-uring-patient";
const BUFFERS: u16 = 256;
/// Completions of a turn.
const BUDGET: usize = 64;
const ENTRIES: u32 = 512;
/// Of the header that the kernel writes before name, control messages and payload.
const HEADER: usize = 16;
/// Flags of io_uring_enter(2).
const IORING_ENTER_GETEVENTS: u32 = 1;
const IORING_ENTER_EXT_ARG: u32 = 8;
const NAME: usize = size_of::<libc::sockaddr_in>();
const CONTROL: usize = 24;
const RECEIVE: u64 = 1 << 32;
/// How long the patient one waits, and for how many completions at most.
const PATIENCE_US: u32 = 100;
const PATIENT_FOR: u32 = 32;

/// `struct io_uring_getevents_arg` of `linux/io_uring.h`; `min_wait_usec` since Linux 6.12.
#[repr(C)]
struct WaitArgument {
    sigmask: u64,
    sigmask_size: u32,
    min_wait_usec: u32,
    timeout: u64,
}

struct Buffers {
    ring: *mut BufRingEntry,
    memory: *mut u8,
    tail: u16,
}

fn map(len: usize) -> *mut u8 {
    // SAFETY: an anonymous mapping at an address of the kernel's choice.
    let at = unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        libc::mmap(std::ptr::null_mut(), len, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0)
    };
    assert_ne!(at, libc::MAP_FAILED, "mmap: {}", std::io::Error::last_os_error());
    at.cast()
}

impl Buffers {
    fn new() -> Self {
        let ring = map(usize::from(BUFFERS) * size_of::<BufRingEntry>()).cast();
        Self { ring, memory: map(usize::from(BUFFERS) * TRAIN_STRIDE), tail: 0 }
    }

    fn at(&self, id: u16) -> *mut u8 {
        // SAFETY: ids are below BUFFERS, the memory is BUFFERS strides long.
        unsafe { self.memory.add(usize::from(id) * TRAIN_STRIDE) }
    }

    fn give(&mut self, id: u16) {
        let address = self.at(id) as u64;
        // SAFETY: the slot lies in the ring; there are no more buffers than slots, so the kernel does not
        // read it now. The tail is in the first entry and only read by the kernel.
        unsafe {
            let entry = &mut *self.ring.add(usize::from(self.tail & (BUFFERS - 1)));
            entry.set_addr(address);
            entry.set_len(TRAIN_STRIDE as u32);
            entry.set_bid(id);
            self.tail = self.tail.wrapping_add(1);
            let tail = BufRingEntry::tail(self.ring).cast::<AtomicU16>();
            (*tail).store(self.tail, Ordering::Release);
        }
    }
}

fn build_ring() -> std::io::Result<IoUring> {
    let build = |no_array: bool| {
        let mut builder = IoUring::builder();
        builder.setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag().setup_submit_all();
        builder.setup_cqsize(4 * ENTRIES);
        if no_array {
            builder.setup_no_sqarray();
        }
        builder.build(ENTRIES)
    };
    build(true).or_else(|_| build(false))
}

/// What came in one buffer.
#[derive(Clone, Copy)]
struct Came {
    name: *const libc::sockaddr_in,
    payload: *const u8,
    len: usize,
    segment: usize,
    datagrams: usize,
}

impl Came {
    /// Whether both are from one peer, and no end of a train lies between.
    fn goes_with(&self, next: &Self) -> bool {
        // SAFETY: both names lie in buffers that the kernel filled and gave away, and are as long as this.
        let same = unsafe {
            (*self.name).sin_port == (*next.name).sin_port
                && (*self.name).sin_addr.s_addr == (*next.name).sin_addr.s_addr
        };
        same && self.len == self.segment * self.datagrams
    }
}

/// A train on its way out; its message header points into the vectors beside it.
struct Train {
    header: libc::msghdr,
    control: [u64; SEGMENT_CONTROL / 8],
}

struct Bare {
    ring: IoUring,
    buffers: Buffers,
    receive: *const libc::msghdr,
    control: usize,
    in_flight: Vec<u16>,
    came: Vec<Came>,
    iovecs: Vec<libc::iovec>,
    trains: Vec<Train>,
    peers: Vec<libc::sockaddr_in>,
    trains_out: bool,
    patient: bool,
    /// Whether datagrams that came one by one left as a train in the last turn.
    joined: bool,
}

impl Bare {
    fn new(socket: &UdpSocket, trains: bool, patient: bool) -> Result<Self, Box<dyn Error>> {
        let ring = build_ring()?;
        ring.submitter().register_files(&[socket.as_raw_fd()])?;
        let mut buffers = Buffers::new();
        // SAFETY: page-aligned memory for BUFFERS entries that is never unmapped.
        unsafe { ring.submitter().register_buf_ring_with_flags(buffers.ring as u64, BUFFERS, 0, 0) }?;
        (0..BUFFERS).for_each(|id| buffers.give(id));
        if trains {
            system::take_trains(socket)?;
        }
        let control = if trains { CONTROL } else { 0 };
        // SAFETY: all-zero bytes are a valid msghdr.
        let receive: &'static mut libc::msghdr = Box::leak(Box::new(unsafe { std::mem::zeroed() }));
        receive.msg_namelen = NAME as u32;
        receive.msg_controllen = control as _;
        Ok(Self {
            ring,
            buffers,
            receive,
            control,
            in_flight: Vec::with_capacity(BUDGET),
            came: Vec::with_capacity(BUDGET),
            iovecs: Vec::with_capacity(BUDGET),
            trains: Vec::with_capacity(BUDGET),
            peers: Vec::new(),
            trains_out: trains,
            patient,
            joined: false,
        })
    }

    /// Queues an entry; if there is no room, what is queued goes to the kernel first.
    fn push(&mut self, entry: &squeue::Entry) {
        // SAFETY: what entries of sends point to stays until a turn's submission has returned, and sends that
        // never wait are over then; the header of the receive lives as long as the program.
        while unsafe { self.ring.submission().push(entry) }.is_err() {
            self.ring.submit().expect("io_uring_enter");
        }
    }

    fn arm(&mut self) {
        let entry = opcode::RecvMsgMulti::new(Fixed(0), self.receive, 0)
            .flags(libc::MSG_TRUNC as u32)
            .build()
            .user_data(RECEIVE);
        self.push(&entry);
    }

    /// Hands everything over, waits as it is to be waited, and takes the buffers back that were sent from.
    fn enter(&mut self, wait: Wait) {
        let result = match wait {
            Wait::Block if self.patient && self.joined => self.wait_for_more(),
            Wait::Block => self.ring.submit_and_wait(1),
            Wait::Spin => self.ring.submit(),
        };
        self.joined = false;
        match result.map_err(|error| error.raw_os_error()) {
            // The longest wait is over; nothing came, or a signal did.
            Err(error) if ![Some(libc::EINTR), Some(libc::ETIME)].contains(&error) => {
                panic!("io_uring_enter: {:?}", error.map(std::io::Error::from_raw_os_error))
            }
            _ => self.in_flight.drain(..).for_each(|id| self.buffers.give(id)),
        }
    }

    /// Hands everything over and waits for some time for many completions, and from then on for one.
    fn wait_for_more(&mut self) -> std::io::Result<usize> {
        let timeout = [1_i64, 0]; // struct __kernel_timespec: a second
        let argument = WaitArgument {
            sigmask: 0,
            sigmask_size: 8,
            min_wait_usec: PATIENCE_US,
            timeout: timeout.as_ptr() as u64,
        };
        let queued = self.ring.submission().len() as u32;
        let flags = IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG;
        // SAFETY: the argument is the kernel's, and it and the time it points to live until the call returns; the
        // entries are sound as `push` says.
        let result = unsafe { self.ring.submitter().enter(queued, PATIENT_FOR, flags, Some(&argument)) };
        match result {
            // Before Linux 6.12: nothing was submitted.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                self.patient = false;
                self.ring.submit_and_wait(1)
            }
            result => result,
        }
    }

    /// Takes what came; says whether the receive has to be armed again.
    fn collect(&mut self) -> bool {
        let mut again = false;
        self.came.clear();
        for done in self.ring.completion().take(BUDGET) {
            if done.user_data() != RECEIVE {
                continue;
            }
            again |= !cqueue::more(done.flags());
            let Some(id) = cqueue::buffer_select(done.flags()) else { continue };
            self.in_flight.push(id);
            let start = self.buffers.at(id);
            let len = done.result() as usize - HEADER - NAME - self.control;
            // SAFETY: the kernel filled this buffer as far as the result says and gave it away. The control
            // message, if its length is not 0, is that of UDP_GRO, cmsg(3): 16 bytes, then an integer.
            let came = unsafe {
                let segment = match start.add(4).cast::<u32>().read() {
                    20.. => start.add(HEADER + NAME + 16).cast::<u32>().read_unaligned() as usize,
                    _ => len,
                };
                let payload = start.add(HEADER + NAME + self.control);
                Came { name: start.add(HEADER).cast(), payload, len, segment: segment.max(1), datagrams: 1 }
            };
            self.came.push(came);
        }
        again
    }

    fn visit(&mut self, tally: &mut Tally) {
        for came in &mut self.came {
            // SAFETY: the kernel filled these bytes and gave them away.
            let payload = unsafe { std::slice::from_raw_parts(came.payload, came.len) };
            came.datagrams = tally.saw_train(payload, came.segment);
        }
    }

    /// Queues what came to be sent back, what came in a row from one peer as one train.
    fn send_back(&mut self) {
        self.iovecs.clear();
        self.trains.clear();
        let came = std::mem::take(&mut self.came);
        let mut at = 0;
        while at < came.len() {
            let first = came[at];
            let (mut bytes, mut datagrams, mut end) = (first.len, first.datagrams, at + 1);
            while self.trains_out && end < came.len() {
                let (last, next) = (&came[end - 1], &came[end]);
                let fits = bytes + next.len <= TRAIN_BYTES && datagrams + next.datagrams <= TRAIN_DATAGRAMS;
                // A shorter datagram ends a train, and none in it is longer than the first.
                let alike = next.segment == first.segment || next.datagrams == 1 && next.len < first.segment;
                if !(fits && alike && last.goes_with(next) && last.segment == first.segment) {
                    break;
                }
                (bytes, datagrams, end) = (bytes + next.len, datagrams + next.datagrams, end + 1);
            }
            if datagrams == 1 {
                self.push(&send(first.payload, first.len, first.name));
            } else {
                self.joined |= end - at > 1;
                let entry = self.train(&came[at..end], first.segment);
                self.push(&entry);
            }
            at = end;
        }
        self.came = came;
    }

    /// The entry of a train of these.
    fn train(&mut self, came: &[Came], segment: usize) -> squeue::Entry {
        let start = self.iovecs.len();
        self.iovecs.extend(
            came.iter()
                .map(|came| libc::iovec { iov_base: came.payload.cast_mut().cast(), iov_len: came.len }),
        );
        let mut control = [0; SEGMENT_CONTROL / 8];
        for (word, bytes) in control.iter_mut().zip(segment_control(segment).chunks_exact(8)) {
            *word = u64::from_ne_bytes(bytes.try_into().expect("8 bytes"));
        }
        // SAFETY: all-zero bytes are a valid msghdr.
        let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
        header.msg_name = came[0].name.cast_mut().cast();
        header.msg_namelen = NAME as u32;
        header.msg_iov = self.iovecs[start..].as_mut_ptr();
        header.msg_iovlen = came.len() as _;
        header.msg_controllen = SEGMENT_CONTROL as _;
        // Neither vector grows beyond a turn's budget, for which it has room: what they hold stays where it is.
        self.trains.push(Train { header, control });
        let train = self.trains.last_mut().expect("just pushed");
        train.header.msg_control = train.control.as_mut_ptr().cast();
        opcode::SendMsg::new(Fixed(0), &raw const train.header)
            .flags(libc::MSG_DONTWAIT as u32)
            .build()
            .flags(Flags::SKIP_SUCCESS)
    }

    fn fan_out(&mut self) {
        for at in 0..self.came.len() {
            let came = self.came[at];
            // SAFETY: the kernel filled these bytes and gave them away.
            let payload = unsafe { std::slice::from_raw_parts(came.payload, came.len) };
            if Kind::of(payload) == Kind::Publish {
                for peer in 0..self.peers.len() {
                    self.push(&send(came.payload, came.len, &raw const self.peers[peer]));
                }
                continue;
            }
            // SAFETY: the name lies in a buffer that the kernel filled and gave away.
            let name = unsafe { came.name.read_unaligned() };
            let known = |peer: &libc::sockaddr_in| {
                (peer.sin_port, peer.sin_addr.s_addr) == (name.sin_port, name.sin_addr.s_addr)
            };
            if !self.peers.iter().any(known) {
                // What is queued may point to peers, who may move.
                self.ring.submit().expect("io_uring_enter");
                self.peers.push(name);
            }
            self.push(&send(came.payload, came.len, came.name));
        }
    }
}

fn send(payload: *const u8, len: usize, name: *const libc::sockaddr_in) -> squeue::Entry {
    opcode::Send::new(Fixed(0), payload, len as u32)
        .flags(libc::MSG_DONTWAIT)
        .dest_addr(name.cast())
        .dest_addr_len(NAME as u32)
        .build()
        .flags(Flags::SKIP_SUCCESS)
}

/// Serves until `stop` is set and a signal or a datagram comes; then hands the tally back.
///
/// # Errors
/// If there is no io_uring here, or the socket refuses an option.
pub fn serve(
    socket: &UdpSocket,
    task: &Task,
    mut tally: Tally,
    stop: &AtomicBool,
) -> Result<Tally, Box<dyn Error>> {
    let mut bare = Bare::new(socket, !task.no_trains, task.contender == PATIENT)?;
    bare.arm();
    announce(socket.local_addr()?);
    while !stop.load(Ordering::Relaxed) {
        bare.enter(task.wait);
        let again = bare.collect();
        bare.visit(&mut tally);
        match task.mode {
            Mode::Sink => {}
            Mode::Echo => bare.send_back(),
            Mode::Fanout => bare.fan_out(),
        }
        if again {
            bare.arm();
        }
    }
    Ok(tally)
}
