//! When a socket that a ring receives from is closed, and its port free.
//!
//! A plain descriptor is closed at once, on every kernel. A fixed file that is taken out of the table is
//! held, below Linux 6.13, by every request with a fixed file that was submitted earlier, whichever file that
//! is, until the request ends; the receive of a listener never does. Linux 6.1 takes another second.
#![cfg(target_os = "linux")]
#![allow(unsafe_code)]

#[path = "../../tests/common/skip.rs"]
#[allow(unreachable_pub, reason = "shared with the tests of shardgram, which say `pub`")]
mod skip;

use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};
use std::time::{Duration, Instant};

use io_uring::types::{CancelBuilder, Fd, Fixed, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};

/// How long anything may take that is expected to happen.
const PATIENCE: Duration = Duration::from_secs(10);
/// `IORING_ENTER_GETEVENTS`: work off what has been deferred.
const GETEVENTS: u32 = 1;

/// Names of requests.
const LISTENER: u64 = 1;
const ENDPOINT: u64 = 2;
const OTHER: u64 = 3;

/// How a request names its socket.
#[derive(Clone, Copy)]
enum File {
    Slot(u32),
    Plain(RawFd),
}

/// A ring with a table of fixed files and some buffers, set up as the driver does it on Linux 6.1.
struct Ring {
    io: IoUring,
    // Dropped after the ring, which writes to the ones and reads the other.
    buffers: Box<[u8; 4096]>,
    header: Box<libc::msghdr>,
}

impl Ring {
    fn new() -> Self {
        let mut builder = IoUring::builder();
        builder.setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag();
        let io = builder.build(16).expect("io_uring");
        io.submitter().register_files_sparse(2).expect("a table");
        // SAFETY: `msghdr` is made of integers and pointers, for which all-zero bytes are valid.
        let mut header: Box<libc::msghdr> = Box::new(unsafe { std::mem::zeroed() });
        header.msg_namelen = size_of::<libc::sockaddr_in6>() as libc::socklen_t;
        let mut ring = Self { io, buffers: Box::new([0; 4096]), header };
        let provide = opcode::ProvideBuffers::new(ring.buffers.as_mut_ptr(), 512, 8, 0, 0);
        let completed = ring.submit(&provide.build().user_data(OTHER));
        assert!(matches!(completed[..], [(OTHER, 0..)]), "{completed:?}");
        ring
    }

    /// Submits an entry and gives the names and results of what has completed.
    fn submit(&mut self, entry: &squeue::Entry) -> Vec<(u64, i32)> {
        // SAFETY: buffers and header are dropped after the ring, the address of a send lives until this
        // returns, and with MSG_DONTWAIT the kernel is done with it then.
        unsafe { self.io.submission().push(entry) }.expect("room");
        self.io.submit().expect("submitted");
        self.completed()
    }

    fn completed(&mut self) -> Vec<(u64, i32)> {
        // SAFETY: submits nothing, waits for nothing, and passes no argument.
        unsafe { self.io.submitter().enter::<libc::sigset_t>(0, 0, GETEVENTS, None) }.expect("entered");
        let completions = self.io.completion();
        completions.map(|entry: cqueue::Entry| (entry.user_data(), entry.result())).collect()
    }

    /// Arms a multishot receive.
    fn arm(&mut self, file: File, name: u64) {
        let header: *const libc::msghdr = &*self.header;
        let entry = match file {
            File::Slot(slot) => opcode::RecvMsgMulti::new(Fixed(slot), header, 0).build(),
            File::Plain(fd) => opcode::RecvMsgMulti::new(Fd(fd), header, 0).build(),
        };
        assert_eq!(self.submit(&entry.user_data(name)), [], "it is armed");
    }

    fn send(&mut self, file: File, to: SocketAddr) {
        let (to, text) = (socket2::SockAddr::from(to), b"hello");
        let (bytes, len) = (text.as_ptr(), text.len() as u32);
        let send = match file {
            File::Slot(slot) => opcode::Send::new(Fixed(slot), bytes, len),
            File::Plain(fd) => opcode::Send::new(Fd(fd), bytes, len),
        };
        let send = send.flags(libc::MSG_DONTWAIT).dest_addr(to.as_ptr().cast()).dest_addr_len(to.len());
        assert_eq!(self.submit(&send.build().user_data(OTHER)), [(OTHER, len as i32)]);
    }

