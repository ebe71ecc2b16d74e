//! System calls that no library offers: many datagrams at once, and the kernel's times of those that came.

use std::io;
use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

fn checked(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Datagrams of one length, which leave with one call: sendmmsg(2), Linux 3.0. The vectors are never resized, so the
/// pointers between them, made once, stay good as long as the whole.
pub struct Batch {
    headers: Vec<libc::mmsghdr>,
    #[allow(dead_code, reason = "the headers point there")]
    iovecs: Vec<libc::iovec>,
    bytes: Vec<u8>,
    len: usize,
}

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batch").field("datagrams", &self.headers.len()).field("len", &self.len).finish()
    }
}

impl Batch {
    /// So many copies of these bytes.
    #[must_use]
    pub fn new(datagrams: usize, bytes: &[u8]) -> Self {
        let len = bytes.len();
        let mut bytes = bytes.repeat(datagrams);
        let start = bytes.as_mut_ptr();
        let mut iovecs: Vec<_> = (0..datagrams)
            .map(|at| {
                // SAFETY: there are as many times `len` bytes.
                libc::iovec { iov_base: unsafe { start.add(at * len) }.cast(), iov_len: len }
            })
            .collect();
        let first = iovecs.as_mut_ptr();
        let headers = (0..datagrams)
            .map(|at| {
                // SAFETY: integers and pointers, for which all-zero bytes are valid.
                let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
                // SAFETY: there is an iovec for each header.
                header.msg_hdr.msg_iov = unsafe { first.add(at) };
                header.msg_hdr.msg_iovlen = 1;
                header
            })
            .collect();
        Self { headers, iovecs, bytes, len }
    }

    /// How many it has room for.
    #[must_use]
    pub fn room(&self) -> usize {
        self.headers.len()
    }

    /// The bytes of one of them.
    #[must_use]
    pub fn datagram(&mut self, at: usize) -> &mut [u8] {
        &mut self.bytes[at * self.len..][..self.len]
    }

    /// Sends the first `count` from a connected socket; says how many left.
    ///
    /// # Errors
    /// What sendmmsg(2) says of the first one.
    pub fn send(&mut self, socket: impl AsFd, count: usize) -> io::Result<usize> {
        let headers = &mut self.headers[..count];
        let fd = socket.as_fd().as_raw_fd();
        // SAFETY: each header points to live memory of this object, of the length that stands there.
        let sent = unsafe { libc::sendmmsg(fd, headers.as_mut_ptr(), headers.len() as u32, 0) };
        checked(sent).map(|sent| sent as usize)
    }
}

/// Nanoseconds of the clock that the kernel's times are of: CLOCK_REALTIME, clock_gettime(2).
#[must_use]
pub fn realtime_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one timespec to a live one.
    unsafe { libc::clock_gettime(libc::CLOCK_REALTIME, &raw mut time) };
    ns(time)
}

fn ns(time: libc::timespec) -> u64 {
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Has the kernel say when a datagram came: SO_TIMESTAMPNS, socket(7).
///
/// # Errors
/// What setsockopt(2) says.
pub fn report_times(socket: &UdpSocket) -> io::Result<()> {
    let on: libc::c_int = 1;
    let len = size_of::<libc::c_int>() as libc::socklen_t;
    let (level, name) = (libc::SOL_SOCKET, libc::SO_TIMESTAMPNS);
    // SAFETY: the kernel reads one integer of the length it is told.
    checked(unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const on).cast(), len) })?;
    Ok(())
}

/// Room for the control data of one time: cmsg(3), a header and a timespec of 16 bytes each.
#[repr(align(8))]
struct Control([u8; 64]);

/// Receives a datagram; its length, and when the kernel had it.
///
/// # Errors
/// What recvmsg(2) says: `WouldBlock` if there is none.
pub fn receive(socket: &UdpSocket, bytes: &mut [u8]) -> io::Result<(usize, u64)> {
    let mut control = Control([0; 64]);
    let mut iovec = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    // SAFETY: integers and pointers, for which all-zero bytes are valid.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &raw mut iovec;
    header.msg_iovlen = 1;
    header.msg_control = control.0.as_mut_ptr().cast();
    header.msg_controllen = control.0.len() as _;
    // SAFETY: the header points to live memory of the lengths that stand in it.
    let result = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, libc::MSG_DONTWAIT) };
    let len = usize::try_from(result).map_err(|_| io::Error::last_os_error())?;
    // SAFETY: the kernel has written the header, and control data of the length that stands in it.
    let first = unsafe { libc::CMSG_FIRSTHDR(&raw const header) };
    // SAFETY: null, or a control message within `control`.
    let time = unsafe { first.as_ref() }.filter(|message| {
        message.cmsg_level == libc::SOL_SOCKET && message.cmsg_type == libc::SCM_TIMESTAMPNS
    });
    let time = time.map(|_| {
        // SAFETY: SCM_TIMESTAMPNS carries a timespec, which need not be aligned.
        ns(unsafe { libc::CMSG_DATA(first).cast::<libc::timespec>().read_unaligned() })
    });
    Ok((len, time.unwrap_or_else(realtime_ns)))
}

/// Has sleeps of this thread end when they are due: PR_SET_TIMERSLACK(2const), else up to 50 us later.
pub fn wake_on_time() {
    // SAFETY: integers only.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1) };
}

/// Waits for a moment that is at most some milliseconds off: asleep, and at the end without.
pub fn wait(time: Duration) {
    /// What a sleep may last longer than it should.
    const LATE: Duration = Duration::from_micros(60);
    match time.checked_sub(LATE) {
        Some(time) if !time.is_zero() => std::thread::sleep(time),
        _ => std::hint::spin_loop(),
    }
}
