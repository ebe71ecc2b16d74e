//! The least an io_uring echo server can be: the loop shardgram is measured against.
//!
//! One multishot `recvmsg` with provided buffers on a fixed file; each datagram's bytes are visited once
//! and sent back from the buffer they came in, with `MSG_DONTWAIT` and no completion for success. No peer
//! table, no accounts, no timers, no second socket. It is written as well as we can, for a weak rival
//! would make a weak claim.
//!
//! `bare_uring ADDRESS CORE` prints `listening on ADDRESS`, and `received=N` when SIGTERM comes.
#![allow(unsafe_code, reason = "a bare ring is nothing but memory shared with the kernel")]

use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};

use io_uring::squeue::Flags;
use io_uring::types::{BufRingEntry, Fixed};
use io_uring::{IoUring, cqueue, opcode};

const BUFFERS: u16 = 256;
/// A little more than 64 KiB, and no multiple of the page size.
const STRIDE: usize = 65_536 + 192;
const NAME: usize = 32;
const HEADER: usize = 16 + NAME;
const RECEIVE: u64 = 1 << 32;

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
        Self { ring, memory: map(usize::from(BUFFERS) * STRIDE), tail: 0 }
    }

    fn at(&self, id: u16) -> *mut u8 {
        // SAFETY: ids are below BUFFERS, the memory is BUFFERS strides long.
        unsafe { self.memory.add(usize::from(id) * STRIDE) }
    }

    fn give(&mut self, id: u16) {
        let address = self.at(id) as u64;
        // SAFETY: the slot lies in the ring; there are no more buffers than slots, so the kernel does not
        // read it now. The tail is in the first entry and only read by the kernel.
        unsafe {
            let entry = &mut *self.ring.add(usize::from(self.tail & (BUFFERS - 1)));
            entry.set_addr(address);
            entry.set_len(STRIDE as u32);
            entry.set_bid(id);
            self.tail = self.tail.wrapping_add(1);
            let tail = BufRingEntry::tail(self.ring).cast::<AtomicU16>();
            (*tail).store(self.tail, Ordering::Release);
        }
    }
}

fn ring() -> IoUring {
    let build = |no_array: bool| {
        let mut builder = IoUring::builder();
        builder.setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag().setup_submit_all();
        builder.setup_cqsize(1024);
        if no_array {
            builder.setup_no_sqarray();
        }
        builder.build(256)
    };
    build(true).or_else(|_| build(false)).expect("io_uring")
}

fn arm(ring: &mut IoUring, header: *const libc::msghdr) {
    let entry = opcode::RecvMsgMulti::new(Fixed(0), header, 0)
        .flags(libc::MSG_TRUNC as u32)
        .build()
        .user_data(RECEIVE);
    // SAFETY: the header lives as long as the program.
    unsafe { ring.submission().push(&entry).expect("room in the submission queue") };
}

fn main() {
    let mut args = std::env::args().skip(1);
    let address = args.next().expect("an address");
    let core: usize = args.next().expect("a core").parse().expect("a number");
    core_affinity::set_for_current(core_affinity::CoreId { id: core });
    let stop = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGTERM, Arc::clone(&stop)).expect("a signal handler");

    let socket = UdpSocket::bind(&address).expect("bind");
    // As large as shardgram's: with less, datagrams are dropped and there is less to do.
    let options = socket2::SockRef::from(&socket);
    options.set_recv_buffer_size(4 << 20).expect("SO_RCVBUF");
    options.set_send_buffer_size(4 << 20).expect("SO_SNDBUF");
    let mut ring = ring();
    ring.submitter().register_files(&[socket.as_raw_fd()]).expect("fixed files");
    let mut buffers = Buffers::new();
    // SAFETY: page-aligned memory for BUFFERS entries that is never unmapped.
    unsafe { ring.submitter().register_buf_ring_with_flags(buffers.ring as u64, BUFFERS, 0, 0) }
        .expect("buffer ring");
    (0..BUFFERS).for_each(|id| buffers.give(id));
    // SAFETY: all-zero bytes are a valid msghdr.
    let header: &'static mut libc::msghdr = Box::leak(Box::new(unsafe { std::mem::zeroed() }));
    header.msg_namelen = NAME as u32;
    arm(&mut ring, header);
    println!("listening on {}", socket.local_addr().expect("bound"));

    let mut received = 0_u64;
    let mut visited = 0_u8;
    let mut in_flight = Vec::with_capacity(usize::from(BUFFERS));
    while !stop.load(Ordering::Relaxed) {
        match ring.submit_and_wait(1) {
            Err(e) if e.raw_os_error() != Some(libc::EINTR) => panic!("io_uring_enter: {e}"),
            _ => in_flight.drain(..).for_each(|id| buffers.give(id)),
        }
        let mut again = false;
        // SAFETY: completions are taken out while entries are queued; the two queues share nothing.
        let (completions, mut submissions) = unsafe { (ring.completion_shared(), ring.submission_shared()) };
        for done in completions.take(64) {
            if done.user_data() != RECEIVE {
                continue;
            }
            again |= !cqueue::more(done.flags());
            let Some(id) = cqueue::buffer_select(done.flags()) else { continue };
            let start = buffers.at(id);
            let len = done.result() as usize - HEADER;
            // SAFETY: the kernel filled this buffer as far as the result says and gave it away.
            let (name_len, payload) =
                unsafe { (start.cast::<u32>().read(), std::slice::from_raw_parts(start.add(HEADER), len)) };
            visited = payload.iter().fold(visited, |sum, byte| sum.wrapping_add(*byte));
            received += 1;
            // SAFETY: the name follows the 16 bytes of header.
            let name = unsafe { start.add(16) }.cast::<libc::sockaddr>();
            let entry = opcode::Send::new(Fixed(0), payload.as_ptr(), len as u32)
                .flags(libc::MSG_DONTWAIT)
                .dest_addr(name)
                .dest_addr_len(name_len)
                .build()
                .flags(Flags::SKIP_SUCCESS);
            // SAFETY: name and payload stay in the buffer until the submission has returned.
            unsafe { submissions.push(&entry).expect("64 datagrams fit into 256 entries") };
            in_flight.push(id);
        }
        drop(submissions);
        if again {
            arm(&mut ring, header);
        }
    }
    println!("received={received} visited={visited}");
}