    /// Cancels a receive and waits for its end, by the call that does both.
    fn cancel(&mut self, name: u64) {
        let timeout = Timespec::new().sec(PATIENCE.as_secs());
        let submitter = self.io.submitter();
        submitter.register_sync_cancel(Some(timeout), CancelBuilder::user_data(name)).expect("cancelled");
        assert_eq!(self.completed(), [(name, -libc::ECANCELED)]);
    }

    fn cancel_by_entry(&mut self, name: u64) {
        let mut completed = self.submit(&opcode::AsyncCancel::new(name).build().user_data(OTHER));
        completed.sort_unstable();
        assert_eq!(completed, [(name, -libc::ECANCELED), (OTHER, 0)]);
    }

    /// Puts a descriptor into a slot; -1 empties it.
    fn set_file(&mut self, slot: u32, fd: RawFd) {
        self.io.submitter().register_files_update(slot, &[fd]).expect("a slot");
    }
}

/// A ring with a listener in slot 0 whose receive has begun and does not end.
fn ring_with_listener() -> (Ring, UdpSocket) {
    let mut ring = Ring::new();
    let (listener, _) = socket();
    ring.set_file(0, listener.as_raw_fd());
    ring.arm(File::Slot(0), LISTENER);
    (ring, listener)
}

fn socket() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let address = socket.local_addr().expect("bound");
    (socket, address)
}

fn is_free(address: SocketAddr) -> bool {
    UdpSocket::bind(address).is_ok()
}

/// Whether fixed files outlive their slot beside a request on another one: what a driver would ask at its
/// start to choose between fixed files and plain descriptors for sockets that come and go.
fn fixed_files_are_held() -> bool {
    let (mut ring, _listener) = ring_with_listener();
    let (tried, address) = socket();
    ring.set_file(1, tried.as_raw_fd());
    ring.set_file(1, -1);
    drop(tried);
    !is_free(address)
}

/// Whether io_uring can be had; the test is recorded as skipped where not.
fn uring() -> bool {
    let refusal = shardgram_shard::probe().err();
    if let Some(refusal) = &refusal {
        skip::record(&refusal.to_string());
    }
    refusal.is_none()
}

#[test]
fn a_plain_descriptor_is_closed_at_once() {
    if !uring() {
        return;
    }
    let (mut ring, _listener) = ring_with_listener();
    let (_sink, to) = socket();
    for cancel in [Ring::cancel, Ring::cancel_by_entry] {
        for cancelled_first in [true, false] {
            let (endpoint, address) = socket();
            let file = File::Plain(endpoint.as_raw_fd());
            ring.arm(file, ENDPOINT);
            ring.send(file, to);
            if cancelled_first {
                cancel(&mut ring, ENDPOINT);
                drop(endpoint);
            } else {
                drop(endpoint);
                assert!(!is_free(address), "an armed receive keeps the socket");
                cancel(&mut ring, ENDPOINT);
            }
            assert!(is_free(address));
        }
    }
}

#[test]
fn a_fixed_file_is_closed_at_once_or_held_by_an_older_receive() {
    if !uring() {
        return;
    }
    let held = fixed_files_are_held();
    println!("fixed files are held by older receives: {held}");
    let (mut ring, _listener) = ring_with_listener();
    let (endpoint, address) = socket();
    ring.set_file(1, endpoint.as_raw_fd());
    ring.arm(File::Slot(1), ENDPOINT);
    ring.cancel(ENDPOINT);
    ring.set_file(1, -1);
    drop(endpoint);
    // Longer than the second that Linux 6.1 takes when nothing holds the file.
    std::thread::sleep(if held { Duration::from_secs(3) } else { Duration::ZERO });
    assert_eq!(is_free(address), !held, "the test of a socket that was never used says the same");

    ring.cancel(LISTENER);
    let end = Instant::now() + PATIENCE;
    while !is_free(address) {
        assert!(Instant::now() < end, "the port is free once nothing older is left");
        ring.completed();
        std::thread::sleep(Duration::from_millis(1));
    }
}
